/// The Basic Encoding Rules as far as LDAP uses them (RFC 4511, section 5.1): definite lengths, tags of one byte.
///
/// Control values and extended values are small and come from the network, so they are parsed here, in memory-safe code with
/// bounds, rather than with the variadic functions of lber.
enum BER {
    static let boolean: UInt8 = 0x01, integer: UInt8 = 0x02, octets: UInt8 = 0x04, enumerated: UInt8 = 0x0a,
        sequence: UInt8 = 0x30, set: UInt8 = 0x31

    /// The tag of a `[number]` in a choice or for an optional member.
    static func context(_ number: UInt8, constructed: Bool = false) -> UInt8 {
        0x80 | (constructed ? 0x20 : 0) | number
    }

    /// An element with any content.
    static func element(_ tag: UInt8, _ content: some Collection<UInt8>) -> [UInt8] {
        let count = content.count
        guard count >= 0x80 else { return [tag, UInt8(count)] + content }
        let length = withBigEndianBytes(count).drop { $0 == 0 }
        return [tag, 0x80 | UInt8(length.count)] + length + content
    }

    static func element(_ tag: UInt8, _ text: String) -> [UInt8] { element(tag, Array(text.utf8)) }

    /// An INTEGER or ENUMERATED.
    static func number(_ tag: UInt8, _ value: Int) -> [UInt8] {
        var bytes = withBigEndianBytes(value)[...]
        while bytes.count > 1, let first = bytes.first, let second = bytes.dropFirst().first,
            (first == 0 && second < 0x80) || (first == 0xff && second >= 0x80)
        { bytes = bytes.dropFirst() }
        return element(tag, bytes)
    }

    static func flag(_ tag: UInt8, _ value: Bool) -> [UInt8] { [tag, 1, value ? 0xff : 0] }

    private static func withBigEndianBytes(_ value: Int) -> [UInt8] {
        (0..<8).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }
}

/// Reads elements from the front of untrusted bytes. It never reads beyond them, and always ends.
struct BERReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }
    init(_ bytes: [UInt8]) { rest = bytes[...] }

    var isAtEnd: Bool { rest.isEmpty }
    var nextTag: UInt8? { rest.first }

    /// The content of the next element.
    /// - Throws: when it has another tag, is truncated, or has no definite length.
    mutating func content(_ tag: UInt8) throws(Malformed) -> ArraySlice<UInt8> {
        guard rest.first == tag else { throw Malformed() }
        var reader = rest.dropFirst()
        guard let first = reader.popFirst() else { throw Malformed() }
        var count = Int(first)
        if first >= 0x80 {
            guard (0x81...0x84).contains(first), reader.count >= Int(first & 0x7f) else { throw Malformed() }
            count = 0
            for _ in 0..<Int(first & 0x7f) { count = count << 8 | Int(reader.popFirst() ?? 0) }
        }
        guard reader.count >= count else { throw Malformed() }
        rest = reader.dropFirst(count)
        return reader.prefix(count)
    }

    /// The content of the next element when it has this tag; nil when it has another or there is none.
    mutating func optional(_ tag: UInt8) throws(Malformed) -> ArraySlice<UInt8>? {
        nextTag == tag ? try content(tag) : nil
    }

    /// A reader for the members of the next element.
    mutating func members(_ tag: UInt8) throws(Malformed) -> BERReader { BERReader(try content(tag)) }

    /// An INTEGER or ENUMERATED of at most four bytes, which is all that LDAP has.
    mutating func number(_ tag: UInt8) throws(Malformed) -> Int {
        let bytes = try content(tag)
        guard let first = bytes.first, bytes.count <= 4 else { throw Malformed() }
        return bytes.reduce(first >= 0x80 ? -1 : 0) { $0 << 8 | Int($1) }
    }

    /// A BOOLEAN, or its default when the next element is something else.
    mutating func flag(default usual: Bool) throws(Malformed) -> Bool {
        guard let bytes = try optional(BER.boolean) else { return usual }
        guard bytes.count == 1, let byte = bytes.first else { throw Malformed() }
        return byte != 0
    }

    /// The bytes are not what the RFC says.
    struct Malformed: Error, Hashable {}
}
