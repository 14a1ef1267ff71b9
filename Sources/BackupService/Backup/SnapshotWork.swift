import FoundationEssentials
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// The steps of a job on an account's snapshots; all of them block. After a crash between any two calls the next job's ``begin(_:open:isCancelled:)``
/// completes the interrupted one, or leaves the snapshots unchanged.
///
/// `.sync` is a copy in progress or a finished one; only the state file tells which. `.partial` is an interrupted copy that will be
/// continued. `.trash-…` is to be removed. Specification: snapshots.md#the-run.
/// Errors: `HeldDirectory.Failure`, `TreeWalk.LimitExceeded`, `CancellationError`.
struct SnapshotWork: Sendable {
    /// A copy that rsync has ended.
    struct FinishedCopy: Sendable {
        var end: SnapshotState.End
        /// Whether there were files to copy.
        var hadUploads: Bool
        /// Counted by rsync; nil: unknown.
        var names: UInt64?
        /// The file system that ``prepareCopy(isCancelled:)`` opened.
        var fileSystem: HeldDirectory
    }

    let snapshots: SnapshotDirectory
    let configured: ConfiguredSnapshots
    let sandbox: CopySandbox
    let clock: any WallClock
    /// The state that is recorded, or will be; empty before ``begin(_:open:isCancelled:)``.
    var state = SnapshotState()

    /// An interrupted copy, whose files the next one links.
    static let partialName: FilePath.Component = ".partial"
    /// The names of copies in progress or interrupted.
    static let unfinishedNames: Set<FilePath.Component> = [SnapshotRotation.copyName, partialName, closedName]
    private static let runConfigurationName: FilePath.Component = ".copy.conf"
    /// With BACKUP_SANDBOX = root, copies are made in a directory that the customer cannot enter.
    private static let closedName: FilePath.Component = ".work"
    private static let closedCopyName: FilePath.Component = "sync"

    /// The kernel's random identifier of this boot (proc_sys_kernel(5)); nil: it cannot be read.
    static let boot = try? FileDescriptor.text(at: "/proc/sys/kernel/random/boot_id")

    var directory: HeldDirectory { snapshots.directory }

    /// Whether this process sees the mounts of the machine: in a mount namespace of its own, such as a unit can have, all numbers of mounts are new at
    /// each start.
    private static let seesMachine =
        getpid() != 1
        && (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/mnt"))
            == (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/1/ns/mnt"))

    /// The boot and the mount. With the end of either, what was not flushed may be lost; nil: unknown.
    private var mounted: String? { Self.boot.map { "\($0) \(Self.seesMachine ? directory.mountNumber : 0)" } }

    // MARK: - Begin

    /// Completes an interrupted job, and records the beginning of this one.
    /// - Returns: warnings.
    mutating func begin(_ job: Job, open: [Job], isCancelled: @escaping @Sendable () -> Bool) throws -> [String] {
        var warnings: [String] = []
        do {
            state = try snapshots.state()
        } catch let error as DecodingError {
            try snapshots.setDamagedStateAside()
            warnings.append(
                "the state file in \(snapshots.path) was damaged (\(error)) and is now .state.damaged; no action "
                    + "is needed")
            state = SnapshotState()
        }
        if let warning = try findFullCopy(isCancelled: isCancelled) { warnings.append(warning) }
        if state.rotation != nil {
            do {
                try rotate()
            } catch let lost as JobOutcome {
                warnings.append(lost.message)
                state.rotation = nil
            }
        }
        state.forgetCompleted(except: open)
        state.lastAttempt = SnapshotState.Attempt(
            job: job.id.number, level: job.level, began: clock.now.secondsSince1970, message: "")
        try recordIfRoom()
        return warnings
    }

    /// Records that TIMEOUT has stopped a job before its attempt was recorded.
    func recordTimeLimit() throws {
        do {
            var work = self
            work.state = try snapshots.state()
            work.state.copyHitTimeLimit = true
            try work.recordIfRoom()
        } catch is DecodingError {}  // The next job renames it.
    }

    /// Records how the attempt ended.
    mutating func end(_ result: JobResult, _ message: String) throws {
        let now = clock.now.secondsSince1970
        state.lastAttempt?.ended = now
        state.lastAttempt?.result = result.rawValue
        state.lastAttempt?.message = String(message.prefix(1_000))
        try recordIfRoom()
    }

    /// Records the state if no later step relies on it. On a full disk or quota (that of btrfs binds root too) nothing is recorded, so that the job can make room.
    private func recordIfRoom() throws {
        do {
            try snapshots.record(state)
        } catch let failure as HeldDirectory.Failure where failure.isLackOfRoom {}
    }

    // MARK: - Copy

    /// Makes room for a copy, and its directory.
    /// - Returns: the path of the run's configuration, the file system for ``inspect``, and why a dropped snapshot could not be removed, which does
    ///   not prevent the copy.
    mutating func prepareCopy(
        isCancelled: @escaping @Sendable () -> Bool
    ) throws -> (configuration: FilePath, fileSystem: HeldDirectory, unremoved: JobOutcome?) {
        var unremoved: JobOutcome?
        do {
            try trimAndEmptyTrash(isCancelled: isCancelled)
        } catch let error where Self.isUnremovable(error) {
            unremoved = RsnapshotBackup.outcome(of: error)
        }
        let isPartialFlushed = try keepReliable(isCancelled: isCancelled)
        state.unfinished = mounted.map { .written(boot: $0, isPartialFlushed: isPartialFlushed) }
        try snapshots.record(state)
        let isClosed = sandbox.confinement == .root
        if isClosed {
            try directory.removeFile(SnapshotRotation.copyName)
            _ = try directory.makeDirectory(Self.closedName)
            _ = try existing(Self.closedName).makeDirectory(Self.closedCopyName)
            try directory.link(
                SnapshotRotation.copyName, to: FilePath("\(Self.closedName)/\(Self.closedCopyName)"))
        } else {
            _ = try directory.makeDirectory(SnapshotRotation.copyName)
            try existing(SnapshotRotation.copyName).set(owner: sandbox.account, mode: 0o700)
        }
        let partial = try snapshots.inode(of: Self.partialName).map { _ in snapshots.path.appending(Self.partialName) }
        let text = configured.runConfiguration(root: snapshots.path, rsync: sandbox.rsyncOfRsnapshot, partial: partial)
        try directory.write(Array(text.utf8), to: Self.runConfigurationName, mode: 0o644)
        return (snapshots.path.appending(Self.runConfigurationName), try directory.readable(), unremoved)
    }

    /// Flushes an unfinished copy, so that it can be continued after the end of the boot as well.
    mutating func flushUnfinishedCopy(_ fileSystem: HeldDirectory) throws {
        try flush(fileSystem)
        state.unfinished = .flushed
        try recordIfRoom()
    }

    /// Flushes a file system. If that fails, the copy must not be continued: the kernel does not report the failure again. It becomes trash, and the
    /// state forgets it; either is enough, and on a disk without room the other may fail. On a disk that takes nothing both fail, until it is mounted again.
    private mutating func flush(_ fileSystem: HeldDirectory) throws {
        do throws(HeldDirectory.Failure) {
            try fileSystem.synchronizeFileSystem()
        } catch {
            state.unfinished = nil
            try? recordIfRoom()
            try? reopenClosedCopy()
            for name in [SnapshotRotation.copyName, Self.partialName] { try? rotation.drop(name) }
            throw error
        }
    }

    /// Removes snapshots beyond the levels' numbers and dropped ones; nothing if it is unknown which snapshot must be kept.
    func makeRoom(isCancelled: @escaping @Sendable () -> Bool) throws {
        do {
            var work = self
            work.state = try snapshots.state()
            // The next job guesses, and warns.
            guard try work.findFullCopy(isCancelled: isCancelled) == nil else { return }
            try work.trimAndEmptyTrash(isCancelled: isCancelled)
        } catch is DecodingError {
        } catch let error where Self.isUnremovable(error) {}
    }

    private mutating func trimAndEmptyTrash(isCancelled: @escaping @Sendable () -> Bool) throws {
        for level in configured.levels { try rotation.trim(level.name, to: level.retain) }
        try emptyTrash(isCancelled: isCancelled)
    }

    /// Keeps of unfinished copies what can be relied on, as `.partial`.
    /// - Returns: whether that is flushed; false if there is none.
    private func keepReliable(isCancelled: @escaping @Sendable () -> Bool) throws -> Bool {
        let former = try snapshots.inode(of: Self.partialName)
        switch state.unfinished {
        case .flushed:
            try keepPartial(isCancelled: isCancelled)
            return try snapshots.inode(of: Self.partialName) != nil
        case .written(let boot, let isPartialFlushed) where boot == mounted:
            try reopenClosedCopy()
            if isPartialFlushed, try snapshots.inode(of: SnapshotRotation.copyName) != nil {
                // Before the copy, which is not flushed, can have the name of the flushed one.
                var unflushed = state
                unflushed.unfinished = .written(boot: boot, isPartialFlushed: false)
                do {
                    try snapshots.record(unflushed)
                } catch let failure as HeldDirectory.Failure where failure.isLackOfRoom {
                    // It gives way, so that there is room again.
                    try remove(SnapshotRotation.copyName, isCancelled)
                    return former != nil
                }
            }
            try keepPartial(isCancelled: isCancelled)
            return try isPartialFlushed && former != nil && former == snapshots.inode(of: Self.partialName)
        case .written(_, isPartialFlushed: true):
            try reopenClosedCopy()
            try remove(SnapshotRotation.copyName, isCancelled)
            return former != nil
        case nil, .written:
            try discardCopy(isCancelled: isCancelled)
            return false
        }
    }

    /// Renames an unfinished copy to `.partial`, unless an earlier one is larger.
    private func keepPartial(isCancelled: @escaping @Sendable () -> Bool) throws {
        try reopenClosedCopy()
        let name = SnapshotRotation.copyName
        guard let copy = try directory.directory(name) else { return }
        if try copy.isEmpty() { return try directory.removeEmptyDirectory(name) }
        let limit = state.sizes.nameLimit(of: nil)
        if try directory.directory(Self.partialName) != nil {
            func bytes(_ name: FilePath.Component) throws -> UInt64 {
                do {
                    return try SnapshotCounter(directory, state.sizes, isCancelled: isCancelled)
                        .count(name, limit: limit).bytes
                } catch let error where Self.isUnremovable(error) {
                    return 0
                }
            }
            if try bytes(name) < bytes(Self.partialName) { return try remove(name, isCancelled) }
            try remove(Self.partialName, isCancelled)
        }
        _ = try directory.rename(name, into: directory, as: Self.partialName)
    }

    /// Removes a copy that cannot be finished, and the one that it continues.
    func discardCopy(isCancelled: @escaping @Sendable () -> Bool) throws {
        try reopenClosedCopy()
        for name in [SnapshotRotation.copyName, Self.partialName] { try remove(name, isCancelled) }
    }

    /// Removes an unfinished copy. One that cannot be removed becomes a dropped snapshot, so that it is in no copy's way.
    private func remove(_ name: FilePath.Component, _ isCancelled: @escaping @Sendable () -> Bool) throws {
        do {
            try TreeRemoval(limit: state.sizes.nameLimit(of: nil), isCancelled: isCancelled).remove(name, in: directory)
        } catch let error where Self.isUnremovable(error) {
            guard try snapshots.inode(of: name) != nil else { throw error }
            try rotation.drop(name)
        }
    }

    /// Whether an error concerns the tree that was read or removed, such as a damaged directory.
    private static func isUnremovable(_ error: any Error) -> Bool {
        switch error {
        case let failure as HeldDirectory.Failure: failure.isDamage
        case is TreeWalk.LimitExceeded: true
        default: false
        }
    }

    /// Moves a copy that was made in the closed directory to `.sync`.
    private func reopenClosedCopy() throws {
        guard let closed = try directory.directory(Self.closedName) else { return }
        let name = SnapshotRotation.copyName
        if let status = try directory.status(of: name), status.st_mode & S_IFMT == S_IFLNK {
            try directory.removeFile(name)
        }
        if try closed.status(of: Self.closedCopyName) != nil {
            _ = try closed.rename(Self.closedCopyName, into: directory, as: name)
        }
        try directory.removeEmptyDirectory(Self.closedName)
    }

    private func existing(_ name: FilePath.Component) throws -> HeldDirectory {
        guard let found = try directory.directory(name) else {
            throw directory.failure("open", name, .noSuchFileOrDirectory)
        }
        return found
    }

    // MARK: - Inspect

    /// Inspects the finished copy on the disk and records that it is finished.
    /// - Throws: a failed `JobOutcome` for a copy that must not become a snapshot.
    mutating func inspect(
        _ copied: FinishedCopy, job: Job, uid: String, isCancelled: @escaping @Sendable () -> Bool
    ) throws -> SnapshotTree {
        func refusal(_ reason: String) -> JobOutcome {
            JobOutcome(
                .failed, failureClass: .permanent,
                message: "\(reason); no snapshot was changed; see the job's output, and run the backup again")
        }
        try reopenClosedCopy()
        let name = SnapshotRotation.copyName
        guard try snapshots.inode(of: name) != nil else {
            throw refusal("\(snapshots.path)/\(name) is missing or not a directory")
        }
        let counter = SnapshotCounter(directory, state.sizes, isCancelled: isCancelled)
        var warnings: [String] = []
        if let previous = try linkedSnapshot() {
            do {
                try counter.count(previous, .namesOnly)
            } catch let failure as HeldDirectory.Failure where failure.isDamage {
                warnings.append("\(previous) is damaged: \(failure); check the file system (fsck)")
            }
        }
        var copy = try counter.count(name, limit: copied.names.map(NameLimit.counted))
        var end = copied.end
        copy.isWhole = end.isWhole
        let isEmpty = copy.names == 0
        // Of a whole copy rsync counts the top directory alone where the template excludes all there is.
        let isRightlyEmpty = !copied.hadUploads || end.isWhole && copied.names == 1
        guard !isEmpty || isRightlyEmpty else {
            let cause = end.warning.isEmpty ? "" : ": \(end.warning)"
            throw refusal("the copy is empty and the uploads are not\(cause)")
        }
        let exclusion =
            isEmpty && copied.hadUploads
            ? "nothing was copied: RSNAPSHOT_TEMPLATE excludes all uploads of the account; correct it if it should not"
            : nil
        warnings += [exclusion, copy.warning(after: state.fullCopy, uid: uid)].compactMap(\.self)
        if !end.warning.isEmpty { warnings.insert(end.warning, at: 0) }
        end.warning = warnings.joined(separator: "; ")
        try flush(copied.fileSystem)
        state.rotation = SnapshotState.Rotation(
            level: job.level, inode: copy.inode, source: name.string, job: .init(job), copy: copy, end: end,
            finished: clock.now.secondsSince1970)
        try snapshots.record(state)
        return copy
    }

    /// The snapshot whose unchanged files rsnapshot has linked, as it finds it (`rsync_backup_point`): the first that exists, level by level. Where the
    /// level that copies is new, that is one of a larger level.
    private func linkedSnapshot() throws -> FilePath.Component? {
        try configured.levels.lazy
            .flatMap { level in (0..<level.retain).lazy.map { SnapshotRotation.name(level.name, $0) } }
            .first { try snapshots.inode(of: $0) != nil }
    }

    // MARK: - Rotate

    /// Records that the level takes over its source.
    /// - Returns: false if there is nothing to take over; the job is then recorded as completed.
    mutating func takeOver(_ source: FilePath.Component, job: Job) throws -> Bool {
        guard let inode = try snapshots.inode(of: source) else {
            state.complete(.init(job), level: job.level, .init(isWhole: false), at: clock.now)
            try snapshots.record(state)
            return false
        }
        state.rotation = SnapshotState.Rotation(
            level: job.level, inode: inode, source: source.string, job: .init(job), copy: nil,
            end: .init(isWhole: true),
            finished: clock.now.secondsSince1970)
        try snapshots.record(state)
        return true
    }

    /// Completes the recorded rotation, and records that. It takes milliseconds and must not be interrupted.
    mutating func rotate() throws {
        guard let next = state.rotation else { return }
        guard let retain = configured.retain(next.level) else {
            // The level is no longer used.
            state.rotation = nil
            return try recordIfRoom()
        }
        try rotation.put(next.inode, from: .named(next.source), before: next.level, retain: retain)
        if let copy = next.copy {
            if copy.replaces(state.fullCopy) { state.fullCopy = copy }
            state.lastCopy = copy
            state.sizes.add(inode: copy.inode, bytes: copy.bytes, ownBytes: copy.ownBytes, names: copy.names)
        }
        state.rotation = nil
        // A rotation that a later job completes does not make the copy newer.
        let finished = next.finished.map { Timestamp(secondsSince1970: $0) } ?? clock.now
        state.complete(next.job, level: next.level, next.end, at: min(finished, clock.now))
        try directory.synchronize()
        // If this is lost, the next job finds the snapshot in its place and completes the rotation.
        try recordIfRoom()
    }

    private var rotation: SnapshotRotation {
        SnapshotRotation(snapshots: snapshots, kept: state.fullCopy.map(\.inode))
    }

    // MARK: - Clean up

    /// Removes dropped snapshots, the copy that was continued, and a full snapshot that is no longer kept.
    /// - Parameter hasCopied: whether the job has made a copy.
    mutating func cleanUp(hasCopied: Bool, isCancelled: @escaping @Sendable () -> Bool) throws {
        if let kept = try snapshots.inode(of: SnapshotRotation.keptName), kept != state.fullCopy?.inode {
            try rotation.drop(SnapshotRotation.keptName)
        }
        // First, so that only snapshots share the files that are removed after it.
        if hasCopied { try remove(Self.partialName, isCancelled) }
        try emptyTrash(isCancelled: isCancelled)
    }

    /// Removes all dropped snapshots that can be removed.
    /// - Throws: at the end, why one could not be removed.
    private mutating func emptyTrash(isCancelled: @escaping @Sendable () -> Bool) throws {
        var unremoved: (any Error)?
        for name in try directory.names() where SnapshotRotation.isTrash(name) {
            do {
                try emptyTrash(name, isCancelled)
            } catch let error where Self.isUnremovable(error) {
                unremoved = unremoved ?? error
            }
        }
        if let unremoved { throw unremoved }
    }

    private mutating func emptyTrash(
        _ name: FilePath.Component, _ isCancelled: @escaping @Sendable () -> Bool
    ) throws {
        let inode = try snapshots.inode(of: name)
        if let inode {
            state.sizes.beginRemoval(of: inode)
            try recordIfRoom()
        }
        let freed = try TreeRemoval(limit: state.sizes.nameLimit(of: inode), isCancelled: isCancelled)
            .remove(name, in: directory)
        if let inode {
            state.sizes.endRemoval(of: inode, freed: freed)
            try recordIfRoom()
        }
    }
}

extension HeldDirectory.Failure {
    /// What was read or removed is damaged or in the way; nothing else that is on the disk need be.
    var isDamage: Bool { cause == .ioError || !cause.isShortage }

    /// The disk, or the quota, is full.
    fileprivate var isLackOfRoom: Bool { [.noSpace, .diskQuotaExceeded].contains(cause) }
}
