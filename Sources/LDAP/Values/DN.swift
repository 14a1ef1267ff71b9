/// A distinguished name (RFC 4514): the place of an entry in the tree, leaf first.
///
/// Two names are equal when they name the same entry by the rules that nearly every naming attribute has
/// (`caseIgnoreMatch`): letters' case and the number of spaces do not count. The spelling is kept for people.
///
/// Names come with every message of a server and go into every request, and their RDNs are seldom used: so a name is kept as
/// its text, and parsed when its RDNs are needed.
public struct DN: Hashable, Sendable {
    /// The string form of RFC 4514, escaped; `DN(parsing:)` reads it back.
    public let description: String

    /// - Parameter rdns: the relative names, leaf first.
    package init(rdns: [RDN]) { description = rdns.map(\.description).joined(separator: ",") }

    /// Reads the string form, with any escapes that RFC 4514 knows, and with spaces around the separators.
    ///
    /// - Throws: `LDAPSyntaxError`, which names the place and the hint.
    public init(parsing text: String) throws(LDAPSyntaxError) {
        guard !Self.isPlain(text) else {
            self.init(plain: text)
            return
        }
        var parser = DNParser(text)
        self.init(rdns: try parser.distinguishedName())
    }

    private init(plain text: String) { description = text }

    /// The relative names, the entry's own first, the one nearest to the root last; empty for the root.
    package var rdns: [RDN] {
        var parser = DNParser(description)
        do { return try parser.distinguishedName() } catch {
            assertionFailure("a DN was made of a name that is none: \(error)")
            return []
        }
    }

    /// The empty name: the root of the tree, and of the root DSE (RFC 4512, section 5.1).
    public static let root = DN(rdns: [])

    /// Whether this is the root.
    public var isEmpty: Bool { description.isEmpty }

    /// The name of the entry above; nil for the root.
    public var parent: DN? { isEmpty ? nil : DN(rdns: Array(rdns.dropFirst())) }

    /// The name of an entry directly below this one. The value is taken as it is: escaping is done on output.
    public func appending(_ name: AttributeName, _ value: String) -> DN {
        appending(RDN(name, AttributeValue(value)))
    }

    /// The name of an entry directly below this one.
    package func appending(_ rdn: RDN) -> DN { DN(rdns: [rdn] + rdns) }

    /// Whether this name is strictly below the other one; a name is not its own descendant.
    public func isDescendant(of ancestor: DN) -> Bool {
        let (names, above) = (rdns, ancestor.rdns)
        return names.count > above.count && names.suffix(above.count).elementsEqual(above)
    }

    /// Whether both name the same entry; see the type's comment.
    public static func == (left: Self, right: Self) -> Bool {
        left.description == right.description || left.key == right.key
    }

    /// Hashes the form that equality compares.
    public func hash(into hasher: inout Hasher) { hasher.combine(key) }

    private var key: String { rdns.map(\.key).joined(separator: ",") }
}

extension DN: CustomStringConvertible {}

extension DN: Codable {
    /// The string form.
    public init(from decoder: any Decoder) throws {
        self = try DN(parsing: decoder.singleValueContainer().decode(String.self))
    }

    /// The string form.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

// MARK: - Plain names

/// Names as nearly all are: one assertion for each relative name, and no character in a value that would have to be escaped.
extension DN {
    /// Whether a text is such a name, written just as it would be written again.
    private static func isPlain(_ text: String) -> Bool {
        guard !text.isEmpty else { return true }
        let bytes = text.utf8.span
        var place = 0
        while true {
            // The type: a letter first, so that no dotted number needs to be understood here.
            guard place < bytes.count, bytes[place].isASCIILetter else { return false }
            while place < bytes.count, bytes[place].isKeyCharacter { place += 1 }
            guard place < bytes.count, bytes[place] == UInt8(ascii: "=") else { return false }
            place += 1
            let start = place
            while place < bytes.count, bytes[place] != UInt8(ascii: ",") {
                guard isPlain(bytes[place]) else { return false }
                place += 1
            }
            if start < place {
                guard bytes[start] != UInt8(ascii: " "), bytes[start] != UInt8(ascii: "#"),
                    bytes[place - 1] != UInt8(ascii: " ")
                else { return false }
            }
            if place == bytes.count { return true }
            place += 1
        }
    }

    /// Printable ASCII that means nothing anywhere in a value.
    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "+"), UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "<"),
            UInt8(ascii: ">"), UInt8(ascii: "="), UInt8(ascii: "\\"):
            false
        default: (0x20...0x7E).contains(byte)
        }
    }
}

/// A relative distinguished name (RFC 4512, section 2.3): the name of an entry among its siblings.
package struct RDN: Hashable, Sendable {
    /// One `type=value` of the name.
    package struct Assertion: Sendable {
        /// Without options.
        package let name: AttributeName
        /// The value; the BER encoding of it when `isEncoded`.
        package let value: AttributeValue
        /// Whether the value was written as `#` and hexadecimal digits. Only a schema can tell which text that is,
        /// so it is kept, compared and written as it came.
        package let isEncoded: Bool

        package init(_ name: AttributeName, _ value: AttributeValue, isEncoded: Bool = false) {
            self.name = name
            self.value = value
            // `#` alone is not a hexstring: an encoding has one byte at least.
            self.isEncoded = isEncoded && !value.bytes.isEmpty
        }
    }

    /// The assertions in the order in which they were written; at least one. Their order does not matter for equality.
    package let assertions: [Assertion]

    package init(_ name: AttributeName, _ value: AttributeValue) { self.init(Assertion(name, value)) }

    /// A name of one or more assertions (`cn=…+uid=…`).
    package init(_ first: Assertion, _ others: [Assertion] = []) { assertions = [first] + others }

    /// Reads the string form of RFC 4514.
    ///
    /// - Throws: `LDAPSyntaxError`, which names the place and the hint; also when there is more than one relative name.
    package init(parsing text: String) throws(LDAPSyntaxError) {
        var parser = DNParser(text)
        self = try parser.onlyRelativeName()
    }

    /// The form for equality and hash.
    var key: String { assertions.map(\.key).sorted().joined(separator: "+") }

    /// Whether both are the same name below the same parent, in any order of the assertions.
    package static func == (left: Self, right: Self) -> Bool { left.key == right.key }

    package func hash(into hasher: inout Hasher) { hasher.combine(key) }
}

extension RDN: CustomStringConvertible {
    package var description: String { assertions.map(\.description).joined(separator: "+") }
}

extension RDN.Assertion: CustomStringConvertible {
    /// `type=value`, escaped.
    package var description: String { "\(name)=" + (isEncoded ? "#" + value.bytes.hex : escapedValue) }

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
