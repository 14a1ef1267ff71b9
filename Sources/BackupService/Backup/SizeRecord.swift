/// What an account's snapshots take on the disk, kept up to date without measuring all of them: one number for each.
///
/// The number of a snapshot is the bytes of what no newer snapshot has; of the newest, of everything in it. Their sum is the total, with what
/// snapshots share counted once, for a copy shares files with the snapshot before it only: what a snapshot shares with any newer one, it
/// shares with the next newer one. So each number can be verified with those two snapshots alone, however many are kept.
/// Links are not relied on: the account can make some to its files in the snapshots. Snapshots are told by the inodes of their top
/// directories, which stay the same when they are renamed. Specification: snapshots.md#sizes.
struct SizeRecord: Codable, Hashable, Sendable {
    struct Snapshot: Codable, Hashable, Sendable {
        /// Of its top directory.
        var inode: UInt64
        /// Bytes on the disk of what no newer snapshot has.
        var bytes: UInt64
        /// Copies that were made since the number was last verified.
        var copies = 0
        /// Names in it when they were last counted; nil: they were not.
        var names: UInt64?
    }

    /// The newest first.
    private(set) var snapshots: [Snapshot] = []
    /// Bytes of what the newest has and the one before it had not when it was made.
    private(set) var increment: UInt64 = 0
    /// Whether the numbers may be wrong, so that all snapshots have to be measured.
    private(set) var isDoubtful = false
    /// The snapshots of which a part may have been removed.
    private var removing: [UInt64] = []

    /// Bytes on the disk of all snapshots together.
    var total: UInt64 { snapshots.reduce(0) { $0 + $1.bytes } }

    // MARK: - Changes by the daemon

    /// A copy becomes the newest snapshot. Adding it twice does nothing.
    /// - Parameters:
    ///   - bytes: of everything in it.
    ///   - ownBytes: of what the snapshot that has been the newest lacks.
    ///   - names: in it; nil: they were not counted.
    mutating func add(inode: UInt64, bytes: UInt64, ownBytes: UInt64, names: UInt64?) {
        if snapshots.first?.inode == inode, snapshots.first?.bytes == bytes { return }
        if snapshots.contains(where: { $0.inode == inode }) {
            // It had been removed by somebody else, and the copy got its inode.
            isDoubtful = true
            snapshots.removeAll { $0.inode == inode }
        }
        for index in snapshots.indices { snapshots[index].copies += 1 }
        if !snapshots.isEmpty { subtract(bytes - min(ownBytes, bytes), from: 0) }
        snapshots.insert(Snapshot(inode: inode, bytes: bytes, names: names), at: 0)
        increment = ownBytes
    }

    /// A snapshot is going to be removed; to be recorded before anything of it is.
    mutating func beginRemoval(of inode: UInt64) {
        guard snapshots.contains(where: { $0.inode == inode }) else { return }
        if removing.contains(inode) { isDoubtful = true } else { removing.append(inode) }
    }

    /// A snapshot has been removed.
    /// - Parameter freed: bytes that nothing takes any longer, see ``TreeRemoval``.
    mutating func endRemoval(of inode: UInt64, freed: UInt64) {
        guard let index = snapshots.firstIndex(where: { $0.inode == inode }) else { return }
        removing.removeAll { $0 == inode }
        // What was not freed is still in the next older one, where no newer one has it now.
        subtract(freed, from: index)
        let left = snapshots.remove(at: index).bytes
        if index < snapshots.count { snapshots[index].bytes += left } else if left > 0 { isDoubtful = true }
    }

    private mutating func subtract(_ bytes: UInt64, from index: Int) {
        if snapshots[index].bytes < bytes { isDoubtful = true }
        snapshots[index].bytes -= min(bytes, snapshots[index].bytes)
    }

    // MARK: - Verification

    /// Why all snapshots were measured.
    enum Doubt: Hashable, Sendable, CustomStringConvertible {
        /// Directories that are there and not recorded.
        case unrecorded(Int)
        /// Snapshots that are recorded and not there.
        case missing(Int)
        /// A removal that was cut off, or sums that do not come out.
        case uncertain
        /// A snapshot whose number has changed, with the sum of all numbers before and after.
        case changed(name: String, recorded: UInt64, found: UInt64)

        var description: String {
            switch self {
            case .unrecorded(let count): "\(count) \(count == 1 ? "directory was" : "directories were") not recorded"
            case .missing(let count): "\(count) recorded \(count == 1 ? "snapshot is" : "snapshots are") gone"
            case .uncertain: "a removal was interrupted, or a snapshot was changed"
            case .changed(let name, let recorded, let found):
                "\(name) was changed after it was made: it has \(found) bytes of its own, \(recorded) were recorded"
            }
        }
    }

    /// What is known to be wrong.
    /// - Parameter inodes: of the directories that are there.
    func doubt(_ inodes: Set<UInt64>) -> Doubt? {
        let recorded = Set(snapshots.map(\.inode))
        if case let count = inodes.subtracting(recorded).count, count > 0 { return .unrecorded(count) }
        if case let count = recorded.subtracting(inodes).count, count > 0 { return .missing(count) }
        return isDoubtful || !removing.isEmpty ? .uncertain : nil
    }

    /// The snapshot whose turn it is to be verified, the one that has waited longest, and the next newer one; nil where there is only one.
    var due: (snapshot: Snapshot, newer: Snapshot)? {
        guard let index = snapshots.indices.dropFirst().max(by: { snapshots[$0].copies < snapshots[$1].copies }) else {
            return nil
        }
        return (snapshots[index], snapshots[index - 1])
    }

    /// The number of a snapshot was found to be right.
    mutating func confirm(_ inode: UInt64, names: UInt64) {
        for index in snapshots.indices where snapshots[index].inode == inode {
            (snapshots[index].copies, snapshots[index].names) = (0, names)
        }
    }

    /// For a walk through one of the snapshots, or another tree of the account: an unfinished copy, or its uploads.
    func nameLimit(of inode: UInt64?) -> NameLimit {
        snapshots.first { $0.inode == inode }?.names.map(NameLimit.counted) ?? .uncounted(like: largest)
    }

    /// For all walks of a job through the recorded snapshots and other trees of the account together.
    /// - Parameter others: how many those are, at least 1.
    func nameLimit(others: Int) -> NameLimit {
        let counts = snapshots.compactMap(\.names)
        guard let largest else { return .unrecorded }
        let sum = counts.reduce(0) { $0 &+ min($1, 1 << 40) }
        return .counted(sum) + .uncounted(others + snapshots.count - counts.count, like: largest)
    }

    /// Names in the largest snapshot that was counted.
    private var largest: UInt64? { snapshots.compactMap(\.names).max() }

    /// All snapshots were measured.
    /// - Parameters:
    ///   - snapshots: the newest first, each with the bytes of what none before it in this order has.
    ///   - increment: bytes of what the newest has and the one before it has not.
    mutating func replace(_ snapshots: [Snapshot], increment: UInt64) {
        self = SizeRecord()
        self.snapshots = snapshots
        self.increment = increment
    }
}
