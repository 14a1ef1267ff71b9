import EventLoop

/// How many names one walk through a customer's tree may come to, and why so many; and how deep it may go, for it has to remember its way.
///
/// The owner can make names, and move them in front of a walk, for as long as it reads, so without a limit it would not end. The limit goes by
/// what is recorded of the account, and stops no tree that nobody changes meanwhile. How long a walk may take is limited besides (`Deadline`).
struct NameLimit: Hashable, Sendable, CustomStringConvertible {
    let names: Int
    /// Where the number comes from.
    let reason: String
    /// Of directories in each other. Their names take at most 64 MB of memory.
    var levels = 250_000

    /// What may come on top of any number: a tree that was empty gets files meanwhile.
    private static let margin = 100_000
    /// For one tree of an account of which nothing is recorded.
    private static let mostOfTree = 100_000_000
    /// For all trees of an account that were not counted.
    private static let mostUncounted = 1_000_000_000
    /// No number is larger than this, whoever says it, so that sums do not overflow.
    private static let most: UInt64 = 1 << 40

    var description: String { "\(names) names (\(reason))" }

    /// For a tree whose names were counted: by rsync when it was copied, or by an earlier walk.
    static func counted(_ count: UInt64) -> NameLimit {
        NameLimit(
            names: 2 * Int(min(count, most)) + margin,
            reason: "twice the \(count) that were counted in it, and \(margin)")
    }

    /// For trees that were not counted.
    /// - Parameters:
    ///   - trees: how many they are, at least 1.
    ///   - largest: names in the largest tree of the account that was counted; nil: none was.
    static func uncounted(_ trees: Int = 1, like largest: UInt64? = nil) -> NameLimit {
        let each = largest.map { 10 * Int(min($0, most)) + 100 * margin } ?? mostOfTree
        return NameLimit(
            names: trees > mostUncounted / each ? mostUncounted : trees * each,
            reason: largest.map {
                "ten times the \($0) of the account's largest snapshot, and \(100 * margin), for each of \(trees) trees"
            } ?? "its names were not counted before")
    }

    /// For a home or an archive of which nothing is recorded, with all snapshots in it.
    static let unrecorded = NameLimit(names: mostUncounted, reason: "nothing is recorded of it")

    /// For one walk, or several, through the trees of both.
    static func + (left: NameLimit, right: NameLimit) -> NameLimit {
        NameLimit(names: left.names + right.names, reason: "\(left.reason); and \(right.reason)")
    }
}
