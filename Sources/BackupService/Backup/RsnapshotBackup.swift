import EventLoop
import JobCore
import LDAP
import Provisioning
import Synchronization
import SystemPackage

/// The work of a backup job: reads the account again, copies it with rsnapshot in a sandbox, inspects the copy on the disk, rotates the
/// snapshots and writes the result into the entry. A larger level takes over the oldest snapshot of the level before.
///
/// It repairs nothing: homes and configurations are repaired by provisioning. Until the copy is inspected and recorded no snapshot is
/// touched; after that the rotation is not interrupted. A repeated attempt skips what is done.
@MainActor struct RsnapshotBackup {
    let engine: Engine
    let configuration: BackupConfiguration
    let jobs: BackupJobsConfiguration
    let key: AccountKey
    /// Whether it makes a snapshot even if another job has made one since it was requested.
    let isForced: Bool
    let clock: any WallClock
    /// The clock of TIMEOUT.
    let steadyClock: any SteadyClock

    /// A job whose attempts are interrupted or fail is repeated for so long after its request.
    private nonisolated static let longestRepetition = Duration.seconds(86_400)
    /// The progress after the copy; none is known while it runs.
    private static let percentCopied = 80

    /// - Throws: `CancellationError` when the task is cancelled.
    func run(_ attempt: RunningAttempt) async throws -> JobOutcome {
        guard let level = SnapshotLevel(rawValue: attempt.job.level) else {
            return JobOutcome(
                .wrongConfiguration, failureClass: .configuration,
                message: "\(attempt.job.level.quotedValue) is no level of rsnapshot; choose one of "
                    + SnapshotLevel.allCases.map(\.rawValue).joined(separator: ", "))
        }
        do {
            attempt.progress(0)
            let prepared = try await attempt.step("account") { try await prepare(level) }
            if let other = prepared.copiedBy {
                return JobOutcome(
                    .warnings,
                    message:
                        "nothing to do: \(other) has the same uid, and its job makes the snapshot of their home; \(Self.sameUIDHint)"
                )
            }
            let (account, isShared) = (prepared.account, engine.sharesAccounts)
            let isFree = engine.acquire(account.uid, of: BackupAttribute.uid, for: attempt.job.id)
            let homeLock = isFree && isShared ? try await BlockingWork.run { _ in try HomeLock(of: account) } : nil
            defer { withExtendedLifetime(homeLock) {} }
            guard isFree, !isShared || homeLock != nil else {
                return JobOutcome(
                    .failed, failureClass: .retryable,
                    message:
                        "another \(isFree ? "daemon" : "job") works on the home of \(account.uid); wait for its end")
            }
            let lock = try await begin(prepared) { try prepared.lock(isCancelled: $0) }
            defer { withExtendedLifetime(lock) {} }
            return try await run(level, prepared, attempt)
        } catch let outcome as JobOutcome {
            return outcome
        } catch let refusal as BackupRefusal {
            return JobOutcome(.aborted, message: "\(refusal)")
        } catch let failure as ProvisioningFailure {
            return JobOutcome(
                failed: failure.failureClass,
                message: "\(failure.reason); \(failure.hint); no snapshot was changed")
        } catch {
            guard let outcome = Self.outcome(of: error) else { throw error }
            return outcome
        }
    }

    /// The outcome of an error on the disk; nil for other errors.
    nonisolated static func outcome(of error: any Error) -> JobOutcome? {
        var failureClass = FailureClass.permanent
        let message: String
        switch error {
        case let failure as HeldDirectory.Failure:
            message = "\(failure); \(hint(for: failure))"
            failureClass = FailureClass(failure.cause) ?? .permanent
        case let excess as TreeWalk.LimitExceeded:
            message = "\(excess); \(excess.hint); with SNAPSHOTS = readonly no account can change its snapshots"
        case is Deadline.Passed:
            message =
                "the backup reached TIMEOUT and was stopped; the next run continues it; if none finishes, raise TIMEOUT in [Backup Jobs]"
        default: return nil
        }
        return JobOutcome(.failed, failureClass: failureClass, message: message)
    }

    private nonisolated static func hint(for failure: HeldDirectory.Failure) -> String {
        switch failure.cause {
        case .diskQuotaExceeded: SnapshotState.End.quotaHint
        case .fileExists: "it is no snapshot: move it away"
        case .readOnlyFileSystem:
            "see what is read-only: findmnt -T \(failure.path.removingLastComponent().shellWord) (if it is the mount of snapshots that were "
                + "taken away, move them back, or umount it to begin without any)"
        default: "check the directory, the disk and the kernel's log"
        }
    }

    // MARK: - Before the copy

    /// - Throws: `BackupRefusal` for an account that gets no backup any more, `ProvisioningFailure`.
    private func prepare(_ level: SnapshotLevel) async throws -> PreparedBackup {
        guard
            let account = try await engine.account(key, attributes: BackupAttribute.all)?.provisioned(configuration)
        else {
            throw BackupRefusal(
                account: "\(key.dn)", dn: key.dn, reason: "it is gone from LDAP, or no longer this daemon's",
                hint: "no action is needed unless the account should exist")
        }
        if let refusal = level.refusal(of: account) { throw refusal }
        let described = try BackupAccount(reading: account.entry, for: .modify, places: configuration.places)
        let (configuration, jobs, clock, steadyClock) = (configuration, jobs, clock, steadyClock)
        var prepared = try await BlockingWork.run { _ in
            try PreparedBackup(described, level, configuration, jobs, clock: clock, steadyClock: steadyClock)
        }
        let others = try await engine.others(
            than: account, withSame: BackupAttribute.uid, attributes: BackupAttribute.all)
        if let other = others.map(\.key.dn).first {
            prepared.warnings.append("\(account.key.dn) and \(other) have the same uid; \(Self.sameUIDHint)")
        }
        // A home is copied once, while any of its entries gets a backup.
        let entries = try await [account] + accounts(among: others, copyingHomeOf: described, level)
        let first = entries.min { "\($0.key.uuid)" < "\($1.key.uuid)" }
        if let first, first.key.uuid != account.key.uuid { prepared.copiedBy = first.key.dn }
        return prepared
    }

    private static let sameUIDHint = "remove one of the two entries, or give it another number"

    /// The accounts whose jobs make snapshots of a home: this daemon serves them, and they name it. Others of the same uid, such as those of another
    /// host, must not keep the home from its backups.
    private func accounts(
        among others: [Account], copyingHomeOf described: BackupAccount, _ level: SnapshotLevel
    ) async throws -> [Account] {
        var copying: [Account] = []
        for other in others {
            guard
                let served = try await engine.account(other.key, attributes: BackupAttribute.all)?
                    .provisioned(configuration), level.refusal(of: served) == nil,
                let account = try? BackupAccount(reading: served.entry, for: .modify, places: configuration.places),
                account.homes.map(\.path) == described.homes.map(\.path)
            else { continue }
            copying.append(served)
        }
        return copying
    }

    /// Works on the snapshots before an attempt is recorded. TIMEOUT is recorded nevertheless.
    private func begin<Value: Sendable>(
        _ prepared: PreparedBackup, _ body: @escaping @Sendable (@escaping @Sendable () -> Bool) throws -> Value
    ) async throws -> Value {
        do {
            return try await BlockingWork.run(on: .walks, until: prepared.deadline, body)
        } catch let passed as Deadline.Passed {
            try await BlockingWork.run { _ in try prepared.work.recordTimeLimit() }
            throw passed
        }
    }

    // MARK: - The snapshot

    private func run(
        _ level: SnapshotLevel, _ prepared: PreparedBackup, _ attempt: RunningAttempt
    ) async throws -> JobOutcome {
        var prepared = prepared
        let (job, open) = (attempt.job, attempt.openJobs)
        var warnings: [String]
        (prepared.work, warnings) = try await begin(prepared) { [work = prepared.work] isCancelled in
            var work = work
            let warnings = try work.begin(job, open: open, isCancelled: isCancelled)
            return (work, warnings)
        }
        warnings += prepared.warnings
        let isCopy = prepared.work.configured.copies(level)
        for warning in warnings { attempt.write(warning) }
        var outcome: JobOutcome
        var hasEnd = false
        do {
            let end = try await snapshot(level, &prepared, attempt)
            hasEnd = true
            outcome = JobOutcome(.success, message: end.note)
            if !end.warning.isEmpty { warnings.append(end.warning) }
            if end.isWhole || isCopy {
                attempt.progress(Self.percentCopied)
                warnings += try await finish(level, &prepared, end, attempt)
            }
        } catch let failed as JobOutcome {
            outcome = failed
        } catch {
            guard let failed = Self.outcome(of: error) else { throw error }
            outcome = failed
        }
        if outcome.result.isSuccess, !warnings.isEmpty {
            outcome = JobOutcome(
                .warnings, message: (warnings + [outcome.message].filter { !$0.isEmpty }).joined(separator: "; "))
        }
        if prepared.deadline.hasPassed {
            prepared.work.state.copyHitTimeLimit = true
        } else if hasEnd, outcome.result.isSuccess, isCopy {
            prepared.work.state.copyHitTimeLimit = nil
        }
        let (result, message) = (outcome.result, outcome.message)
        try await change(&prepared.work, until: nil) { work, _ in try work.end(result, message) }
        attempt.progress(100)
        return outcome
    }

    /// Makes or takes over a snapshot, unless an earlier attempt of the job has done it.
    private func snapshot(
        _ level: SnapshotLevel, _ prepared: inout PreparedBackup, _ attempt: RunningAttempt
    ) async throws -> SnapshotState.End {
        let (state, job) = (prepared.work.state, attempt.job)
        if let end = state.end(of: job) {
            attempt.write("the snapshot was made by an earlier attempt of this job")
            return end
        }
        if !isForced, let success = LevelTiming(level, jobs).recentSuccess(state, now: clock.now),
            success.secondsSince1970 >= job.created.secondsSince1970
        {
            throw JobOutcome(
                .success,
                message:
                    "nothing to do: another job has finished a snapshot at \(success.text), after this one was requested; "
                    + "give --force to make another one all the same")
        }
        if let refusal = Self.refusal(of: attempt, now: clock.now) { throw refusal }
        if let source = prepared.work.configured.source(of: level) {
            let isTakenOver = try await change(&prepared.work, until: nil) { work, _ in
                try work.takeOver(source, job: job)
            }
            guard isTakenOver else {
                return .init(
                    isWhole: false, note: "nothing to do: there is no \(source) yet that \(level) could take over")
            }
        } else {
            let copied = try await copy(&prepared, attempt)
            try await inspectCopy(&prepared, copied, attempt)
        }
        prepared.work = try await attempt.step("rotate") { [work = prepared.work] in
            // Completed even if the task is cancelled: it only renames.
            try await BlockingWork.run { () throws -> SnapshotWork in
                var work = work
                try work.rotate()
                return work
            }
        }
        return prepared.work.state.end(of: job) ?? .init(isWhole: true)
    }

    /// Ends a job whose attempts are interrupted again and again. The time before a long downtime, or another long wait, does not count; the job's own
    /// record tells when its attempts began, since other jobs of the account may have run, and not every attempt comes to the snapshots.
    private static func refusal(of attempt: RunningAttempt, now: Timestamp) -> JobOutcome? {
        let recorded = attempt.openJobs.first { $0.id == attempt.job.id }?.attempts ?? []
        let former = recorded.filter { $0.number < attempt.number }
        let times = [attempt.job.created] + former.map(\.began) + [now]
        let restarts = zip(times, times.dropFirst()).filter { $1 - $0 > longestRepetition }.map(\.1)
        guard now - (restarts.last ?? attempt.job.created) > longestRepetition else { return nil }
        let cause = former.last { !$0.message.isEmpty }.map { "the last error: \($0.message)" }
        return JobOutcome(
            .failed, failureClass: .permanent,
            message:
                "it was asked for more than \(longestRepetition.components.seconds / 3_600) hours ago, and none of "
                + "\(attempt.number - 1) attempts has finished a copy; "
                + (cause ?? "see the job's output for what ended them"))
    }

    private func copy(
        _ prepared: inout PreparedBackup, _ attempt: RunningAttempt
    ) async throws -> SnapshotWork.FinishedCopy {
        let deadline = prepared.deadline
        let (file, fileSystem, unremoved) = try await attempt.step("make room") {
            try await change(&prepared.work, until: deadline) { try $0.prepareCopy(isCancelled: $1) }
        }
        if let unremoved { attempt.write("a dropped snapshot was not removed: \(unremoved.message)") }
        return try await attempt.step("copy") {
            let hadUploads = try await BlockingWork.run { [prepared] _ in try prepared.hasUploads() }
            try deadline.demand()
            let invocation = prepared.work.sandbox.invocation(
                copyingBy: file, timeLimit: deadline.left, grace: jobs.grace)
            let parser = Mutex(RsyncOutput())
            let result: ScriptResult
            do throws(ScriptError) {
                result = try await attempt.run(
                    invocation, profile: .rsnapshot,
                    live: LiveOutput { bytes in parser.withLock { $0.read(bytes) } }
                ).result
            } catch {
                if error.code == .cancelled { throw CancellationError() }
                throw JobOutcome(failed: error.failureClass, message: "\(error)")
            }
            if result.cause == .cancellation { throw CancellationError() }
            let output = parser.withLock { output in
                output.end()
                return output
            }
            let reports = CopyReports(result.reports)
            do throws(JobOutcome) {
                let end = try SnapshotState.End(result, reports, output, command: "\(invocation.executable)")
                return .init(end: end, hadUploads: hadUploads, names: output.names, fileSystem: fileSystem)
            } catch {
                if result.cause == .timeLimit {
                    prepared.work.state.copyHitTimeLimit = true
                } else if output.hasLackedRoom {
                    throw try await discardCopy(&prepared, after: error)
                }
                // The next run continues it.
                try await change(&prepared.work, until: deadline) { work, _ in
                    try work.flushUnfinishedCopy(fileSystem)
                }
                throw error
            }
        }
    }

    /// Removes a copy for which there was no room, since it takes the room that other accounts' copies need.
    /// - Returns: the outcome, with the reason if the copy could not be removed.
    private func discardCopy(
        _ prepared: inout PreparedBackup, after outcome: JobOutcome
    ) async throws -> JobOutcome {
        var outcome = outcome
        do {
            try await change(&prepared.work, until: prepared.deadline) { try $0.discardCopy(isCancelled: $1) }
        } catch {
            guard let failed = Self.outcome(of: error) else { throw error }
            outcome.message += "; and the unfinished copy was not removed: \(failed.message)"
        }
        return outcome
    }

    private func inspectCopy(
        _ prepared: inout PreparedBackup, _ copy: SnapshotWork.FinishedCopy, _ attempt: RunningAttempt
    ) async throws {
        let job = attempt.job
        try await attempt.step("inspect") {
            let tree = try await change(&prepared.work, until: prepared.deadline) { [prepared] work, isCancelled in
                var copy = copy
                // Uploads deleted meanwhile may be missing in the copy.
                copy.hadUploads = try copy.hadUploads && prepared.hasUploads()
                return try work.inspect(copy, job: job, uid: prepared.account.uid, isCancelled: isCancelled)
            }
            attempt.write("the copy holds \(tree.files) files with \(tree.bytes) bytes")
        }
    }

    // MARK: - After the rotation

    /// Removes dropped snapshots, measures, and writes the entry.
    /// - Returns: what failed, as warnings.
    private func finish(
        _ level: SnapshotLevel, _ prepared: inout PreparedBackup, _ end: SnapshotState.End, _ attempt: RunningAttempt
    ) async throws -> [String] {
        var record = BackupRecord()
        let isCopy = prepared.work.configured.copies(level)
        if isCopy, end.isWhole, jobs.writesLastSuccess, let time = prepared.work.state.lastSuccess(of: level) {
            record.lastSuccess = (jobs.host, time)
        }
        var warnings: [String] = []
        do {
            try await attempt.step("clean up") {
                try await change(&prepared.work, until: prepared.deadline) {
                    try $0.cleanUp(hasCopied: isCopy, isCancelled: $1)
                }
            }
            if jobs.writesSize || isCopy && jobs.writesIncrement {
                let (total, discrepancy) = try await attempt.step("sizes") {
                    try await change(&prepared.work, until: prepared.deadline) {
                        try $0.state.sizes.verify(in: $0.directory, isCancelled: $1)
                    }
                }
                if let discrepancy { attempt.write("measured all snapshots again, because \(discrepancy)") }
                let increment = prepared.work.state.sizes.increment
                if jobs.writesSize { record.size = total }
                if isCopy, jobs.writesIncrement { record.increment = increment }
                attempt.write("the snapshots take \(total) bytes, of which the newest alone \(increment)")
            }
        } catch {
            guard let failed = Self.outcome(of: error) else { throw error }
            warnings.append(failed.message)
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

    /// Runs blocking work on the snapshots. What it changes in the state is kept even if it fails, since it may be recorded.
    /// - Parameters:
    ///   - deadline: of a walk; nil: it walks through no tree.
    ///   - body: its second parameter tells whether it has to end.
    private func change<Value: Sendable>(
        _ work: inout SnapshotWork, until deadline: Deadline?,
        _ body: @escaping @Sendable (inout SnapshotWork, @escaping @Sendable () -> Bool) throws -> Value
    ) async throws -> Value {
        let changed = Mutex(work)
        defer { work = changed.withLock(\.self) }
        return try await BlockingWork.run(on: deadline == nil ? .steps : .walks, until: deadline) { isCancelled in
            var work = changed.withLock(\.self)
            defer { changed.withLock { [work] in $0 = work } }
            return try body(&work, isCancelled)
        }
    }
}
