/// What a job works on. There is one job at a time for each subject, whatever the job's type.
public struct JobSubject: Hashable, Sendable, CustomStringConvertible {
    /// A great many entries can wait, and their UUIDs take much less room as numbers.
    private enum Form: Hashable, Sendable {
        case uuid(UInt64, UInt64)
        case name(String)
    }

    private let form: Form

    /// - Parameter text: an entry's UUID, or `job NAME` for a script that works on nothing else. Equal texts are the same subject.
    public init(_ text: String) { form = Self.uuid(text).map { .uuid($0, $1) } ?? .name(text) }

    /// The text.
    public var description: String {
        switch form {
        case .name(let text): text
        case .uuid(let high, let low): Self.text(high, low)
        }
    }

    /// The lengths of the groups of hexadecimal digits in a UUID (RFC 9562, section 4).
    private static let groups = [8, 4, 4, 4, 12]

    /// - Returns: nil unless the text is a UUID in lower case.
    private static func uuid(_ text: String) -> (UInt64, UInt64)? {
        let parts = text.utf8.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard parts.map(\.count) == groups else { return nil }
        let digits = parts.joined()
        guard digits.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }) else { return nil }
        func number(_ digits: some Sequence<UInt8>) -> UInt64 {
            digits.reduce(0) { $0 << 4 | UInt64($1 <= 0x39 ? $1 - 0x30 : $1 - 0x61 + 10) }
        }
        return (number(digits.prefix(16)), number(digits.suffix(16)))
    }

    private static func text(_ high: UInt64, _ low: UInt64) -> String {
        let digits = [high, low].map { number in
            let digits = String(number, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
        var rest = Substring(digits)
        return groups.map { count in
            defer { rest = rest.dropFirst(count) }
            return String(rest.prefix(count))
        }.joined(separator: "-")
    }
}
