import Glibc
import SystemPackage

/// What one snapshot holds and takes on the disk: allocated blocks as du counts them, each file once however many names it has in it.
///
/// The account owns the directories inside, see ``TreeWalk``. Memory goes with the files of the two trees that are compared, a few megabytes for
/// ten million (``InodeSet``).
struct SnapshotTree: Hashable, Sendable {
    /// Bytes of everything in it, the top directory included.
    var bytes: UInt64 = 0
    /// Of these, the bytes of what the snapshot before it lacks: what keeping this snapshot adds.
    var ownBytes: UInt64 = 0
    /// Names that are no directories.
    var files = 0
    /// All names, without the top directory.
    var entries = 0

    var isEmpty: Bool { entries == 0 }

    /// Walks a snapshot.
    /// - Parameters:
    ///   - name: a directory in `parent`.
    ///   - previous: the snapshot in `parent` that it was made from, of which only the names are read; nil: all is its own. Links are not
    ///     counted: the account may have linked its files elsewhere, and `.partial` may share them too.
    ///   - limit: names that the walk of a snapshot may come to.
    /// - Throws: `HeldDirectory.Failure`, also where one of the two does not exist; `TreeWalk.LimitExceeded`; `CancellationError`.
    static func walk(
        _ name: FilePath.Component, in parent: HeldDirectory, previous: FilePath.Component?,
        limit: @escaping SnapshotCount.Limit, isCancelled: @escaping () -> Bool
    ) throws -> SnapshotTree {
        var count = SnapshotCount(parent, limit: limit, isCancelled: isCancelled)
        if let previous { try count.know(previous) }
        return try count.whole(name)
    }
}

/// Counts snapshots of one account, one after the other, and knows the files that it has met.
struct SnapshotCount {
    private let parent: HeldDirectory
    /// Tells how many names the walk of a snapshot may come to.
    typealias Limit = (FilePath.Component) throws -> NameLimit

    private let limit: Limit
    private let isCancelled: () -> Bool
    private var known = InodeSet()

    init(_ parent: HeldDirectory, limit: @escaping Limit, isCancelled: @escaping () -> Bool) {
        self.parent = parent
        self.limit = limit
        self.isCancelled = isCancelled
    }

    /// Everything in a snapshot, and of it what was not known; it is afterwards.
    mutating func whole(_ name: FilePath.Component) throws -> SnapshotTree {
        var met: InodeSet? = InodeSet()
        return try visit(name, met: &met, readsSizes: true)
    }

    /// What is in a snapshot and was not known; it is afterwards. Only that is examined.
    mutating func unknown(in name: FilePath.Component) throws -> SnapshotTree {
        var none: InodeSet?
        return try visit(name, met: &none, readsSizes: true)
    }

    /// Makes what is in a snapshot known. Only names are read.
    mutating func know(_ name: FilePath.Component) throws {
        var none: InodeSet?
        _ = try visit(name, met: &none, readsSizes: false)
    }

    /// - Parameters:
    ///   - met: what was met in this snapshot, to count also what was known; nil: only what was not.
    private mutating func visit(
        _ name: FilePath.Component, met: inout InodeSet?, readsSizes: Bool
    ) throws -> SnapshotTree {
        let walk = try TreeWalk(name, in: parent, limit: limit(name), isCancelled: isCancelled)
        var tree = SnapshotTree()
        /// - Returns: whether it was met for the first time.
        func meet(_ device: UInt64, _ inode: UInt64, _ status: () throws -> stat?) rethrows -> Bool {
            let isNew = known.insert(device: device, inode: inode)
            guard met?.insert(device: device, inode: inode) ?? isNew else { return false }
            if readsSizes, let bytes = try status()?.allocatedBytes {
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
            tree.entries += 1
            if try walk.isDirectory(item) {
                // One that was read before has been moved in front of the walk.
                if let status = try enter(item, walk), !meet(directory: status) { try walk.skip() }
            } else {
                tree.files += 1
                _ = try meet(walk.device, item.inode) { try walk.status(of: item.text) }
            }
        }
        return tree
    }

    /// - Returns: nil where there is no directory of this snapshot any more.
    private func enter(_ item: TreeWalk.Name, _ walk: TreeWalk) throws -> stat? {
        do {
            return try walk.enter(item.text)
        } catch let failure as HeldDirectory.Failure where HeldDirectory.isElsewhere(failure.cause) {
            return nil
        }
    }
}
