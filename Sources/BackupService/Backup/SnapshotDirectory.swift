import Glibc
package import JobCore
package import Provisioning
import SystemPackage

/// One snapshot on the disk, `LEVEL.INDEX`.
package struct Snapshot: Hashable, Sendable {
    /// Its level.
    package var level: SnapshotLevel
    /// 0 is the newest of the level.
    package var index: Int
    /// When its top directory was last changed, which is when the copy ended.
    package var time: Timestamp
}

/// The directory that holds an account's snapshots and their state file, open.
///
/// It is root's, so its names change by the daemon's hand alone; what lies inside the snapshots is the account's and hostile.
/// Diagnostics: `HeldDirectory.Failure`.
struct SnapshotDirectory {
    let directory: HeldDirectory

    /// The state file.
    static let stateName: FilePath.Component = ".state"
    private static let damagedStateName: FilePath.Component = ".state.damaged"

    /// - Returns: nil where the home or its snapshots do not exist.
    static func open(in home: HomePath) throws -> SnapshotDirectory? {
        try HomeWalk(to: home).snapshots().map(SnapshotDirectory.init)
    }

    var path: FilePath { directory.path }

    // MARK: - Snapshots

    /// All snapshots, in no order; other names are left out.
    func snapshots() throws(HeldDirectory.Failure) -> [Snapshot] {
        var found: [Snapshot] = []
        for name in try directory.names() {
            let parts = name.string.split(separator: ".", omittingEmptySubsequences: false)
            guard parts.count == 2, let level = SnapshotLevel(rawValue: String(parts[0])),
                let index = EntryReader.decimal(String(parts[1])), index <= 999,
                let status = try directory.status(of: name), status.st_mode & S_IFMT == S_IFDIR
            else { continue }
            found.append(
                Snapshot(
                    level: level, index: Int(index), time: Timestamp(secondsSince1970: Int64(status.st_mtim.tv_sec))))
        }
        return found
    }

    /// The inode of a directory of that name; nil where there is none, or something else.
    func inode(of name: FilePath.Component) throws(HeldDirectory.Failure) -> UInt64? {
        guard let status = try directory.status(of: name), status.st_mode & S_IFMT == S_IFDIR else { return nil }
        return UInt64(status.st_ino)
    }

    // MARK: - State

    /// What is recorded; an empty state where nothing is.
    /// - Throws: `HeldDirectory.Failure`, or `DecodingError` for a file that is damaged.
    func state() throws -> SnapshotState {
        guard let bytes = try directory.contents(of: Self.stateName) else { return SnapshotState() }
        return try SnapshotState(decoding: bytes)
    }

    /// What is recorded of the snapshots' sizes; nothing where that cannot be read, or the account could have written it.
    var sizes: SizeRecord {
        guard let status = try? directory.status(), HomeWalk.objection(to: status) == nil else { return SizeRecord() }
        return (try? state().sizes) ?? SizeRecord()
    }

    /// Replaces what is recorded. When this returns it outlasts a loss of power.
    func record(_ state: SnapshotState) throws {
        try directory.write(try state.encoded(), to: Self.stateName)
    }

    /// Moves a damaged state file out of the way; an older damaged one is replaced.
    func setDamagedStateAside() throws(HeldDirectory.Failure) {
        try directory.removeFile(Self.damagedStateName)
        _ = try directory.rename(Self.stateName, into: directory, as: Self.damagedStateName)
    }
}

extension BackupJobs {
    /// What is recorded of an account's snapshots. It looks at the disk.
    /// - Parameter account: with the attributes of `BackupAttribute.all`.
    /// - Returns: nil where the account has no home or no snapshots yet.
    /// - Throws: `ProvisioningFailure`, `HeldDirectory.Failure`, or `DecodingError` for a damaged file.
    package static func state(of account: Account, _ configuration: BackupConfiguration) throws -> SnapshotState? {
        let described = try BackupAccount(reading: account.entry, for: .modify, places: configuration.places)
        guard case .given(let home) = try HomeChoice(configuration: configuration).place(of: described) else {
            return nil
        }
        return try SnapshotDirectory.open(in: home)?.state()
    }
}
