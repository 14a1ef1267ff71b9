import Glibc
import SystemPackage

/// What snapshots take on the disk.
struct SnapshotSizes: Hashable, Sendable {
    /// All of them together, files that they share counted once.
    var total: UInt64
    /// What the newest one takes besides what it shares with the others.
    var increment: UInt64
}

/// Measures what lies in an account's `.snapshots`: allocated blocks, as du counts them, each file once however many names it has.
///
/// The account owns the folders inside its snapshots, so nothing there is trusted: no link is followed, no mount is entered, no file is
/// opened, and folders may be nested or swapped while they are read. Memory goes with the files that have several names (``InodeSet``) and
/// with the folders that wait for their turn, never with the files of one folder.
/// Diagnostics: `HeldFolder.Failure`, `CancellationError`.
struct SnapshotMeasure {
    private let root: HeldFolder
    private let isCancelled: () -> Bool
    private var met = InodeSet()
    private var bytes: UInt64 = 0
    private var entries = 0

    /// - Parameter root: the account's `.snapshots`.
    init(_ root: HeldFolder, isCancelled: @escaping () -> Bool) {
        self.root = root
        self.isCancelled = isCancelled
    }

    /// - Parameters:
    ///   - newest: comes last, so that what is added then is its own.
    ///   - progress: how many snapshots of how many are measured.
    mutating func run(newest: FilePath.Component?, progress: (Int, Int) -> Void) throws -> SnapshotSizes {
        let names = try root.names().sorted { $0.string < $1.string }
        count(try root.status())
        let ordered = names.filter { $0 != newest } + names.filter { $0 == newest }
        var sizes = SnapshotSizes(total: 0, increment: 0)
        for (index, name) in ordered.enumerated() {
            let before = bytes
            if let status = try root.status(of: name) {
                if status.st_mode & S_IFMT == S_IFDIR { try measure(name) } else { count(status) }
            }
            if name == newest { sizes.increment = bytes - before }
            progress(index + 1, ordered.count)
        }
        sizes.total = bytes
        return sizes
    }

    /// Subfolders of one folder that are still to be read.
    private struct Waiting {
        /// The folder's own part of the path.
        var length: Int
        /// Their names, each closed by a NUL.
        var names: [UInt8]
        var next = 0

        mutating func popFirst() -> ArraySlice<UInt8>? {
            guard let end = names[next...].firstIndex(of: 0) else { return nil }
            defer { next = end + 1 }
            return names[next..<end]
        }
    }

    /// One snapshot, without recursion: an account can nest folders deeper than a thread's stack. Each folder is found by its path from the
    /// snapshot, so two descriptors do; rsync cannot copy what has a longer path than the kernel resolves at once.
    private mutating func measure(_ name: FilePath.Component) throws {
        guard let top = try snapshot(name) else { return }
        var path: [UInt8] = []
        var stack = [Waiting(length: 0, names: try read(top, path))]
        while var folder = stack.popLast() {
            path.removeSubrange(folder.length...)
            guard let next = folder.popFirst() else { continue }
            stack.append(folder)
            if !path.isEmpty { path.append(UInt8(ascii: "/")) }
            path += next
            stack.append(Waiting(length: path.count, names: try read(top, path)))
        }
    }

    private func snapshot(_ name: FilePath.Component) throws -> HeldFolder? {
        do {
            return try root.folder(name, reach: .sameFileSystem)
        } catch let failure where HeldFolder.isElsewhere(failure.cause) {
            return nil
        }
    }

    /// Counts what lies directly in a folder, and the folder itself.
    /// - Returns: the names of its subfolders; none for a folder that has gone or has become something else.
    private mutating func read(_ top: HeldFolder, _ path: [UInt8]) throws -> [UInt8] {
        if isCancelled() { throw CancellationError() }
        guard let folder = try FolderReading(path, below: top) else { return [] }
        count(folder.status)
        var folders: [UInt8] = []
        while let (name, status) = try folder.next() {
            entries += 1
            if entries % 1024 == 0, isCancelled() { throw CancellationError() }
            if status.st_mode & S_IFMT == S_IFDIR {
                folders += name.map(UInt8.init(bitPattern:))
            } else {
                count(status)
            }
        }
        return folders
    }

    private mutating func count(_ status: stat) {
        let isShared = status.st_mode & S_IFMT != S_IFDIR && status.st_nlink > 1
        if isShared, !met.insert(device: UInt64(status.st_dev), inode: UInt64(status.st_ino)) { return }
        bytes += UInt64(max(0, status.st_blocks)) * 512
    }
}
