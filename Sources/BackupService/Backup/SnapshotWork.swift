import Glibc
import JobCore
import Provisioning
import SystemPackage

/// What one job does to an account's snapshots, call by call; all of it blocks. After a crash between any two calls the next job's
/// ``begin(_:)`` brings the snapshots to where this one would have, or leaves them as they were.
///
/// `.sync` is a copy that is being made or was finished; only the state file tells which. `.partial` is one that was cut off and is
/// continued. `.trash-…` is removed when there is time. Specification: snapshots.md#the-run.
/// Diagnostics: `HeldDirectory.Failure`, `CancellationError`.
struct SnapshotWork: Sendable {
    let snapshots: SnapshotDirectory
    let configured: ConfiguredSnapshots
    let sandbox: CopySandbox
    let clock: any WallClock

    /// A copy that was cut off. The next one links what it has already.
    static let partialName: FilePath.Component = ".partial"
    /// Of copies that are being made or were cut off.
    static let unfinishedNames: Set<FilePath.Component> = [SnapshotRotation.copyName, partialName, closedName]
    private static let runConfigurationName: FilePath.Component = ".copy.conf"
    /// With BACKUP_SANDBOX = root: a directory that the customer cannot enter while root writes there.
    private static let closedName: FilePath.Component = ".work"
    private static let closedCopyName: FilePath.Component = "sync"

    private var directory: HeldDirectory { snapshots.directory }

    // MARK: - Begin

    /// Completes what an earlier job left, and records that this one begins.
    /// - Returns: what is recorded, the attempt before this one, and what was wrong.
    func begin(_ job: Job, isCancelled: @escaping @Sendable () -> Bool) throws -> (
        state: SnapshotState, previous: SnapshotState.Attempt?, warnings: [String]
    ) {
        var warnings: [String] = []
        var state: SnapshotState
        do {
            state = try snapshots.state()
        } catch let error as DecodingError {
            try snapshots.setDamagedStateAside()
            warnings.append(
                "the state file in \(snapshots.path) was damaged (\(error)) and is now .state.damaged; nothing needs to be "
                    + "done")
            state = SnapshotState()
        }
        if let warning = try findFullCopy(&state, isCancelled: isCancelled) { warnings.append(warning) }
        if state.rotation != nil {
            do {
                try rotate(&state)
            } catch let lost as SnapshotRotation.Lost {
                warnings.append("\(lost)")
                state.rotation = nil
            }
        }
        let previous = state.lastAttempt
        state.lastAttempt = SnapshotState.Attempt(
            job: job.id.number, level: job.level, began: clock.now.secondsSince1970, message: "")
        try recordIfRoom(state)
        return (state, previous, warnings)
    }

    /// Records that the time limit has ended a job before its attempt was recorded.
    func recordTimeLimit() throws {
        do {
            var state = try snapshots.state()
            state.copyHitTimeLimit = true
            try recordIfRoom(state)
        } catch is DecodingError {}  // The next job sets it aside.
    }

    /// The last full copy is known by its inode. Where that is not known any more, since the state file was lost or the volume was moved, it is
    /// found by its name: nothing is to be dropped because a record is missing.
    /// - Returns: a warning where a guess had to be made.
    private func findFullCopy(_ state: inout SnapshotState, isCancelled: @escaping () -> Bool) throws -> String? {
        let kept = try snapshots.inode(of: SnapshotRotation.keptName)
        guard let full = state.fullCopy else {
            guard let kept else { return nil }
            let tree = try SnapshotTree.walk(
                SnapshotRotation.keptName, in: directory, previous: nil, limit: limit(state), isCancelled: isCancelled)
            state.fullCopy = .init(
                inode: kept, files: UInt64(tree.files), bytes: tree.bytes, names: UInt64(tree.entries))
            return nil
        }
        guard try !directory.names().contains(where: { try snapshots.inode(of: $0) == full.inode }) else { return nil }
        let hasShrunk = state.lastCopy != full
        let candidate = try configured.levels.lazy.compactMap { try snapshot(of: $0.name, isNewest: !hasShrunk) }.first
        guard let name = hasShrunk && kept != nil ? SnapshotRotation.keptName : candidate,
            let inode = try snapshots.inode(of: name)
        else { return nil }
        state.fullCopy?.inode = inode
        guard hasShrunk else {
            state.lastCopy?.inode = inode
            return nil
        }
        return
            "the last full snapshot is not there under its inode, as after the volume was moved; \(name) is taken for it and kept"
    }

    /// The newest or the oldest snapshot of a level; nil: it has none.
    private func snapshot(of level: String, isNewest: Bool) throws -> FilePath.Component? {
        let indices = try snapshots.snapshots().filter { $0.level.rawValue == level }.map(\.index)
        return (isNewest ? indices.min() : indices.max()).map { SnapshotRotation.name(level, $0) }
    }

    /// Records how the attempt ended.
    func end(_ state: inout SnapshotState, _ result: JobResult, _ message: String) throws {
        state.lastAttempt?.ended = clock.now.secondsSince1970
        state.lastAttempt?.result = result.rawValue
        state.lastAttempt?.message = String(message.prefix(1_000))
        try recordIfRoom(state)
    }

    /// Records what no later step relies on. A disk without a free byte must not keep a job from making room on it, so there it is left to
    /// the next record.
    private func recordIfRoom(_ state: SnapshotState) throws {
        do {
            try snapshots.record(state)
        } catch let failure as HeldDirectory.Failure where failure.cause == .noSpace {}
    }

    // MARK: - Copy

    /// Makes room for a copy and the directory in which it is made.
    /// - Returns: the path of the run's configuration.
    func prepareCopy(_ state: inout SnapshotState, isCancelled: @escaping @Sendable () -> Bool) throws -> FilePath {
        try makeRoom(&state, isCancelled: isCancelled)
        try keepPartial(state, isCancelled: isCancelled)
        let isClosed = sandbox.confinement == .root
        if isClosed {
            try directory.removeFile(SnapshotRotation.copyName)
            _ = try directory.makeDirectory(Self.closedName)
            let closed = try existing(Self.closedName, in: directory)
            _ = try closed.makeDirectory(Self.closedCopyName)
            try directory.link(
                SnapshotRotation.copyName, to: FilePath("\(Self.closedName)/\(Self.closedCopyName)"))
        } else {
            _ = try directory.makeDirectory(SnapshotRotation.copyName)
            let copy = try existing(SnapshotRotation.copyName, in: directory)
            try copy.set(owner: sandbox.account.map { ($0.uid, $0.gid) }, mode: 0o700)
        }
        let partial = try snapshots.inode(of: Self.partialName).map { _ in snapshots.path.appending(Self.partialName) }
        let text = configured.runConfiguration(root: snapshots.path, rsync: sandbox.rsync, partial: partial)
        try directory.write(Array(text.utf8), to: Self.runConfigurationName, mode: 0o644)
        return snapshots.path.appending(Self.runConfigurationName)
    }

    /// Removes what the levels keep beyond their numbers, and what they have dropped; nothing where it is not known which snapshot has to be kept.
    func makeRoom(isCancelled: @escaping @Sendable () -> Bool) throws {
        do {
            var state = try snapshots.state()
            // Where it has to be guessed, the next job does that and says so.
            guard try findFullCopy(&state, isCancelled: isCancelled) == nil else { return }
            try makeRoom(&state, isCancelled: isCancelled)
        } catch is DecodingError {}
    }

    private func makeRoom(_ state: inout SnapshotState, isCancelled: @escaping @Sendable () -> Bool) throws {
        for level in configured.levels { try rotation(state).trim(level.name, to: level.retain) }
        try emptyTrash(&state, isCancelled: isCancelled)
    }

    /// A copy that was begun and is not recorded as finished becomes the one to continue, unless an earlier one had come further.
    private func keepPartial(_ state: SnapshotState, isCancelled: @escaping @Sendable () -> Bool) throws {
        try reopenClosedCopy()
        let name = SnapshotRotation.copyName
        guard let copy = try directory.directory(name) else { return }
        if try copy.isEmpty() { return try directory.removeEmptyDirectory(name) }
        let limit = state.sizes.nameLimit(of: nil)
        let removal = TreeRemoval(limit: limit, isCancelled: isCancelled)
        if try directory.directory(Self.partialName) != nil {
            let (new, old) = (
                try bytes(of: name, limit, isCancelled), try bytes(of: Self.partialName, limit, isCancelled)
            )
            // It was cut off before it came as far as the one that it continued.
            if new < old { return try removal.remove(name, in: directory) }
            try removal.remove(Self.partialName, in: directory)
        }
        _ = try directory.rename(name, into: directory, as: Self.partialName)
    }

    private func bytes(
        of name: FilePath.Component, _ limit: NameLimit, _ isCancelled: @escaping @Sendable () -> Bool
    ) throws -> UInt64 {
        try SnapshotTree.walk(name, in: directory, previous: nil, limit: { _ in limit }, isCancelled: isCancelled).bytes
    }

    /// Removes a copy that cannot be finished, and the one that it continued.
    func discardCopy(_ state: SnapshotState, isCancelled: @escaping @Sendable () -> Bool) throws {
        try reopenClosedCopy()
        for name in [SnapshotRotation.copyName, Self.partialName] {
            try TreeRemoval(limit: state.sizes.nameLimit(of: nil), isCancelled: isCancelled).remove(name, in: directory)
        }
    }

    /// Moves a copy that was made in the closed directory to where the others are made.
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

    private func existing(_ name: FilePath.Component, in parent: HeldDirectory) throws -> HeldDirectory {
        guard let directory = try parent.directory(name) else {
            throw HeldDirectory.Failure(
                operation: "open", path: parent.path.appending(name), cause: .noSuchFileOrDirectory)
        }
        return directory
    }

    // MARK: - Inspect

    /// Why a copy that its programs call whole must not become a snapshot.
    struct Unfit: Error, Hashable {
        var reason: String
    }

    /// Looks at the finished copy on the disk and records that it is finished.
    /// - Parameters:
    ///   - hadUploads: whether there was anything to copy before the copy began.
    ///   - names: that rsync counted in it; nil: it told of none.
    /// - Returns: what it holds.
    /// - Throws: ``Unfit``.
    func inspect(
        _ state: inout SnapshotState, job: Job, uid: String, hadUploads: Bool, names: UInt64?, _ end: SnapshotState.End,
        isCancelled: @escaping @Sendable () -> Bool
    ) throws -> SnapshotTree {
        try reopenClosedCopy()
        let name = SnapshotRotation.copyName
        guard let inode = try snapshots.inode(of: name) else {
            throw Unfit(reason: "\(snapshots.path)/\(name) is not there, or no directory")
        }
        let newest = configured.levels.first.map { SnapshotRotation.name($0.name, 0) }
        let previous = try newest.flatMap { try snapshots.inode(of: $0) == nil ? nil : $0 }
        let others = limit(state)
        let tree = try SnapshotTree.walk(
            name, in: directory, previous: previous,
            limit: { if $0 == name, let names { .counted(names) } else { try others($0) } }, isCancelled: isCancelled)
        guard !tree.isEmpty || !hadUploads else {
            throw Unfit(reason: "the copy is empty and the uploads are not")
        }
        let copy = SnapshotState.CopiedTree(
            inode: inode, files: UInt64(tree.files), bytes: tree.bytes, ownBytes: tree.ownBytes,
            names: UInt64(tree.entries))
        var end = end
        if let warning = ShrinkAlarm.warning(for: copy, after: state.fullCopy, uid: uid) {
            end.warning += (end.warning.isEmpty ? "" : "; ") + warning
        }
        try directory.synchronizeFileSystem()
        state.rotation = SnapshotState.Rotation(
            level: job.level, inode: inode, source: name.string, job: .init(job), copy: copy, end: end)
        try snapshots.record(state)
        return tree
    }

    // MARK: - Rotate

    /// Records that the level takes over its source.
    /// - Returns: false when there is nothing to take over; that is recorded as an orderly end.
    func takeOver(_ state: inout SnapshotState, job: Job, from source: FilePath.Component) throws -> Bool {
        guard let inode = try snapshots.inode(of: source) else {
            state.complete(.init(job), level: job.level, .init(isWhole: false), at: clock.now)
            try snapshots.record(state)
            return false
        }
        state.rotation = SnapshotState.Rotation(
            level: job.level, inode: inode, source: source.string, job: .init(job), copy: nil, end: .init(isWhole: true)
        )
        try snapshots.record(state)
        return true
    }

    /// Puts the recorded snapshot in front of its level, and records that. It is not to be cut off, and takes milliseconds.
    func rotate(_ state: inout SnapshotState) throws {
        guard let next = state.rotation else { return }
        guard let retain = configured.retain(next.level) else {
            // The level was switched off meanwhile: nothing takes the snapshot any more.
            state.rotation = nil
            return try recordIfRoom(state)
        }
        try rotation(state).put(next.inode, from: .named(next.source), before: next.level, retain: retain)
        if let copy = next.copy {
            if ShrinkAlarm.warning(for: copy, after: state.fullCopy, uid: "") == nil { state.fullCopy = copy }
            state.lastCopy = copy
            state.sizes.add(inode: copy.inode, bytes: copy.bytes, ownBytes: copy.ownBytes, names: copy.names)
        }
        state.rotation = nil
        state.complete(next.job, level: next.level, next.end, at: clock.now)
        try directory.synchronize()
        // Without it, the next job finds the snapshot in its place and completes this.
        try recordIfRoom(state)
    }

    private func rotation(_ state: SnapshotState) -> SnapshotRotation {
        SnapshotRotation(snapshots: snapshots, kept: state.fullCopy.map(\.inode))
    }

    // MARK: - Clean up

    /// Removes what the levels have dropped, the copy that was continued, and a full snapshot that is not needed any more.
    /// - Parameter hasCopied: whether the job has made a copy; a larger level has not, and continues nothing.
    func cleanUp(_ state: inout SnapshotState, hasCopied: Bool, isCancelled: @escaping @Sendable () -> Bool) throws {
        if let kept = try snapshots.inode(of: SnapshotRotation.keptName), kept != state.fullCopy?.inode {
            try rotation(state).drop(SnapshotRotation.keptName)
        }
        // First, so that nothing but snapshots shares what is removed after it.
        if hasCopied {
            try TreeRemoval(limit: state.sizes.nameLimit(of: nil), isCancelled: isCancelled)
                .remove(Self.partialName, in: directory)
        }
        try emptyTrash(&state, isCancelled: isCancelled)
    }

    private func emptyTrash(_ state: inout SnapshotState, isCancelled: @escaping @Sendable () -> Bool) throws {
        for name in try directory.names() where SnapshotRotation.isTrash(name) {
            let inode = try snapshots.inode(of: name)
            if let inode {
                state.sizes.beginRemoval(of: inode)
                try recordIfRoom(state)
            }
            var freed: UInt64 = 0
            try TreeRemoval(limit: state.sizes.nameLimit(of: inode), isCancelled: isCancelled)
                .remove(name, in: directory, freed: &freed)
            if let inode {
                state.sizes.endRemoval(of: inode, freed: freed)
                try recordIfRoom(state)
            }
        }
    }

    // MARK: - Measure

    /// What all snapshots take, by the record; one in turn is measured to verify it.
    /// - Returns: the sizes, and why all had to be measured; nil when they had not.
    func measure(
        _ state: inout SnapshotState, isCancelled: @escaping @Sendable () -> Bool
    ) throws -> (sizes: SnapshotSizes, doubt: SizeRecord.Doubt?) {
        try SnapshotMeasure(directory, isCancelled: isCancelled).check(&state.sizes)
    }

    /// For a walk through a snapshot.
    private func limit(_ state: SnapshotState) -> SnapshotCount.Limit {
        { state.sizes.nameLimit(of: try snapshots.inode(of: $0)) }
    }
}
