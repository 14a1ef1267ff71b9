/// A relative distinguished name (RFC 4512, section 2.3): what tells an entry from its siblings.
public struct RDN: Hashable, Sendable {
    /// One `type=value` of the name.
    public struct Assertion: Sendable {
        /// The attribute's type, without options.
        public let name: AttributeName
        /// The value; the BER encoding of it when `isEncoded`.
        public let value: AttributeValue
        /// Whether the value was written as `#` and hexadecimal digits. Only a schema can tell which text that is,
        /// so it is kept, compared and written as it came.
        public let isEncoded: Bool

        /// - Parameters:
        ///   - name: a type without options.
        ///   - value: the value itself, not escaped.
        ///   - isEncoded: whether the value is the BER encoding, to be written as `#` and hexadecimal digits.
        public init(_ name: AttributeName, _ value: AttributeValue, isEncoded: Bool = false) {
            self.name = name
            self.value = value
            // `#` alone is not a hexstring: an encoding has one byte at least.
            self.isEncoded = isEncoded && !value.bytes.isEmpty
        }
    }

    /// The assertions in the order in which they were written; at least one. Their order does not matter for equality.
    public let assertions: [Assertion]

    /// A name of one assertion.
    public init(_ name: AttributeName, _ value: AttributeValue) { self.init(Assertion(name, value)) }

    /// A name of one or more assertions (`cn=…+uid=…`).
    public init(_ first: Assertion, _ others: Assertion...) { self.init(first, others) }

    init(_ first: Assertion, _ others: [Assertion]) {
        assertions = [first] + others
    }

    /// Reads the string form of RFC 4514.
    ///
    /// - Throws: `DNSyntaxError`, which names the place and the hint; also when there is more than one relative name.
    public init(parsing text: String) throws(DNSyntaxError) {
        var parser = DNParser(text)
        self = try parser.onlyRelativeName()
    }

    /// The first value that the name gives to an attribute; nil when it gives none.
    public subscript(name: AttributeName) -> AttributeValue? { assertions.first { $0.name == name }?.value }

    /// What equality and hash look at.
    var key: String { assertions.map(\.key).sorted().joined(separator: "+") }

    /// Whether both are the same name below the same parent, whatever the order of the assertions.
    public static func == (left: Self, right: Self) -> Bool { left.key == right.key }

    /// Hashes what equality compares.
    public func hash(into hasher: inout Hasher) { hasher.combine(key) }
}

extension RDN: CustomStringConvertible {
    /// The string form of RFC 4514, escaped.
    public var description: String { assertions.map(\.description).joined(separator: "+") }
}

extension RDN.Assertion: CustomStringConvertible {
    /// `type=value`, escaped.
    public var description: String { "\(name)=" + (isEncoded ? "#" + value.bytes.hex : escapedValue) }

    /// RFC 4514, section 2.4. Control characters and bytes that are not UTF-8 are written as `\HH`, so that a name
    /// never breaks a line of a log or of an LDIF file.
    private var escapedValue: String {
        let bytes = value.bytes
        let isText = value.text != nil
        var output: [UInt8] = []
        output.reserveCapacity(bytes.count)
        for (place, byte) in bytes.enumerated() {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "+"), UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "<"),
                UInt8(ascii: ">"), UInt8(ascii: "="), UInt8(ascii: "\\"):
                output += [UInt8(ascii: "\\"), byte]
            case UInt8(ascii: " ") where place == 0 || place == bytes.count - 1, UInt8(ascii: "#") where place == 0:
                output += [UInt8(ascii: "\\"), byte]
            case 0..<0x20, 0x7F:
                output.appendEscape(byte)
            case 0x80... where !isText:
                output.appendEscape(byte)
            default:
                output.append(byte)
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// `type=value` in lower case, spaces trimmed and collapsed. Separators within a value are escaped, so that no
    /// two different names share a key; Unicode's equivalent spellings are left to the comparison of strings.
    fileprivate var key: String {
        let prefix = name.folded + "="
        if isEncoded { return prefix + "#" + value.bytes.hex }
        guard let text = value.folded else { return prefix + "\\x" + value.bytes.hex }
        var output: [UInt8] = []
        output.reserveCapacity(value.bytes.count)
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: ","), UInt8(ascii: "+"), UInt8(ascii: "\\"), UInt8(ascii: "#"):
                output += [UInt8(ascii: "\\"), byte]
            default:
                output.append(byte)
            }
        }
        return prefix + String(decoding: output, as: UTF8.self)
    }
}
