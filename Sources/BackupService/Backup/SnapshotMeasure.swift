import Glibc
import SystemPackage

/// The contents of a snapshot or of a finished copy.
///
/// Sizes are those on the disk: allocated blocks as du counts them, each file once however many names it has.
struct SnapshotTree: Codable, Hashable, Sendable {
    /// The inode of its top directory.
    var inode: UInt64
    /// Names that are not directories.
    var files: UInt64 = 0
    /// Bytes of everything in it, shared or not, the top directory included.
    var bytes: UInt64 = 0
    /// The bytes among these of files that the snapshot before does not have.
    var ownBytes: UInt64 = 0
    /// All names, without the top directory; nil: not counted.
    var names: UInt64?
    /// Whether all files were copied; nil: unknown, which counts as true.
    var isWhole: Bool?
}

/// Counts snapshots of one account one after the other and remembers the files that it has seen. They belong to the account and are hostile, see
/// ``TreeWalk``. Link counts are not used: the account may have linked its files elsewhere, and `.partial` may share them too.
final class SnapshotCounter {
    /// Which files of a snapshot are counted. All of them are known afterwards.
    enum Scope {
        case all
        /// Only files not seen before.
        case unknown
        /// Sizes are not read.
        case namesOnly
    }

    private let parent: HeldDirectory
    private let sizes: SizeRecord
    private let isCancelled: () -> Bool
    private var known = InodeSet()

    /// - Parameters:
    ///   - parent: the directory of the account's snapshots.
    ///   - sizes: for the limits of the walks.
    init(_ parent: HeldDirectory, _ sizes: SizeRecord, isCancelled: @escaping () -> Bool) {
        self.parent = parent
        self.sizes = sizes
        self.isCancelled = isCancelled
    }

    /// Walks through a snapshot. Files that were not seen before are its own.
    /// - Parameter limit: nil: by the recorded sizes.
    /// - Throws: `HeldDirectory.Failure`, also if the snapshot does not exist; `TreeWalk.LimitExceeded`; `CancellationError`.
    @discardableResult
    func count(_ name: FilePath.Component, _ scope: Scope = .all, limit: NameLimit? = nil) throws -> SnapshotTree {
        let recorded = try parent.status(of: name).map { UInt64($0.st_ino) }
        let walk = try TreeWalk(
            name, in: parent, limit: limit ?? sizes.nameLimit(of: recorded), isCancelled: isCancelled)
        var tree = SnapshotTree(inode: UInt64(walk.status.st_ino))
        var names: UInt64 = 0
        // The files of this snapshot, to count also those that were known before.
        var own = scope == .all ? InodeSet() : nil
        /// - Returns: whether the file is met for the first time.
        func meet(_ device: UInt64, _ inode: UInt64, _ status: () throws -> stat?) rethrows -> Bool {
            let isNew = known.insert(device: device, inode: inode)
            guard own?.insert(device: device, inode: inode) ?? isNew else { return false }
            if scope != .namesOnly, let bytes = try status()?.allocatedBytes {
                tree.bytes += bytes
                if isNew { tree.ownBytes += bytes }
            }
            return true
        }
        func meet(directory status: stat) -> Bool {
            meet(UInt64(status.st_dev), UInt64(status.st_ino)) { status }
        }
        _ = meet(directory: walk.status)
        while let event = try walk.next() {
            guard case .name(let item) = event else { continue }
            names += 1
            guard try walk.isDirectory(item) else {
                tree.files += 1
                _ = try meet(walk.device, item.inode) { try walk.status(of: item.text) }
                continue
            }
            let entered: stat
            do {
                entered = try walk.enter(item.text)
            } catch let failure as HeldDirectory.Failure where failure.isOutsideTree {
                continue
            }
            // A directory that was read before has been moved ahead of the walk.
            if !meet(directory: entered) { try walk.skip() }
        }
        tree.names = names
        return tree
    }
}

/// A set of files, by device and inode.
///
/// File systems give neighbouring numbers to files made together, so one word holds 64 neighbours: ten million files of one account take a few
/// megabytes, and at most 32 bytes each.
struct InodeSet {
    private var devices: [UInt64: [UInt64: UInt64]] = [:]

    /// - Returns: false if the file is in the set already.
    mutating func insert(device: UInt64, inode: UInt64) -> Bool {
        let bit: UInt64 = 1 << (inode % 64)
        return Self.set(bit, in: &devices[device, default: [:]][inode / 64, default: 0])
    }

    private static func set(_ bit: UInt64, in word: inout UInt64) -> Bool {
        defer { word |= bit }
        return word & bit == 0
    }
}

extension SizeRecord {
    /// Verifies the record on the disk and corrects it if it is wrong. Each call verifies one snapshot in turn; if its number is wrong, or the
    /// record does not match the directories, all are measured.
    /// - Parameter root: the directory of the account's snapshots. Every directory in it counts as a snapshot, except unfinished copies.
    /// - Returns: the bytes of all snapshots together, shared files counted once, and why all had to be measured; nil: they had not.
    /// - Throws: `HeldDirectory.Failure`, `TreeWalk.LimitExceeded`, `CancellationError`; the record is then unchanged.
    mutating func verify(
        in root: HeldDirectory, isCancelled: @escaping () -> Bool
    ) throws -> (total: UInt64, discrepancy: String?) {
        let (trees, others) = try Self.contents(of: root)
        // A name that is renamed while the names are read may be read twice.
        let names = Dictionary(trees.map { ($0.inode, $0.name) }, uniquingKeysWith: { first, _ in first })
        var discrepancy = discrepancy(Set(names.keys))
        var isOneChanged = false
        if discrepancy == nil, let due, let name = names[due.snapshot.inode], let newer = names[due.newer.inode] {
            let found = try count(name, without: newer, in: root, isCancelled)
            if found.ownBytes == due.snapshot.bytes {
                confirm(due.snapshot.inode, names: found.names)
            } else {
                isOneChanged = true
                discrepancy =
                    "\(name) was changed after it was made: it has \(found.ownBytes) bytes of its own, "
                    + "\(due.snapshot.bytes) were recorded"
            }
        }
        if discrepancy != nil {
            let before = total
            // In the order of the record; by name only if the record does not have them all.
            let known = snapshots.compactMap { snapshot in trees.first { $0.inode == snapshot.inode } }
            try measure(
                known.count == trees.count ? known : trees.sorted { Self.age($0) < Self.age($1) }, in: root, isCancelled
            )
            // A file that the account has linked from one snapshot to another changes the numbers but not the sum.
            if isOneChanged, total == before { discrepancy = nil }
        }
        return (others + total, discrepancy)
    }

    private typealias Tree = (name: FilePath.Component, inode: UInt64)

    /// The order by age: `daily.0`, `daily.1`, …, `weekly.0`, …, then all other names.
    private static func age(_ tree: Tree) -> (level: Int, index: Int, name: String) {
        guard let (level, index) = BackupService.Snapshot.parse(tree.name) else { return (.max, 0, tree.name.string) }
        return (SnapshotLevel.allCases.firstIndex(of: level) ?? .max, index, "")
    }

    /// Directories of other file systems are ignored, since every subvolume of btrfs has the same inode number.
    /// - Returns: the snapshots, and the bytes of everything else in the directory.
    private static func contents(of root: HeldDirectory) throws -> (trees: [Tree], others: UInt64) {
        let own = try root.status()
        var contents = (trees: [Tree](), others: own.allocatedBytes)
        for name in try root.names() where !SnapshotWork.unfinishedNames.contains(name) {
            guard let found = try root.status(of: name) else { continue }
            if !found.isDirectory {
                contents.others += found.allocatedBytes
            } else if found.st_dev == own.st_dev, try !root.hasMount(at: name) {
                contents.trees.append((name, UInt64(found.st_ino)))
            }
        }
        return contents
    }

    private func count(
        _ name: FilePath.Component, without newer: FilePath.Component, in root: HeldDirectory,
        _ isCancelled: @escaping () -> Bool
    ) throws -> SnapshotTree {
        let counter = SnapshotCounter(root, self, isCancelled: isCancelled)
        try counter.count(newer, .namesOnly)
        return try counter.count(name, .unknown)
    }

    /// - Parameter trees: the newest first.
    private mutating func measure(
        _ trees: [Tree], in root: HeldDirectory, _ isCancelled: @escaping () -> Bool
    ) throws {
        let counter = SnapshotCounter(root, self, isCancelled: isCancelled)
        let measured = try trees.map { tree in
            let found = try counter.count(tree.name, .unknown)
            return Snapshot(inode: tree.inode, bytes: found.ownBytes, names: found.names)
        }
        var increment = measured.first?.bytes ?? 0
        if trees.count > 1 {
            increment = try count(trees[0].name, without: trees[1].name, in: root, isCancelled).ownBytes
        }
        replace(measured, increment: increment)
    }
}
