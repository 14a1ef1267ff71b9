import FoundationEssentials
public import JobCore

/// A mail of plain text, and how it is written down (RFC 5322, RFC 2045 to 2047).
public struct MailMessage: Hashable, Sendable {
    /// To whom; at least one.
    public var recipients: [MailAddress]
    /// The name before the sender's address.
    public var senderName: String
    /// From whom.
    public var sender: MailAddress
    /// Any text; what is not printable is shown escaped.
    public var subject: String
    /// Any text.
    public var body: String
    /// When it was written.
    public var date: WallTime
    /// What stands before the `@` in the Message-ID: letters and digits, unique for each mail and the same for each try to send it.
    public var identifier: String

    /// The mail as the system's sendmail takes it: header, an empty line, body; each line ended by LF.
    public var text: String {
        let domain = sender.description.split(separator: "@").last.map(String.init) ?? "localhost"
        let (charset, encoding, content) = encodedBody
        return """
            From: \(MailHeader.phrase(senderName))
             <\(sender)>
            To: \(recipients.map(\.description).joined(separator: ",\n "))
            Subject: \(MailHeader.text(subject))
            Date: \(Self.text(date))
            Message-ID: <\(identifier)@\(domain)>
            Auto-Submitted: auto-generated
            MIME-Version: 1.0
            Content-Type: text/plain; charset=\(charset)
            Content-Transfer-Encoding: \(encoding)

            \(content)

            """
    }

    /// As it is where it is ASCII and no line is too long for SMTP (RFC 2045, section 2.7).
    private var encodedBody: (charset: String, encoding: String, content: String) {
        let lines = body.replacing("\r\n", with: "\n").split(separator: "\n", omittingEmptySubsequences: false)
        let isPlain = lines.allSatisfy { line in
            line.utf8.count <= 990 && line.utf8.allSatisfy { 0x20...0x7E ~= $0 || $0 == 0x09 }
        }
        if isPlain { return ("us-ascii", "7bit", lines.joined(separator: "\n")) }
        let encoded = Data(lines.joined(separator: "\r\n").utf8).base64EncodedString()
        let pieces = stride(from: 0, to: encoded.utf8.count, by: 76).map { offset in
            String(decoding: encoded.utf8.dropFirst(offset).prefix(76), as: UTF8.self)
        }
        return ("utf-8", "base64", pieces.joined(separator: "\n"))
    }

    /// `Sat, 21 Nov 2026 06:20:21 +0000`
    private static func text(_ date: WallTime) -> String {
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let utc = DayCalendar { _ in 0 }.localTime(at: date)
        let time = [utc.hour, utc.minute, utc.second].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
        return "\(days[utc.day.weekday]), \(utc.day.day) \(months[utc.day.month - 1]) \(utc.day.year) \(time) +0000"
    }
}
