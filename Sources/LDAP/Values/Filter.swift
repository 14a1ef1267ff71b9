/// A search filter in its string form (RFC 4515).
///
/// It is built from parts whose values are escaped, so that untrusted text cannot change the meaning of a filter, and is passed to libldap
/// as it is. `LDAP` reads one from a text that a user wrote, and refuses it there when libldap cannot.
public struct Filter: Hashable, Sendable, CustomStringConvertible {
    /// The string form, with its parentheses.
    public let description: String

    /// - Parameter description: a well-formed filter with its parentheses.
    package init(unchecked description: String) { self.description = description }

    /// All of them match; with none, always true (RFC 4526).
    public static func and(_ filters: [Filter]) -> Filter { list("&", filters) }

    /// At least one matches; with none, always false (RFC 4526).
    public static func or(_ filters: [Filter]) -> Filter { list("|", filters) }

    /// The filter does not match.
    public static func not(_ filter: Filter) -> Filter { list("!", [filter]) }

    /// The attribute has this value.
    public static func equal(_ name: AttributeName, _ value: AttributeValue) -> Filter {
        Filter(unchecked: "(\(name)=\(escape(value)))")
    }

    /// The attribute has a value.
    public static func present(_ name: AttributeName) -> Filter { Filter(unchecked: "(\(name)=*)") }

    private static func list(_ mark: String, _ filters: [Filter]) -> Filter {
        Filter(unchecked: "(\(mark)\(filters.map(\.description).joined()))")
    }

    /// RFC 4515, section 3. Control characters and bytes that are not UTF-8 are written as `\HH` too.
    private static func escape(_ value: AttributeValue) -> String {
        // Nearly all values.
        if value.bytes.allSatisfy(isPlain) { return String(decoding: value.bytes, as: UTF8.self) }
        let isText = value.text != nil
        var output: [UInt8] = []
        output.reserveCapacity(value.bytes.count)
        for byte in value.bytes {
            if isPlain(byte) || byte >= 0x80 && isText { output.append(byte) } else { output.appendEscape(byte) }
        }
        return String(decoding: output, as: UTF8.self)
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "*"), UInt8(ascii: "\\"): false
        default: (0x20..<0x7F).contains(byte)
        }
    }
}
