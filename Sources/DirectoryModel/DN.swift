/// A distinguished name (RFC 4514): where an entry stands in the tree, leaf first.
///
/// Two names are equal when they name the same entry by the rules that nearly every naming attribute has
/// (`caseIgnoreMatch`): letters' case and the number of spaces do not count. The spelling is kept for people.
public struct DN: Hashable, Sendable {
    /// The relative names, the entry's own first, the one nearest to the root last; empty for the root.
    public let rdns: [RDN]
    /// What equality and hash look at, made once: names are compared far more often than they are made.
    private let key: String

    /// - Parameter rdns: the relative names, leaf first.
    public init(rdns: [RDN]) {
        self.rdns = rdns
        key = rdns.map(\.key).joined(separator: ",")
    }

    /// Reads the string form, with any escapes that RFC 4514 knows, and with spaces around the separators.
    ///
    /// - Throws: `DNSyntaxError`, which names the place and the cure.
    public init(parsing text: String) throws(DNSyntaxError) {
        var parser = DNParser(text)
        self.init(rdns: try parser.distinguishedName())
    }

    /// The empty name: the root of the tree, and of the root DSE (RFC 4512, section 5.1).
    public static let root = DN(rdns: [])

    /// Whether this is the root.
    public var isEmpty: Bool { rdns.isEmpty }

    /// The name of the entry above; nil for the root.
    public var parent: DN? { rdns.isEmpty ? nil : DN(rdns: Array(rdns.dropFirst())) }

    /// The name of an entry directly below this one. The value is taken as it is: escaping is done on output.
    public func appending(_ name: AttributeName, _ value: String) -> DN {
        appending(RDN(name, AttributeValue(value)))
    }

    /// The name of an entry directly below this one.
    public func appending(_ rdn: RDN) -> DN { DN(rdns: [rdn] + rdns) }

    /// Whether this name stands strictly below the other one; a name is not its own descendant.
    public func isDescendant(of ancestor: DN) -> Bool {
        rdns.count > ancestor.rdns.count && rdns.suffix(ancestor.rdns.count).elementsEqual(ancestor.rdns)
    }

    /// Whether both name the same entry; see the type's comment.
    public static func == (left: Self, right: Self) -> Bool { left.key == right.key }

    /// Hashes what equality compares.
    public func hash(into hasher: inout Hasher) { hasher.combine(key) }
}

extension DN: CustomStringConvertible {
    /// The string form of RFC 4514, escaped; `DN(parsing:)` reads it back.
    public var description: String { rdns.map(\.description).joined(separator: ",") }
}
