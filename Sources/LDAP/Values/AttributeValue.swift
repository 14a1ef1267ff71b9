/// One value of an attribute: bytes, until somebody asks for text.
public struct AttributeValue: Hashable, Sendable {
    /// The value as the directory has it.
    public let bytes: [UInt8]

    /// A value of any bytes.
    public init(bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }
    /// A value of text, as UTF-8.
    public init(_ text: String) { bytes = Array(text.utf8) }

    /// The value as text, or nil when it is not valid UTF-8.
    public var text: String? { String(validating: bytes, as: UTF8.self) }

    /// What `caseIgnoreMatch` (RFC 4517, section 4.2.11) compares: the text in lower case, without leading and trailing spaces, and with one space
    /// for several. nil when it is not text. Characters that are only compatible (NFKC), such as full-width letters, stay different.
    public var folded: String? { text?.caseIgnoreFolded }
}

extension String {
    /// See ``AttributeValue/folded``.
    public var caseIgnoreFolded: String { lowercased().spaceFolded }

    /// Without leading and trailing spaces, and with one space for several.
    public var spaceFolded: String { split(separator: " ").joined(separator: " ") }
}

extension AttributeValue: ExpressibleByStringLiteral {
    /// A value of text, as UTF-8.
    public init(stringLiteral value: String) { self.init(value) }
}

extension AttributeValue: CustomStringConvertible {
    /// For messages: the text with control characters escaped, or the number of bytes.
    public var description: String {
        // Nearly all values; what follows costs fifty times as much.
        if bytes.allSatisfy({ 0x20..<0x7F ~= $0 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
            return String(decoding: bytes, as: UTF8.self)
        }
        return text.map { String(String(reflecting: $0).dropFirst().dropLast()) }
            ?? "(\(bytes.count) bytes that are not text)"
    }
}
