import LDAP
import EventLoop
import JobCore
import Provisioning
import Synchronization
import SystemPackage

/// The work of one backup job: reads the account again, makes a copy with rsnapshot in a sandbox, inspects it on the disk, rotates the
/// snapshots and writes the result into the entry. A larger level takes over the oldest snapshot of the level before it.
///
/// It repairs nothing: a home or a configuration that is not as it should be is for provisioning. Until the copy has been inspected and
/// recorded no snapshot is touched; after that nothing cuts the rotation off. An attempt that is repeated skips what is done.
@MainActor struct RsnapshotBackup {
    let engine: Engine
    let configuration: BackupConfiguration
    let jobs: BackupJobsConfiguration
    let key: AccountKey
    let clock: any WallClock
    /// By which the time limit goes.
    let steadyClock: any SteadyClock

    /// Everything that the run needs, found in order.
    private struct Ready: Sendable {
        var account: BackupAccount
        var home: HomePath
        var work: SnapshotWork
        /// Of all work on the account's files but the rotation.
        var deadline: Deadline
        /// What somebody should look at.
        var warnings: [String]
        /// Another entry with the same uid, whose job makes the snapshot; nil: there is none.
        var copiedBy: DN?
    }

    /// The program that copies was ended by the time limit; the next run goes on.
    private struct Unfinished: Error {
        var outcome: JobOutcome
    }

    /// For how long after it was asked for a job whose attempts are cut off or fail is tried again.
    private nonisolated static let longestRepetition = Duration.seconds(86_400)
    /// How much of the progress is the copy, of which nothing is known while it runs.
    private static let percentCopied = 80

    /// - Throws: `CancellationError` when the task is cancelled.
    func run(_ attempt: RunningAttempt) async throws -> JobOutcome {
        guard let level = SnapshotLevel(rawValue: attempt.job.level) else {
            return JobOutcome(
                .wrongConfiguration, failureClass: .configuration,
                message: "\(EntryReader.quote(attempt.job.level)) is no level of rsnapshot; choose one of "
                    + SnapshotLevel.allCases.map(\.rawValue).joined(separator: ", "))
        }
        do {
            attempt.progress(0)
            let ready = try await attempt.step("account") { try await prepare(level) }
            if let other = ready.copiedBy {
                return JobOutcome(
                    .success,
                    message: "nothing to do: \(other) has the same uid, and its job makes the snapshot of their home")
            }
            let isShared = engine.sharesAccounts
            let isFree = engine.acquire(ready.account.uid, of: BackupAttribute.uid, for: attempt.job.id)
            let other = isFree && isShared ? try await BlockingWork.run { _ in try HomeLock(of: ready.account) } : nil
            defer { withExtendedLifetime(other) {} }
            guard isFree, !isShared || other != nil else {
                return JobOutcome(
                    .failed, failureClass: .retryable,
                    message:
                        "another \(isFree ? "daemon" : "job") works on the home of \(ready.account.uid); wait for its end"
                )
            }
            let lock = try await begin(ready) { try Self.lock(ready, isCancelled: $0) }
            defer { withExtendedLifetime(lock) {} }
            return try await run(level, ready, attempt)
        } catch let outcome as JobOutcome {
            return outcome
        } catch let refusal as BackupRefusal {
            return JobOutcome(.aborted, message: "\(refusal)")
        } catch let failure as ProvisioningFailure {
            return JobOutcome(
                failure.failureClass == .configuration ? .wrongConfiguration : .failed,
                failureClass: failure.failureClass,
                message: "\(failure.reason); \(failure.hint); no snapshot was changed")
        } catch {
            guard let reason = Self.reason(of: error) else { throw error }
            return reason.outcome
        }
    }

    /// What went wrong on the disk, in words; nil for an error of another kind.
    private nonisolated static func reason(of error: any Error) -> (text: String, outcome: JobOutcome)? {
        let text: String
        var failureClass = FailureClass.permanent
        switch error {
        case let failure as HeldDirectory.Failure:
            text =
                "could not \(failure.operation) \(failure.path): \(failure.cause); check the directory, the disk and the kernel's log"
            failureClass = FailureClass(failure.cause) ?? .permanent
        case let lost as SnapshotRotation.Lost: text = "\(lost)"
        case let excess as TreeWalk.LimitExceeded:
            text = "\(excess); \(excess.hint); with SNAPSHOTS = readonly no account can change its snapshots"
        case is Deadline.Passed:
            text =
                "the backup reached TIMEOUT and was stopped; the next run goes on; if none ends, raise TIMEOUT in [Backup Jobs]"
        default: return nil
        }
        return (text, JobOutcome(.failed, failureClass: failureClass, message: text))
    }

    /// - Throws: a retryable outcome while somebody else works on the snapshots.
    private nonisolated static func lock(
        _ ready: Ready, isCancelled: @escaping @Sendable () -> Bool
    ) throws -> AccountLock? {
        guard let file = ready.work.configured.lockFile else { return nil }
        do {
            do {
                return try AccountLock(file)
            } catch Errno.noSpace where AccountLock.holder(of: file) == nil {
                // Nobody else can take it now, and it may be this account's old snapshots that fill the disk.
                try ready.work.makeRoom(isCancelled: isCancelled)
                return try AccountLock(file)
            }
        } catch let held as AccountLock.Held {
            throw JobOutcome(
                .failed, failureClass: .retryable,
                message:
                    "rsnapshot already runs for the account: \(held.file) is held by \(held.holder); wait for its end")
        } catch let error as Errno {
            throw JobOutcome(
                .failed, message: "the lock file \(file) could not be made: \(error); check the directory and the disk")
        }
    }

    // MARK: - Before

    /// - Throws: `BackupRefusal` for an account that has ceased to qualify, `ProvisioningFailure` for what is not in order.
    private func prepare(_ level: SnapshotLevel) async throws -> Ready {
        guard let account = try await engine.account(key, attributes: BackupAttribute.all) else {
            throw BackupRefusal(
                account: "\(key.dn)", dn: key.dn, reason: "it is gone from the directory, or no longer this daemon's",
                hint: "no action is needed unless the account should exist")
        }
        if let refusal = BackupQualification(level: level).objection(to: account) { throw refusal }
        let described = try BackupAccount(reading: account.entry, for: .modify, places: configuration.places)
        let backup = self
        var ready = try await BlockingWork.run { _ in try backup.inspect(described, level) }
        let others = try await engine.others(
            than: account, withSame: BackupAttribute.uid, attributes: BackupAttribute.all)
        if let other = others.map(\.key.dn).first {
            ready.warnings.append(
                "\(account.key.dn) and \(other) have the same uid, and with it one home; remove one, or give it another number"
            )
        }
        // Each home is copied once, while any of its entries asks for it.
        let copies = others.filter { BackupQualification(level: level).objection(to: $0) == nil } + [account]
        let first = copies.min { "\($0.key.uuid)" < "\($1.key.uuid)" }
        if let first, first.key.uuid != account.key.uuid { ready.copiedBy = first.key.dn }
        return ready
    }

    private nonisolated func inspect(_ account: BackupAccount, _ level: SnapshotLevel) throws -> Ready {
        try Program.demand(configuration.rsnapshot, setting: "RSNAPSHOT", package: "rsnapshot")
        let home: HomePath
        switch try HomeChoice(configuration: configuration).place(of: account) {
        case .given(let place): home = place
        case .new(let choice): throw Self.missing(choice.volumes.map { "\($0)" }.joined(separator: " or "))
        }
        switch try HomeWalk(to: home).condition(ownership: configuration.ownership) {
        case .whole: break
        case .absent: throw Self.missing("\(home.path)")
        case .unfinished(let objection):
            throw ProvisioningFailure(
                .cannotCheckHomeDirPresence, reason: "\(home.path) \(objection)",
                hint: ConfiguredSnapshots.provisionAgain)
        }
        let file = ConfigurationFile(
            directory: configuration.configurationDirectory, uid: account.uid, ownership: configuration.ownership)
        guard let text = try file.trustedText() else {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, reason: "\(file.path) does not exist",
                hint: ConfiguredSnapshots.provisionAgain)
        }
        let configured = ConfiguredSnapshots(parsing: text)
        try configured.demand(level, in: home, of: file)
        guard let snapshots = try SnapshotDirectory.open(in: home) else { throw Self.missing("\(home.snapshots)") }
        let sandbox = try CopySandbox(
            configuration, account: account, home: home, snapshots: snapshots.path, configured: configured,
            memory: jobs.memory)
        return Ready(
            account: account, home: home,
            work: SnapshotWork(snapshots: snapshots, configured: configured, sandbox: sandbox, clock: clock),
            deadline: Deadline(in: jobs.timeLimit, by: steadyClock), warnings: show(home))
    }

    /// What the customer sees is no reason to make no snapshot.
    private nonisolated func show(_ home: HomePath) -> [String] {
        do throws(ProvisioningFailure) {
            try SnapshotStore(home).show(configuration.snapshots)
            return []
        } catch {
            return ["the snapshots are not mounted as SNAPSHOTS says: \(error.reason); \(error.hint)"]
        }
    }

    /// Does something with the snapshots before an attempt is recorded. That the time limit has cut it off is recorded all the same.
    private func begin<Value: Sendable>(
        _ ready: Ready, _ body: @escaping @Sendable (@escaping @Sendable () -> Bool) throws -> Value
    ) async throws -> Value {
        do {
            return try await BlockingWork.run(on: .walks, until: ready.deadline, body)
        } catch let passed as Deadline.Passed {
            try await BlockingWork.run { _ in try ready.work.recordTimeLimit() }
            throw passed
        }
    }

    private nonisolated static func missing(_ place: String) -> ProvisioningFailure {
        ProvisioningFailure(
            .cannotCheckHomeDirPresence, reason: "there is no home at \(place)",
            hint: "mount its volume if it is not mounted; else " + ConfiguredSnapshots.provisionAgain)
    }

    // MARK: - The snapshot

    private func run(_ level: SnapshotLevel, _ ready: Ready, _ attempt: RunningAttempt) async throws -> JobOutcome {
        let work = ready.work
        let begun = try await begin(ready) { try work.begin(attempt.job, isCancelled: $0) }
        var (state, warnings) = (begun.state, begun.warnings + ready.warnings)
        for warning in warnings { attempt.write(warning) }
        var outcome: JobOutcome
        var isCutOff = false
        do {
            let end = try await snapshot(level, ready, &state, after: begun.previous, attempt)
            outcome = JobOutcome(.success, message: end.note)
            if !end.warning.isEmpty { warnings.append(end.warning) }
            if end.isWhole || work.configured.copies(level) {
                attempt.progress(Self.percentCopied)
                warnings += try await finish(level, ready, &state, end, attempt)
            }
        } catch let unfinished as Unfinished {
            outcome = unfinished.outcome
            isCutOff = true
        } catch let failed as JobOutcome {
            outcome = failed
        } catch {
            guard let reason = Self.reason(of: error) else { throw error }
            outcome = reason.outcome
        }
        if outcome.result.isSuccess, !warnings.isEmpty {
            outcome = JobOutcome(
                .warnings, message: (warnings + [outcome.message].filter { !$0.isEmpty }).joined(separator: "; "))
        }
        if isCutOff || ready.deadline.hasPassed {
            state.copyHitTimeLimit = true
        } else if outcome.result.isSuccess, work.configured.copies(level) {
            state.copyHitTimeLimit = nil
        }
        let (result, message) = (outcome.result, outcome.message)
        try await change(&state, until: nil) { state, _ in try work.end(&state, result, message) }
        attempt.progress(100)
        return outcome
    }

    /// Makes or takes over a snapshot, unless an earlier attempt of the same job has done it.
    private func snapshot(
        _ level: SnapshotLevel, _ ready: Ready, _ state: inout SnapshotState, after previous: SnapshotState.Attempt?,
        _ attempt: RunningAttempt
    ) async throws -> SnapshotState.End {
        let (work, job) = (ready.work, attempt.job)
        if let end = state.end(of: job) {
            attempt.write("the snapshot was made by an earlier attempt of this job")
            return end
        }
        if let refusal = Self.refusal(of: attempt, after: previous, now: clock.now) { throw refusal }
        if let source = work.configured.source(of: level) {
            guard
                try await change(
                    &state, until: nil, { state, _ in try work.takeOver(&state, job: job, from: source) })
            else {
                return .init(
                    isWhole: false, note: "nothing to do: there is no \(source) yet that \(level) could take over")
            }
        } else {
            let copied = try await copy(ready, &state, attempt)
            state = try await inspectCopy(ready, state, copied, attempt)
        }
        state = try await attempt.step("rotate") { [state] in
            // What has begun here is finished whatever happens meanwhile. It renames, and walks nowhere.
            try await BlockingWork.run { _ -> Result<SnapshotState, any Error> in
                Result {
                    var state = state
                    try work.rotate(&state)
                    return state
                }
            }.get()
        }
        return state.end(of: job) ?? .init(isWhole: true)
    }

    /// A job whose attempts are cut off one after the other comes to an end. A long downtime is none of its doing.
    private nonisolated static func refusal(
        of attempt: RunningAttempt, after previous: SnapshotState.Attempt?, now: Timestamp
    ) -> JobOutcome? {
        guard attempt.number > 1, now - attempt.job.created > longestRepetition else { return nil }
        if let previous, previous.job == attempt.job.id.number, now - previous.beganAt > longestRepetition {
            return nil
        }
        return JobOutcome(
            .failed, failureClass: .permanent,
            message:
                "it was asked for more than \(longestRepetition.components.seconds / 3_600) hours ago, and none of "
                + "\(attempt.number - 1) attempts has finished a copy; see the job's output for what ended them")
    }

    /// A copy that may become a snapshot.
    private struct Copied: Sendable {
        var end: SnapshotState.End
        var hadUploads: Bool
        /// Names in it, by rsync.
        var names: UInt64?
    }

    private func copy(
        _ ready: Ready, _ state: inout SnapshotState, _ attempt: RunningAttempt
    ) async throws -> Copied {
        let (work, limits) = (ready.work, jobs)
        let file = try await attempt.step("make room") {
            try await change(&state, until: ready.deadline) { try work.prepareCopy(&$0, isCancelled: $1) }
        }
        return try await attempt.step("copy") {
            let hadUploads = try await BlockingWork.run { _ in try Self.hasUploads(ready.home) }
            try ready.deadline.demand()
            let invocation = work.sandbox.invocation(
                copyingBy: file, timeLimit: ready.deadline.left, grace: limits.grace)
            let output = Mutex(RsyncOutput())
            let result: ScriptResult
            do throws(ScriptError) {
                result = try await attempt.run(
                    invocation, profile: .rsnapshot,
                    live: LiveOutput { bytes in output.withLock { $0.read(bytes) } }
                ).result
            } catch {
                if error.code == .cancelled { throw CancellationError() }
                throw JobOutcome(
                    error.failureClass == .configuration ? .wrongConfiguration : .failed,
                    failureClass: error.failureClass, message: "\(error)")
            }
            if result.cause == .cancellation { throw CancellationError() }
            let said = output.withLock { output in
                output.end()
                return output
            }
            switch CopyVerdict(
                result, CopyReports(result.reports), said, command: "\(invocation.executable)")
            {
            case .whole(let note):
                return Copied(end: .init(isWhole: true, note: note), hadUploads: hadUploads, names: said.names)
            case .partial(let warning):
                return Copied(end: .init(isWhole: false, warning: warning), hadUploads: hadUploads, names: said.names)
            case .failed(let outcome):
                if result.cause == .timeLimit { throw Unfinished(outcome: outcome) }
                throw said.hasLackedRoom ? try await discardCopy(ready, &state, after: outcome) : outcome
            }
        }
    }

    /// Removes a copy for which there was no room: it would keep everybody else's copies from the room that it has taken and that is not enough
    /// for it.
    /// - Returns: the outcome, with the reason why the copy could not be removed, if so.
    private func discardCopy(
        _ ready: Ready, _ state: inout SnapshotState, after outcome: JobOutcome
    ) async throws -> JobOutcome {
        var outcome = outcome
        do {
            try await change(&state, until: ready.deadline) { try ready.work.discardCopy($0, isCancelled: $1) }
        } catch {
            guard let reason = Self.reason(of: error) else { throw error }
            outcome.message += "; and the unfinished copy was not removed: \(reason.text)"
        }
        return outcome
    }

    private func inspectCopy(
        _ ready: Ready, _ state: SnapshotState, _ copy: Copied,
        _ attempt: RunningAttempt
    ) async throws -> SnapshotState {
        let (work, job, uid) = (ready.work, attempt.job, ready.account.uid)
        return try await attempt.step("inspect") {
            let (state, tree) = try await BlockingWork.run(on: .walks, until: ready.deadline) { isCancelled in
                var state = state
                do {
                    // Whatever was deleted meanwhile was there to be copied, and whatever came was not.
                    let hadUploads = try copy.hadUploads && Self.hasUploads(ready.home)
                    let tree = try work.inspect(
                        &state, job: job, uid: uid, hadUploads: hadUploads, names: copy.names, copy.end,
                        isCancelled: isCancelled)
                    return (state, tree)
                } catch let unfit as SnapshotWork.Unfit {
                    throw JobOutcome(
                        .failed, failureClass: .permanent,
                        message:
                            "\(unfit.reason); no snapshot was changed; see the job's output, and run the backup again")
                }
            }
            attempt.write("the copy holds \(tree.files) files with \(tree.bytes) bytes")
            return state
        }
    }

    private nonisolated static func hasUploads(_ home: HomePath) throws -> Bool {
        try HomeWalk(to: home).directory?.directory(HomeDirectory.incoming)?.isEmpty() == false
    }

    // MARK: - After

    /// Removes what was dropped, measures, and writes into the entry.
    /// - Returns: what did not succeed, as warnings.
    private func finish(
        _ level: SnapshotLevel, _ ready: Ready, _ state: inout SnapshotState, _ end: SnapshotState.End,
        _ attempt: RunningAttempt
    ) async throws -> [String] {
        let work = ready.work
        var record = BackupRecord()
        let isCopy = work.configured.copies(level)
        if isCopy, end.isWhole, jobs.writesLastSuccess, let time = state.lastSuccess(of: level) {
            record.lastSuccess = (jobs.host, time)
        }
        var warnings: [String] = []
        do {
            try await attempt.step("clean up") {
                try await change(&state, until: ready.deadline) {
                    try work.cleanUp(&$0, hasCopied: isCopy, isCancelled: $1)
                }
            }
            if jobs.writesSize || isCopy && jobs.writesIncrement {
                let (sizes, doubt) = try await attempt.step("sizes") {
                    try await change(&state, until: ready.deadline) { try work.measure(&$0, isCancelled: $1) }
                }
                if let doubt { attempt.write("measured all snapshots again, because \(doubt)") }
                if jobs.writesSize { record.size = sizes.total }
                if isCopy, jobs.writesIncrement { record.increment = sizes.increment }
                attempt.write("the snapshots take \(sizes.total) bytes, of which the newest alone \(sizes.increment)")
            }
        } catch {
            guard let reason = Self.reason(of: error) else { throw error }
            warnings.append(reason.text)
        }
        do {
            let record = record
            try await attempt.step("entry") {
                try await engine.write(to: key, reading: BackupRecord.attributes) { record.modifications(of: $0) }
            }
        } catch let error where !(error is CancellationError) {
            warnings.append("the entry could not be written: \(error)")
        }
        return warnings
    }

    /// Does something that blocks to the recorded state. What it has come to is kept, also where it fails: so much of it may be recorded.
    /// - Parameters:
    ///   - deadline: when a walk is cut off; nil: it walks nowhere.
    ///   - body: gets a question that it asks now and then: whether it has to end.
    private func change<Value: Sendable>(
        _ state: inout SnapshotState, until deadline: Deadline?,
        _ body: @escaping @Sendable (inout SnapshotState, @escaping @Sendable () -> Bool) throws -> Value
    ) async throws -> Value {
        let changed = Mutex(state)
        defer { state = changed.withLock(\.self) }
        return try await BlockingWork.run(on: deadline == nil ? .steps : .walks, until: deadline) { isCancelled in
            var state = changed.withLock(\.self)
            defer { changed.withLock { [state] in $0 = state } }
            return try body(&state, isCancelled)
        }
    }
}

extension CopySandbox {
    /// - Throws: code 3 when a program is missing, others could change it or a file that rsync reads, or the copy could not reach the snapshots.
    init(
        _ configuration: BackupConfiguration, account: BackupAccount, home: HomePath, snapshots: FilePath,
        configured: ConfiguredSnapshots, memory: UInt64
    ) throws(ProvisioningFailure) {
        guard CopySandbox.isConfined(configuration.confinement) || snapshots.starts(with: home.path) else {
            throw ProvisioningFailure(
                .runtimeRequirementNotSatisfied, .configuration,
                reason: "the snapshots lie in \(snapshots), where without a sandbox the account cannot copy to",
                hint: "write BACKUP_SANDBOX = on; or SNAPSHOTS = own, and then " + ConfiguredSnapshots.provisionAgain)
        }
        for file in configured.patternFiles {
            try FileTrust.demand(
                file, as: .file, setting: TrustedPath.patternFile, code: .runtimeRequirementNotSatisfied)
        }
        self.init(
            confinement: configuration.confinement,
            account: configuration.ownership == .account
                ? Account(uid: account.uidNumber, gid: account.gidNumber) : nil,
            home: home.path, snapshots: snapshots,
            programs: try Programs(configuration, rsync: configured.rsync), memory: memory,
            files: configured.patternFiles)
    }
}

extension CopySandbox.Programs {
    /// - Parameter rsync: of the account's configuration; nil: the first that is found.
    /// - Throws: code 3 when one is missing, or others could change it.
    init(_ configuration: BackupConfiguration, rsync: FilePath? = nil) throws(ProvisioningFailure) {
        guard Program.isExecutable(configuration.confine) else {
            throw ProvisioningFailure(
                .runtimeRequirementNotSatisfied, .configuration, reason: "\(configuration.confine) is not there",
                hint: "install it with the daemon: prov-backup-rsnapshot(8), FILES")
        }
        try FileTrust.demand(configuration.confine, setting: CopySandbox.helper, code: .runtimeRequirementNotSatisfied)
        let found = if let rsync { rsync } else { try Program.rsync.find(configuration) }
        try FileTrust.demand(found, setting: TrustedPath.configuredRsync, code: .runtimeRequirementNotSatisfied)
        self.init(
            bubblewrap: CopySandbox.isConfined(configuration.confinement)
                ? try Program.bwrap.find(configuration) : nil, confine: configuration.confine,
            rsnapshot: configuration.rsnapshot, rsync: found)
    }
}
