/// A line after unfolding.
struct LDIFLine: Sendable {
    /// The first physical line's number, from 1.
    let number: Int
    var bytes: [UInt8]

    /// Whether the line is the `-` that ends a modification; spaces behind it are of no matter.
    var isSeparator: Bool {
        bytes.first == UInt8(ascii: "-") && bytes.dropFirst().allSatisfy { $0 == UInt8(ascii: " ") }
    }

    /// About what a line takes in memory beyond its bytes.
    static let overhead = 64
}

/// A line as name and value, the value not yet decoded.
struct LDIFField {
    /// A `value-spec` of RFC 2849, without the spaces before the value, and without TABs there, which ldapmodify passes over as well.
    enum Content {
        case plain(ArraySlice<UInt8>)
        case base64(ArraySlice<UInt8>)
        case url(ArraySlice<UInt8>)

        init(afterColon bytes: ArraySlice<UInt8>) {
            func value(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
                bytes.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
            }
            switch bytes.first {
            case UInt8(ascii: ":"): self = .base64(value(bytes.dropFirst()))
            case UInt8(ascii: "<"): self = .url(value(bytes.dropFirst()))
            default: self = .plain(value(bytes))
            }
        }
    }

    /// The number of the line, from 1.
    let line: Int
    let name: String
    let content: Content

    /// The name as a word of the format.
    var keyword: String { name.lowercased() }
}
