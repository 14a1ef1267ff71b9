/// An attribute description (RFC 4512, section 2.5), compared without regard to the case of letters and to the order
/// of options.
public struct AttributeName: Hashable, Sendable, CustomStringConvertible {
    /// The name as it was written.
    public let spelling: String

    /// - Parameter spelling: a descriptor such as `cn`, or a dotted OID, with or without options (`;binary`).
    /// - Throws: `Invalid` when it is neither.
    public init(parsing spelling: String) throws(Invalid) {
        guard Self.isWellFormed(spelling) else { throw Invalid(spelling: spelling) }
        self.init(unchecked: spelling)
    }

    /// For names that come from the server or from the schema and are well formed by that.
    public init(unchecked spelling: String) { self.spelling = spelling }

    /// The same for all spellings of a name: lower case, and the options in order.
    var folded: String {
        let lower = spelling.lowercased()
        guard hasOptions else { return lower }
        let parts = lower.split(separator: ";")
        return parts.count > 2 ? ([parts[0]] + parts[1...].sorted()).joined(separator: ";") : lower
    }

    /// The name as it was written.
    public var description: String { spelling }

    /// Whether something follows the type (`;binary`, `;lang-de`).
    public var hasOptions: Bool { spelling.utf8.contains(UInt8(ascii: ";")) }

    /// Whether both name the same attribute; see the type's comment.
    public static func == (left: Self, right: Self) -> Bool {
        // Names are compared far more often than they are made, and mostly differ in length or in the first letters.
        let (these, those) = (left.spelling.utf8.span, right.spelling.utf8.span)
        guard these.count == those.count else { return false }
        for place in these.indices where these[place].foldedASCII != those[place].foldedASCII {
            return left.hasOptions && left.folded == right.folded
        }
        return true
    }

    /// Hashes what equality compares.
    public func hash(into hasher: inout Hasher) { hasher.combine(folded) }

    /// The text that was not an attribute description.
    public struct Invalid: Error, Hashable, CustomStringConvertible {
        /// The text as it was given.
        public let spelling: String

        /// What is wrong, and the hint.
        public var description: String { "\(spelling.quotedForMessage) is not an attribute name: \(Self.hint)" }

        static let hint = "write letters, digits and hyphens, beginning with a letter, or a dotted number"
    }

    static func isWellFormed(_ text: String) -> Bool {
        let parts = text.utf8.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
        guard let type = parts.first, let first = type.first else { return false }
        let typeIsRight =
            first.isASCIIDigit ? isOID(type) : first.isASCIILetter && type.allSatisfy(\.isKeyCharacter)
        return typeIsRight && parts.dropFirst().allSatisfy { !$0.isEmpty && $0.allSatisfy(\.isKeyCharacter) }
    }

    private static func isOID(_ text: Substring.UTF8View) -> Bool {
        text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
            .allSatisfy { !$0.isEmpty && $0.allSatisfy(\.isASCIIDigit) }
    }
}

extension AttributeName: ExpressibleByStringLiteral {
    /// A name in the source, which must be well formed.
    public init(stringLiteral value: String) { self.init(unchecked: value) }
}

extension UInt8 {
    var isASCIIDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
    /// The lower-case letter for an upper-case one.
    var foldedASCII: UInt8 { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self) ? self | 0x20 : self }
    var isASCIILetter: Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20) }
    /// A `keychar` of RFC 4512, section 1.4.
    var isKeyCharacter: Bool { isASCIILetter || isASCIIDigit || self == UInt8(ascii: "-") }
}
