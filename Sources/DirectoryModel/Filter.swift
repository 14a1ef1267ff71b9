/// A search filter (RFC 4511, section 4.5.1.7).
///
/// Values are bytes as they are; they are escaped where the filter is written, so text from outside cannot change
/// what a filter means.
public indirect enum Filter: Hashable, Sendable {
    /// All of them; of none, always true (RFC 4526).
    case and([Filter])
    /// One of them at least; of none, always false (RFC 4526).
    case or([Filter])
    /// Not the one.
    case not(Filter)
    /// The attribute has this value.
    case equal(AttributeName, AttributeValue)
    /// A value begins with `initial`, has all of `any` in this order, and ends in `final`. Without any of the three it
    /// is written, and read back, as `present`.
    case substrings(AttributeName, initial: AttributeValue?, any: [AttributeValue], final: AttributeValue?)
    /// A value is greater or equal by the attribute's ordering rule.
    case greaterOrEqual(AttributeName, AttributeValue)
    /// A value is less or equal by the attribute's ordering rule.
    case lessOrEqual(AttributeName, AttributeValue)
    /// A value is similar, by whatever the server takes for that.
    case approximately(AttributeName, AttributeValue)
    /// The attribute has a value.
    case present(AttributeName)
    /// A value matches by a named rule, in one attribute or in all; with `dnAttributes` in the entry's name as well.
    /// Attribute or rule must be given.
    case extensible(attribute: AttributeName?, rule: String?, dnAttributes: Bool, value: AttributeValue)

    /// Reads the string form of RFC 4515 and, beyond it, spaces between the parts (never within a value).
    ///
    /// - Throws: `FilterSyntaxError`, which names the place and the cure; also when filters are nested deeper than
    ///   `maximumDepth`.
    public init(parsing text: String) throws(FilterSyntaxError) {
        var parser = FilterParser(text)
        self = try parser.wholeFilter()
    }

    /// How deep filters may be nested in a text that is read, so that no input overflows the stack.
    public static let maximumDepth = 100
}

extension Filter: CustomStringConvertible {
    /// The string form of RFC 4515, escaped; `Filter(parsing:)` reads it back.
    public var description: String {
        switch self {
        case .and(let filters): "(&" + filters.map(\.description).joined() + ")"
        case .or(let filters): "(|" + filters.map(\.description).joined() + ")"
        case .not(let filter): "(!\(filter))"
        case .equal(let name, let value): "(\(name)=\(Self.escape(value)))"
        case .substrings(let name, let initial, let any, let final):
            "(\(name)=" + (initial.map(Self.escape) ?? "") + "*" + any.map { Self.escape($0) + "*" }.joined()
                + (final.map(Self.escape) ?? "") + ")"
        case .greaterOrEqual(let name, let value): "(\(name)>=\(Self.escape(value)))"
        case .lessOrEqual(let name, let value): "(\(name)<=\(Self.escape(value)))"
        case .approximately(let name, let value): "(\(name)~=\(Self.escape(value)))"
        case .present(let name): "(\(name)=*)"
        case .extensible(let attribute, let rule, let dnAttributes, let value):
            "(" + (attribute?.spelling ?? "") + (dnAttributes ? ":dn" : "") + (rule.map { ":" + $0 } ?? "") + ":="
                + Self.escape(value) + ")"
        }
    }

    /// RFC 4515, section 3. Control characters and bytes that are not UTF-8 are written as `\HH` too.
    private static func escape(_ value: AttributeValue) -> String {
        let isText = value.text != nil
        var output: [UInt8] = []
        output.reserveCapacity(value.bytes.count)
        for byte in value.bytes {
            switch byte {
            case UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "*"), UInt8(ascii: "\\"), 0..<0x20, 0x7F:
                output.appendEscape(byte)
            case 0x80... where !isText:
                output.appendEscape(byte)
            default:
                output.append(byte)
            }
        }
        return String(decoding: output, as: UTF8.self)
    }
}
