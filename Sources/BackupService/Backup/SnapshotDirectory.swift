import Glibc
package import JobCore
import Provisioning
import SystemPackage

/// A snapshot on the disk, `LEVEL.INDEX`.
package struct Snapshot: Hashable, Sendable {
    var level: SnapshotLevel
    /// 0 is the newest of the level.
    var index: Int
    /// The modification time of its top directory, which is the end of the copy.
    package var time: Timestamp

    /// - Returns: nil for any other name.
    static func parse(_ name: FilePath.Component) -> (level: SnapshotLevel, index: Int)? {
        let parts = name.string.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let level = SnapshotLevel(rawValue: String(parts[0])),
            let index = EntryReader.decimal(String(parts[1])).flatMap({ Int(exactly: $0) })
        else { return nil }
        return (level, index)
    }
}

/// The directory that holds an account's snapshots and their state file, open.
///
/// It belongs to root, so that only the daemon changes its names; the contents of the snapshots belong to the account and are hostile.
/// Errors: `HeldDirectory.Failure`.
struct SnapshotDirectory {
    let directory: HeldDirectory

    static let stateName: FilePath.Component = ".state"
    private static let damagedStateName: FilePath.Component = ".state.damaged"

    /// - Returns: nil if the home or its snapshots do not exist.
    static func open(in home: HomePath) throws -> SnapshotDirectory? {
        try HomeWalk(to: home).snapshots().map(SnapshotDirectory.init)
    }

    /// - Returns: nil if the account has no home or no snapshots.
    static func open(
        for account: BackupAccount, _ configuration: BackupConfiguration
    ) throws -> SnapshotDirectory? {
        try configuration.places.home(of: account).flatMap { try open(in: $0) }
    }

    var path: FilePath { directory.path }

    /// All snapshots, in no order.
    func snapshots() throws(HeldDirectory.Failure) -> [Snapshot] {
        var found: [Snapshot] = []
        for name in try directory.names() {
            guard let (level, index) = Snapshot.parse(name), index <= 999, let status = try directory.status(of: name),
                status.isDirectory
            else { continue }
            let time = Timestamp(secondsSince1970: Int64(status.st_mtim.tv_sec))
            found.append(Snapshot(level: level, index: index, time: time))
        }
        return found
    }

    /// The inode of a directory; nil if there is none of that name.
    func inode(of name: FilePath.Component) throws(HeldDirectory.Failure) -> UInt64? {
        guard let status = try directory.status(of: name), status.isDirectory else { return nil }
        return UInt64(status.st_ino)
    }

    // MARK: - The state file

    /// The recorded state; an empty one if there is no file.
    /// - Throws: `HeldDirectory.Failure`, `DecodingError` for a damaged file, `ProvisioningFailure` for one of a later version.
    func state() throws -> SnapshotState {
        guard let bytes = try directory.contents(of: Self.stateName) else { return SnapshotState() }
        return try SnapshotState(decoding: bytes, of: path.appending(Self.stateName))
    }

    /// The recorded sizes; empty if they cannot be read, or if the account could have written them.
    var sizes: SizeRecord {
        guard let status = try? directory.status(), HomeWalk.objection(to: status) == nil else { return SizeRecord() }
        return (try? state().sizes) ?? SizeRecord()
    }

    /// Replaces the state file and flushes it.
    func record(_ state: SnapshotState) throws {
        try directory.write(try state.encoded(), to: Self.stateName)
    }

    /// Renames a damaged state file; an older damaged one is replaced.
    func setDamagedStateAside() throws(HeldDirectory.Failure) {
        try directory.removeFile(Self.damagedStateName)
        _ = try directory.rename(Self.stateName, into: directory, as: Self.damagedStateName)
    }
}

/// The renames that put a new snapshot before the older ones (specification: snapshots.md#rotation). None replaces anything, and running them
/// again after a crash completes them. Nothing is removed here; dropped snapshots are renamed to `.trash-…`.
/// Errors: `HeldDirectory.Failure`; a failed `JobOutcome` if another process has moved the new snapshot.
struct SnapshotRotation {
    let snapshots: SnapshotDirectory
    /// The inode of a snapshot that must not be dropped; it is renamed to ``keptName`` instead.
    var kept: UInt64?
    /// Called before each rename; a test throws here.
    var beforeEach: () throws -> Void = {}

    /// Where a copy is made.
    static let copyName: FilePath.Component = ".sync"
    /// The last full snapshot, kept although its level has dropped it, while newer ones are partial or much smaller
    /// (``SnapshotTree/replaces(_:)``).
    static let keptName: FilePath.Component = ".full"
    private static let trashPrefix = ".trash-"

    static func name(_ level: String, _ index: Int) -> FilePath.Component { .named("\(level).\(index)") }

    static func isTrash(_ name: FilePath.Component) -> Bool { name.string.hasPrefix(trashPrefix) }

    /// Makes a snapshot the newest of a level.
    /// - Parameters:
    ///   - inode: the new snapshot's.
    ///   - source: its name before the first rename.
    ///   - retain: how many snapshots the level keeps, at least 1.
    func put(_ inode: UInt64, from source: FilePath.Component, before level: String, retain: Int) throws {
        if try snapshots.inode(of: Self.name(level, 0)) == inode { return }
        guard try snapshots.inode(of: source) == inode else {
            throw JobOutcome(
                .failed, failureClass: .permanent,
                message:
                    "the finished copy \(snapshots.path.appending(source)) is gone; it was moved or removed by another "
                    + "process; no snapshot was changed")
        }
        let hole = try (0..<retain).first { try snapshots.inode(of: Self.name(level, $0)) == nil }
        if hole == nil { try drop(Self.name(level, retain - 1)) }
        for index in (0..<(hole ?? retain - 1)).reversed() {
            try rename(Self.name(level, index), Self.name(level, index + 1))
        }
        try rename(source, Self.name(level, 0))
    }

    /// Drops the snapshots beyond the level's number, if it has that number of newer ones.
    func trim(_ level: String, to retain: Int) throws {
        let indices = try snapshots.snapshots().filter { $0.level.rawValue == level }.map(\.index)
        guard Set(indices).isSuperset(of: 0..<retain) else { return }
        for index in indices.sorted() where index >= retain { try drop(Self.name(level, index)) }
    }

    /// Takes a snapshot out of its level.
    func drop(_ name: FilePath.Component) throws {
        guard let inode = try snapshots.inode(of: name) else { return }
        if inode == kept {
            if let older = try snapshots.inode(of: Self.keptName) { try rename(Self.keptName, Self.trash(older)) }
            try rename(name, Self.keptName)
        } else {
            try rename(name, Self.trash(inode))
        }
    }

    private static func trash(_ inode: UInt64) -> FilePath.Component { .named("\(trashPrefix)\(inode)") }

    private func rename(_ old: FilePath.Component, _ new: FilePath.Component) throws {
        try beforeEach()
        guard try snapshots.directory.rename(old, into: snapshots.directory, as: new) else {
            throw snapshots.directory.failure("rename \(old) to", new, .fileExists)
        }
    }
}
