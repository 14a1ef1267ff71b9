/// Where mail goes to or comes from: `local@domain`, or the name of a user of this machine.
public struct MailAddress: Hashable, Sendable, CustomStringConvertible {
    /// What is wrong with an address.
    public struct Invalid: Error, Hashable, Sendable {
        /// What is wrong.
        public let reason: String
        /// What to write instead.
        public let cure: String
    }

    /// As it was written.
    public let description: String

    /// - Parameter text: letters, digits and the other characters that an address holds without quotation marks (RFC 5322, dot-atom).
    public init(parsing text: String) throws(Invalid) {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        let isRight =
            (1...2).contains(parts.count) && text.utf8.count <= 254
            && parts.allSatisfy { part in
                part.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { atom in
                    !atom.isEmpty && atom.utf8.allSatisfy { Self.isAtomCharacter($0) }
                }
            }
        // A leading hyphen would be an option to the program that takes mail.
        guard isRight, !text.hasPrefix("-") else {
            throw Invalid(
                reason: "one of these is not a mail address",
                cure: "write addresses such as operator@example.org or root, split by blanks")
        }
        description = text
    }

    /// This machine's root; the mail transport adds the machine's name.
    public static let root = MailAddress(knownRight: "root")

    private init(knownRight text: String) { description = text }

    private static func isAtomCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-/=?^_`{|}~".utf8.contains(byte)
        }
    }
}
