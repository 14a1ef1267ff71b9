/// One value of an attribute: bytes, until somebody asks for text.
public struct AttributeValue: Hashable, Sendable {
    public let bytes: [UInt8]

    public init(bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }
    public init(_ text: String) { bytes = Array(text.utf8) }

    /// The value as text, or nil when it is not valid UTF-8.
    public var text: String? { String(validating: bytes, as: UTF8.self) }
}

extension AttributeValue: ExpressibleByStringLiteral {
    public init(stringLiteral value: String) { self.init(value) }
}

extension AttributeValue: CustomStringConvertible {
    /// For messages: the text with control characters escaped, or the number of bytes.
    public var description: String {
        text.map { String(String(reflecting: $0).dropFirst().dropLast()) } ?? "(\(bytes.count) bytes that are not text)"
    }
}
