/// An attribute description (RFC 4512, section 2.5), compared without regard to the case of ASCII letters.
public struct AttributeName: Hashable, Sendable, CustomStringConvertible {
    /// The name as it was written.
    public let spelling: String
    private let folded: String

    /// - Parameter spelling: a descriptor such as `cn`, or a dotted OID, with or without options (`;binary`).
    /// - Throws: `Invalid` when it is neither.
    public init(parsing spelling: String) throws(Invalid) {
        guard Self.isWellFormed(spelling) else { throw Invalid(spelling: spelling) }
        self.init(unchecked: spelling)
    }

    /// For names that come from the server or from the schema and are well formed by that.
    public init(unchecked spelling: String) {
        self.spelling = spelling
        folded = spelling.lowercased()
    }

    public var description: String { spelling }

    public static func == (left: Self, right: Self) -> Bool { left.folded == right.folded }
    public func hash(into hasher: inout Hasher) { hasher.combine(folded) }

    /// The text that was not an attribute description.
    public struct Invalid: Error, Hashable, CustomStringConvertible {
        public let spelling: String
        public var description: String {
            "\(String(reflecting: spelling)) is not an attribute name: write letters, digits and hyphens, beginning with a letter, or a dotted number"
        }
    }

    private static func isWellFormed(_ text: String) -> Bool {
        let parts = text.utf8.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
        guard let type = parts.first, let first = type.first else { return false }
        let isOID = first.isASCIIDigit
        let typeIsRight =
            isOID
            ? type.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
                .allSatisfy { !$0.isEmpty && $0.allSatisfy(\.isASCIIDigit) }
            : first.isASCIILetter && type.allSatisfy(\.isKeyCharacter)
        return typeIsRight && parts.dropFirst().allSatisfy { !$0.isEmpty && $0.allSatisfy(\.isKeyCharacter) }
    }
}

extension AttributeName: ExpressibleByStringLiteral {
    public init(stringLiteral value: String) { self.init(unchecked: value) }
}

extension UInt8 {
    var isASCIIDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
    var isASCIILetter: Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20) }
    /// A `keychar` of RFC 4512, section 1.4.
    var isKeyCharacter: Bool { isASCIILetter || isASCIIDigit || self == UInt8(ascii: "-") }
}
