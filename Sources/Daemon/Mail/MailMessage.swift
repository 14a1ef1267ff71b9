import FoundationEssentials
package import JobCore

/// A mail of plain text, and how it is written down (RFC 5322, RFC 2045 to 2047).
package struct MailMessage: Hashable, Sendable {
    /// To whom; at least one.
    package var recipients: [MailAddress]
    /// The name before the sender's address.
    package var senderName: String
    /// From whom.
    package var sender: MailAddress
    /// Any text; what is not printable is shown escaped.
    package var subject: String
    /// Any text.
    package var body: String
    /// When it was written.
    package var date: Timestamp
    /// What stands before the `@` in the Message-ID: letters and digits, unique for each mail and the same for each try to send it.
    package var identifier: String

    /// The mail as the system's sendmail takes it: header, an empty line, body; each line ended by LF.
    package var text: String {
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
    private static func text(_ date: Timestamp) -> String {
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let utc = DayCalendar { _ in 0 }.localTime(at: date)
        let time = [utc.hour, utc.minute, utc.second].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
        return "\(days[utc.day.weekday]), \(utc.day.day) \(months[utc.day.month - 1]) \(utc.day.year) \(time) +0000"
    }
}

/// Makes header lines of text from elsewhere: nothing in it can begin a line or a header of its own.
enum MailHeader {
    /// Bytes of text in one encoded word, so that it stays below 75 characters (RFC 2047, section 2).
    private static let wordLength = 42

    /// Text that stands by itself, such as a subject: as it is where it is ASCII, else as encoded words; on as many lines as it takes.
    static func text(_ text: String) -> String {
        let text = OneLine.of(text)
        let words = text.split(separator: " ", omittingEmptySubsequences: false)
        let isPlain =
            text.utf8.allSatisfy { 0x20...0x7E ~= $0 } && !text.contains("=?")
            && words.allSatisfy { $0.utf8.count <= longestWord }
        guard isPlain else { return encodedWords(text) }
        // A line may begin with a blank, and must not be blank altogether (RFC 5322, section 2.2.3).
        var lines = [String(words[0])]
        for word in words.dropFirst() {
            let length = lines[lines.count - 1].utf8.count + (lines.count == 1 ? longestName : 0)
            if length + 1 + word.utf8.count > 78, !word.isEmpty, length > 0 {
                lines.append(" \(word)")
            } else {
                lines[lines.count - 1] += " \(word)"
            }
        }
        return lines.joined(separator: "\n")
    }

    /// So that a line stays far below the 998 characters that it may have.
    private static let longestWord = 500
    /// A header's name, colon and blank, as far as they are counted for the length of its first line.
    private static let longestName = 12

    /// A name before an address.
    static func phrase(_ text: String) -> String {
        let text = OneLine.of(text)
        let isPlain = text.utf8.count <= 60 && text.utf8.allSatisfy { 0x20...0x7E ~= $0 } && !text.contains("=?")
        guard isPlain else { return encodedWords(text) }
        return "\"\(text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\""))\""
    }

    private static func encodedWords(_ text: String) -> String {
        var words: [String] = []
        var word: [UInt8] = []
        func close() { words.append("=?UTF-8?B?\(Data(word).base64EncodedString())?=") }
        for scalar in text.unicodeScalars {
            let bytes = Array(String(scalar).utf8)
            if word.count + bytes.count > wordLength {
                close()
                word = []
            }
            word += bytes
        }
        close()
        return words.joined(separator: "\n ")
    }
}

/// Where mail goes to or comes from: `local@domain`, or the name of a user of this machine.
package struct MailAddress: Hashable, Sendable, CustomStringConvertible {
    /// What is wrong with an address.
    package struct Invalid: Error, Hashable, Sendable {
        /// What is wrong.
        package let reason: String
        /// What to write instead.
        package let hint: String
    }

    /// As it was written.
    package let description: String

    /// - Parameter text: letters, digits and the other characters that an address holds without quotation marks (RFC 5322, dot-atom).
    package init(parsing text: String) throws(Invalid) {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        let isRight =
            (1...2).contains(parts.count) && text.utf8.count <= 254
            && parts.allSatisfy { part in
                part.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { atom in
                    !atom.isEmpty && atom.utf8.allSatisfy { Self.isAtomCharacter($0) }
                }
            }
        // A leading hyphen would be an option to the program that takes mail.
        guard isRight, !text.hasPrefix("-") else {
            throw Invalid(
                reason: "one of these is not a mail address",
                hint: "write addresses such as operator@example.org or root, split by blanks")
        }
        description = text
    }

    /// This machine's root; the mail transport adds the machine's name.
    package static let root = MailAddress(knownRight: "root")

    private init(knownRight text: String) { description = text }

    private static func isAtomCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-/=?^_`{|}~".utf8.contains(byte)
        }
    }
}
