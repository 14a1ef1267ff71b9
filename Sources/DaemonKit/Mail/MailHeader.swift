import FoundationEssentials

/// Makes header lines of text from elsewhere: nothing in it can begin a line or a header of its own.
enum MailHeader {
    /// Bytes of text in one encoded word, so that it stays below 75 characters (RFC 2047, section 2).
    private static let wordLength = 42

    /// Text that stands by itself, such as a subject: as it is, or as encoded words on as many lines as it takes.
    static func text(_ text: String) -> String {
        let text = OneLine.escaping(text)
        let isPlain = text.utf8.count <= 60 && text.utf8.allSatisfy { 0x20...0x7E ~= $0 } && !text.contains("=?")
        return isPlain ? text : encodedWords(text)
    }

    /// A name before an address.
    static func phrase(_ text: String) -> String {
        let text = OneLine.escaping(text)
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
