import Glibc
import SystemPackage

/// What snapshots take on the disk.
struct SnapshotSizes: Hashable, Sendable {
    /// All of them together, files that they share counted once.
    var total: UInt64
    /// What the newest one takes besides what it shares with the one before.
    var increment: UInt64
}

/// Tells what an account's snapshots take on the disk, as du counts it.
///
/// The numbers come from the record. Each time one snapshot in turn is verified; when its number is wrong, or the record does not fit the
/// directories that are there, all are measured from scratch.
/// Errors: `HeldDirectory.Failure`, `TreeWalk.LimitExceeded`, `CancellationError`; the record is then as it was.
struct SnapshotMeasure {
    private let root: HeldDirectory
    private let isCancelled: () -> Bool

    /// - Parameters:
    ///   - root: the account's `.snapshots`. Every directory in it is taken for a snapshot, but for a copy that is not finished.
    init(_ root: HeldDirectory, isCancelled: @escaping () -> Bool) {
        self.root = root
        self.isCancelled = isCancelled
    }

    /// Verifies a record, and corrects it where it is wrong.
    /// - Parameter progress: how many snapshots of how many are measured.
    /// - Returns: the sizes, and why all snapshots had to be measured; nil when they had not.
    func check(
        _ record: inout SizeRecord, progress: (Int, Int) -> Void = { _, _ in }
    ) throws -> (sizes: SnapshotSizes, doubt: SizeRecord.Doubt?) {
        let (trees, others) = try contents()
        // One that is renamed while the names are read may come twice.
        let names = Dictionary(trees.map { ($0.inode, $0.name) }, uniquingKeysWith: { first, _ in first })
        var doubt = record.doubt(Set(names.keys))
        if doubt == nil, let due = record.due, let name = names[due.snapshot.inode], let newer = names[due.newer.inode]
        {
            let found = try tree(of: name, lackedBy: newer, record)
            if found.ownBytes == due.snapshot.bytes {
                record.confirm(due.snapshot.inode, names: UInt64(found.entries))
            } else {
                doubt = .changed(name: name.string, recorded: due.snapshot.bytes, found: found.ownBytes)
            }
        }
        if let reason = doubt {
            let before = record.total
            // By their names only if the record does not know them all.
            let known = record.snapshots.compactMap { snapshot in trees.first { $0.inode == snapshot.inode } }
            try measure(known.count == trees.count ? known : trees.sorted(by: Tree.isNewer), &record, progress)
            // A file that the account has linked from one snapshot to another makes the number wrong and not the sum.
            if case .changed = reason, record.total == before { doubt = nil }
        }
        return (SnapshotSizes(total: others + record.total, increment: record.increment), doubt)
    }

    private struct Tree {
        var name: FilePath.Component
        var inode: UInt64

        /// Whether one was made after another, as their names say: `daily.0`, `daily.1`, …, `weekly.0`, …, and then all others.
        static func isNewer(_ left: Tree, _ right: Tree) -> Bool {
            let (left, right) = (left.age, right.age)
            return (left.level, left.index, left.name) < (right.level, right.index, right.name)
        }

        private var age: (level: Int, index: Int, name: String) {
            let parts = name.string.split(separator: ".", omittingEmptySubsequences: false)
            guard parts.count == 2, let index = Int(parts[1]),
                let level = SnapshotLevel.allCases.firstIndex(where: { $0.rawValue == parts[0] })
            else { return (.max, 0, name.string) }
            return (level, index, "")
        }
    }

    /// Directories of other file systems are left out: they are known by their inodes, and every subvolume of btrfs has the same.
    /// - Returns: the directories, and the bytes of everything else: of other names, and of `.snapshots` itself.
    private func contents() throws -> (trees: [Tree], others: UInt64) {
        let own = try root.status()
        var contents = (trees: [Tree](), others: own.allocatedBytes)
        for name in try root.names() where !SnapshotWork.unfinishedNames.contains(name) {
            guard let found = try root.status(of: name) else { continue }
            if found.st_mode & S_IFMT != S_IFDIR {
                contents.others += found.allocatedBytes
            } else if found.st_dev == own.st_dev, try !isMount(name) {
                contents.trees.append(Tree(name: name, inode: UInt64(found.st_ino)))
            }
        }
        return contents
    }

    private func isMount(_ name: FilePath.Component) throws(HeldDirectory.Failure) -> Bool {
        do {
            return try root.directory(name, reach: .sameFileSystem) == nil
        } catch {
            guard error.cause == .improperLink else { throw error }
            return true
        }
    }

    private func tree(
        of name: FilePath.Component, lackedBy newer: FilePath.Component, _ record: SizeRecord
    ) throws -> SnapshotTree {
        var count = count(record)
        try count.know(newer)
        return try count.unknown(in: name)
    }

    private func count(_ record: SizeRecord) -> SnapshotCount {
        SnapshotCount(
            root,
            limit: { record.nameLimit(of: (try root.status(of: $0)?.st_ino).map { UInt64($0) }) },
            isCancelled: isCancelled)
    }

    /// - Parameter trees: the newest first.
    private func measure(_ trees: [Tree], _ record: inout SizeRecord, _ progress: (Int, Int) -> Void) throws {
        var count = count(record)
        let snapshots = try trees.enumerated().map { index, tree in
            defer { progress(index + 1, trees.count) }
            let found = try count.unknown(in: tree.name)
            return SizeRecord.Snapshot(inode: tree.inode, bytes: found.ownBytes, names: UInt64(found.entries))
        }
        var increment = snapshots.first?.bytes ?? 0
        if trees.count > 1 { increment = try tree(of: trees[0].name, lackedBy: trees[1].name, record).ownBytes }
        record.replace(snapshots, increment: increment)
    }
}

/// The files that were met, by device and inode.
///
/// A file system gives neighbouring numbers to files that are made together, so one word stands for 64 neighbours: ten million files of one
/// account take a few megabytes, and at the very worst 32 bytes for each.
struct InodeSet {
    private var devices: [UInt64: [UInt64: UInt64]] = [:]

    /// - Returns: false when the file was met before.
    mutating func insert(device: UInt64, inode: UInt64) -> Bool {
        let bit: UInt64 = 1 << (inode % 64)
        return Self.set(bit, in: &devices[device, default: [:]][inode / 64, default: 0])
    }

    private static func set(_ bit: UInt64, in word: inout UInt64) -> Bool {
        defer { word |= bit }
        return word & bit == 0
    }
}
