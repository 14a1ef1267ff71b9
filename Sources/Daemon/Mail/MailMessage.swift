import FoundationEssentials
package import JobCore

/// A mail of plain text from root on this machine, and its encoding (RFC 5322, RFC 2045 to 2047). The mail transport adds the domain.
struct MailMessage: Hashable, Sendable {
    /// The recipients, at least one.
    var recipients: [MailAddress]
    /// The name before the sender's address.
    var senderName: String
    /// Any text; it is escaped.
    var subject: String
    /// Any text.
    var body: String
    var date: Timestamp
    /// The local part of the Message-ID: letters and digits, unique for each mail and the same for each attempt to send it.
    var identifier: String

    /// The input of sendmail: header, an empty line, body; each line ends with LF.
    var text: String {
        let (charset, encoding, content) = encodedBody
        return """
            From: \(Self.phrase(senderName))
             <root>
            To: \(recipients.map(\.description).joined(separator: ",\n "))
            Subject: \(Self.unstructured(subject))
            Date: \(Self.text(date))
            Message-ID: <\(identifier)@root>
            Auto-Submitted: auto-generated
            MIME-Version: 1.0
            Content-Type: text/plain; charset=\(charset)
            Content-Transfer-Encoding: \(encoding)

            \(content)

            """
    }

    /// Not encoded if it is ASCII and no line is too long for SMTP (RFC 2045, section 2.7).
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

// MARK: - Headers

/// Encodes untrusted text for the header: it cannot begin a further header.
extension MailMessage {
    /// Bytes of text in one encoded word, so that it stays below 75 characters (RFC 2047, section 2).
    private static let wordLength = 42

    /// Unstructured text such as a subject, folded. ASCII is not encoded, other text becomes encoded words.
    private static func unstructured(_ text: String) -> String {
        let text = OneLine.of(text)
        let words = text.split(separator: " ", omittingEmptySubsequences: false)
        let isPlain =
            text.utf8.allSatisfy { 0x20...0x7E ~= $0 } && !text.contains("=?")
            && words.allSatisfy { $0.utf8.count <= longestWord }
        guard isPlain else { return encodedWords(text) }
        // A line may begin with a blank, but must not consist of blanks (RFC 5322, section 2.2.3).
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

    /// Keeps lines far below the limit of 998 characters.
    private static let longestWord = 500
    /// The counted length of the header's name, colon and blank.
    private static let longestName = 12

    /// A name before an address.
    private static func phrase(_ text: String) -> String {
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

/// A mail address: `local@domain`, or the name of a user of this machine.
package struct MailAddress: Hashable, Sendable, CustomStringConvertible {
    package let description: String

    /// - Parameter text: of characters that need no quotation marks (RFC 5322, dot-atom).
    package init(parsing text: String) throws(SettingValueError) {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        let isRight =
            (1...2).contains(parts.count) && text.utf8.count <= 254
            && parts.allSatisfy { part in
                part.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { atom in
                    !atom.isEmpty && atom.utf8.allSatisfy { Self.isAtomCharacter($0) }
                }
            }
        // sendmail would take a leading hyphen for an option.
        guard isRight, !text.hasPrefix("-") else {
            throw SettingValueError(
                "one of these is not a mail address",
                hint: "write addresses such as operator@example.org or root, split by blanks")
        }
        description = text
    }

    private static func isAtomCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-/=?^_`{|}~".utf8.contains(byte)
        }
    }
}
