import FoundationEssentials
import JobCore

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
