/// The sizes on the disk of an account's snapshots: one number for each, kept up to date without measuring all of them.
///
/// The number of a snapshot is the bytes of files that no newer snapshot has; of the newest, of all its files. Their sum is the total, with
/// shared files counted once: a copy shares files only with the snapshot before it, so what a snapshot shares with any newer one it shares with
/// the next newer one. Each number can therefore be verified with those two snapshots alone.
/// Link counts are not used, since the account can link to its files in the snapshots. Snapshots are identified by the inodes of their top
/// directories, which renames do not change. Specification: snapshots.md#sizes.
struct SizeRecord: Codable, Hashable, Sendable {
    struct Snapshot: Codable, Hashable, Sendable {
        /// The inode of its top directory.
        var inode: UInt64
        /// Bytes on the disk of files that no newer snapshot has.
        var bytes: UInt64
        /// Copies made since the number was last verified.
        var copies = 0
        /// Names in it when they were last counted; nil: never.
        var names: UInt64?
    }

    /// The newest first.
    private(set) var snapshots: [Snapshot] = []
    /// Bytes of files of the newest that the one before did not have when it was made.
    private(set) var increment: UInt64 = 0
    /// Whether the numbers may be wrong, so that all snapshots must be measured.
    private(set) var isDoubtful = false
    /// Snapshots whose removal has begun.
    private var removing: [UInt64] = []

    /// Bytes on the disk of all snapshots together.
    var total: UInt64 { snapshots.reduce(0) { $0 + $1.bytes } }

    // MARK: - Changes by the daemon

    /// Adds a copy as the newest snapshot; adding it twice has no effect.
    /// - Parameters:
    ///   - bytes: of all files in it.
    ///   - ownBytes: of files that the snapshot before does not have.
    ///   - names: in it; nil: not counted.
    mutating func add(inode: UInt64, bytes: UInt64, ownBytes: UInt64, names: UInt64?) {
        if snapshots.first?.inode == inode, snapshots.first?.bytes == bytes { return }
        if snapshots.contains(where: { $0.inode == inode }) {
            // Someone else had removed that snapshot, and the copy got its inode.
            isDoubtful = true
            snapshots.removeAll { $0.inode == inode }
        }
        for index in snapshots.indices { snapshots[index].copies += 1 }
        if !snapshots.isEmpty { subtract(bytes - min(ownBytes, bytes), from: 0) }
        snapshots.insert(Snapshot(inode: inode, bytes: bytes, names: names), at: 0)
        increment = ownBytes
    }

    /// To be recorded before a snapshot is removed.
    mutating func beginRemoval(of inode: UInt64) {
        guard snapshots.contains(where: { $0.inode == inode }) else { return }
        if removing.contains(inode) { isDoubtful = true } else { removing.append(inode) }
    }

    /// - Parameter freed: bytes that the removal has freed, see ``TreeRemoval``.
    mutating func endRemoval(of inode: UInt64, freed: UInt64) {
        guard let index = snapshots.firstIndex(where: { $0.inode == inode }) else { return }
        removing.removeAll { $0 == inode }
        // Files that were not freed are in the next older snapshot as well, and no newer one has them now.
        subtract(freed, from: index)
        let rest = snapshots.remove(at: index).bytes
        if index < snapshots.count { snapshots[index].bytes += rest } else if rest > 0 { isDoubtful = true }
    }

    private mutating func subtract(_ bytes: UInt64, from index: Int) {
        if snapshots[index].bytes < bytes { isDoubtful = true }
        snapshots[index].bytes -= min(bytes, snapshots[index].bytes)
    }

    // MARK: - Verification

    /// What is known to be wrong, in words.
    /// - Parameter inodes: of the directories on the disk.
    func discrepancy(_ inodes: Set<UInt64>) -> String? {
        let recorded = Set(snapshots.map(\.inode))
        if case let count = inodes.subtracting(recorded).count, count > 0 {
            return "\(count) \(count == 1 ? "directory was" : "directories were") not recorded"
        }
        if case let count = recorded.subtracting(inodes).count, count > 0 {
            return "\(count) recorded \(count == 1 ? "snapshot is" : "snapshots are") gone"
        }
        return isDoubtful || !removing.isEmpty ? "a removal was interrupted, or a snapshot was changed" : nil
    }

    /// The snapshot to verify next, which is the one not verified for longest, and the next newer one; nil if there is only one.
    var due: (snapshot: Snapshot, newer: Snapshot)? {
        guard let index = snapshots.indices.dropFirst().max(by: { snapshots[$0].copies < snapshots[$1].copies }) else {
            return nil
        }
        return (snapshots[index], snapshots[index - 1])
    }

    /// The number of a snapshot was verified.
    mutating func confirm(_ inode: UInt64, names: UInt64?) {
        for index in snapshots.indices where snapshots[index].inode == inode {
            (snapshots[index].copies, snapshots[index].names) = (0, names)
        }
    }

    /// All snapshots were measured.
    /// - Parameter snapshots: the newest first.
    mutating func replace(_ snapshots: [Snapshot], increment: UInt64) {
        self = SizeRecord()
        self.snapshots = snapshots
        self.increment = increment
    }

    // MARK: - Limits of walks

    /// The limit of a walk through a snapshot or another tree of the account: an unfinished copy, or its uploads.
    func nameLimit(of inode: UInt64?) -> NameLimit {
        snapshots.first { $0.inode == inode }?.names.map(NameLimit.counted) ?? .uncounted(like: largest)
    }

    /// The limit of all walks of a job through the recorded snapshots and other trees of the account together.
    /// - Parameter others: their number, at least 1.
    func nameLimit(others: Int) -> NameLimit {
        let counts = snapshots.compactMap(\.names)
        guard let largest else { return .unrecorded }
        let sum = counts.reduce(0) { $0 &+ min($1, 1 << 40) }
        return .counted(sum) + .uncounted(others + snapshots.count - counts.count, like: largest)
    }

    /// Names in the largest snapshot that was counted.
    private var largest: UInt64? { snapshots.compactMap(\.names).max() }
}

/// The most names and levels that a walk through a customer's tree may visit.
///
/// The owner can make names, or move them ahead of a walk, as fast as they are read, so a walk without a limit might not end. The limit is derived
/// from the recorded counts and stops no tree that is not changed meanwhile. A `Deadline` limits the time as well.
struct NameLimit: Hashable, Sendable, CustomStringConvertible {
    let names: Int
    /// How the number was derived.
    let reason: String
    /// Nested directories. Their names take at most 64 MB of memory.
    var levels = 250_000

    /// Added to any number: an empty tree may get files meanwhile.
    private static let margin = 100_000
    /// The limit of one tree of an account without recorded counts, in names.
    private static let mostOfTree = 100_000_000
    /// The limit of all trees of an account that were not counted, in names.
    private static let mostUncounted = 1_000_000_000
    /// Larger counts are cut, so that sums do not overflow.
    private static let most: UInt64 = 1 << 40

    var description: String { "\(names) names (\(reason))" }

    /// The limit of a tree whose names were counted, by rsync or by an earlier walk.
    static func counted(_ count: UInt64) -> NameLimit {
        NameLimit(
            names: 2 * Int(min(count, most)) + margin,
            reason: "twice the \(count) that were counted in it, and \(margin)")
    }

    /// The limit of trees that were not counted.
    /// - Parameters:
    ///   - trees: their number, at least 1.
    ///   - largest: names in the account's largest tree that was counted; nil: none was.
    static func uncounted(_ trees: Int = 1, like largest: UInt64? = nil) -> NameLimit {
        let each = largest.map { 10 * Int(min($0, most)) + 100 * margin } ?? mostOfTree
        return NameLimit(
            names: trees > mostUncounted / each ? mostUncounted : trees * each,
            reason: largest.map {
                "ten times the \($0) of the account's largest snapshot, and \(100 * margin), for each of \(trees) trees"
            } ?? "its names were not counted before")
    }

    /// The limit of a home or an archive without recorded counts, with all its snapshots.
    static let unrecorded = NameLimit(names: mostUncounted, reason: "nothing is recorded of it")

    /// The limit of walks through the trees of both.
    static func + (left: NameLimit, right: NameLimit) -> NameLimit {
        NameLimit(names: left.names + right.names, reason: "\(left.reason); and \(right.reason)")
    }
}
