import DirectoryModel
import JobCore
import Provisioning
import SystemPackage

/// The work of one backup job: looks at the account anew, runs rsnapshot with the account's own configuration, measures the snapshots and
/// writes what came of it into the entry.
///
/// It makes and mends nothing: a home or a configuration that is not as it should be is for provisioning. A copy that was made is a success,
/// whatever becomes of the measuring and the writing; these only add warnings. What the attributes mean stands in the README.
struct RsnapshotBackup: Sendable {
    let engine: Engine
    let configuration: BackupConfiguration
    let jobs: BackupJobsConfiguration
    let key: AccountKey
    let clock: any WallClock

    /// Everything that the run needs, found in order.
    private struct Ready: Sendable {
        var home: HomePath
        var file: ConfigurationFile
        var configured: ConfiguredSnapshots
    }

    /// How much of the progress is rsnapshot's own, of which nothing is known while it runs; the rest is told by snapshots measured.
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
            var outcome = try await copy(level, ready, attempt)
            guard outcome.result.isSuccess else { return outcome }
            attempt.progress(Self.percentCopied)
            if let warning = try await record(level, ready, attempt) {
                outcome.result = .warnings
                outcome.message += (outcome.message.isEmpty ? "" : "; ") + warning
            }
            attempt.progress(100)
            return outcome
        } catch let refusal as BackupRefusal {
            return JobOutcome(.aborted, message: "\(refusal)")
        } catch let failure as ProvisioningFailure {
            return JobOutcome(
                failure.failureClass == .configuration ? .wrongConfiguration : .failed,
                failureClass: failure.failureClass, message: "\(failure.reason); \(failure.cure)")
        }
    }

    // MARK: - Before

    /// - Throws: `BackupRefusal` for an account that has ceased to qualify, `ProvisioningFailure` for what is not in order.
    private func prepare(_ level: SnapshotLevel) async throws -> Ready {
        guard let account = try await engine.account(key, attributes: BackupAttribute.all) else {
            throw BackupRefusal(
                account: "\(key.dn)", dn: key.dn, reason: "it is gone from the directory, or no longer this daemon's",
                cure: "nothing is to be mended unless it is missed")
        }
        if let refusal = BackupQualification(level: level).objection(to: account) { throw refusal }
        let described = try BackupAccount(reading: account.entry, for: .modify, places: configuration.places)
        let backup = self
        return try await BlockingWork.run { _ in try backup.look(at: described, level) }
    }

    private func look(at account: BackupAccount, _ level: SnapshotLevel) throws -> Ready {
        guard Program.isExecutable(configuration.rsnapshot) else {
            throw Program.missing("\(configuration.rsnapshot) is not there", package: "rsnapshot")
        }
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
                cure: ConfiguredSnapshots.provisionAgain)
        }
        let file = ConfigurationFile(
            directory: configuration.configurationDirectory, uid: account.uid, ownership: configuration.ownership)
        guard let text = try file.trustedText() else {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, reason: "\(file.path) does not exist",
                cure: ConfiguredSnapshots.provisionAgain)
        }
        let configured = ConfiguredSnapshots(parsing: text)
        try configured.demand(level, in: home, of: file)
        return Ready(home: home, file: file, configured: configured)
    }

    private static func missing(_ place: String) -> ProvisioningFailure {
        ProvisioningFailure(
            .cannotCheckHomeDirPresence, reason: "there is no home at \(place), and a backup makes none",
            cure: "mount its volume if it is not mounted; else " + ConfiguredSnapshots.provisionAgain)
    }

    // MARK: - The copy

    private func copy(_ level: SnapshotLevel, _ ready: Ready, _ attempt: RunningAttempt) async throws -> JobOutcome {
        // Without -v rsnapshot keeps to itself what rsync says.
        let invocation = ScriptInvocation(
            executable: configuration.rsnapshot, arguments: ["-v", "-c", ready.file.path.string, level.rawValue],
            environment: configuration.baseEnvironment, timeLimit: jobs.timeLimit, grace: jobs.grace)
        let ended: (result: ScriptResult, reading: ExitReading)
        do throws(ScriptError) {
            ended = try await attempt.run(invocation, step: "rsnapshot", profile: .rsnapshot)
        } catch {
            if error.code == .cancelled { throw CancellationError() }
            return JobOutcome(
                error.failureClass == .configuration ? .wrongConfiguration : .failed,
                failureClass: error.failureClass, message: "\(error)")
        }
        if ended.result.cause == .cancellation { throw CancellationError() }
        var end = RsnapshotEnd(
            result: ended.result, reading: ended.reading,
            command: ([configuration.rsnapshot.string] + invocation.arguments).joined(separator: " "))
        if RsnapshotEnd.foundLock(ended.result), let lock = ready.configured.lockFile {
            end.lock = (lock, try await BlockingWork.run { _ in RsnapshotEnd.holder(of: lock) })
        }
        return end.outcome
    }

    // MARK: - After

    /// - Returns: what did not succeed, as a warning; nil when all did.
    private func record(_ level: SnapshotLevel, _ ready: Ready, _ attempt: RunningAttempt) async throws -> String? {
        var record = BackupRecord()
        let isCopy = ready.configured.copies(level)
        if isCopy, jobs.writesLastSuccess { record.lastSuccess = (jobs.host, ProvisioningTimestamp(clock.now)) }
        var warnings: [String] = []
        if jobs.writesSize || isCopy && jobs.writesIncrement {
            do {
                let sizes = try await attempt.step("sizes") { try await measure(ready, attempt) }
                if jobs.writesSize { record.size = sizes.total }
                if isCopy, jobs.writesIncrement { record.increment = sizes.increment }
                attempt.write(
                    "the snapshots take \(sizes.total) bytes, of which the newest alone \(sizes.increment)")
            } catch let failure as HeldFolder.Failure {
                warnings.append(
                    "the snapshots could not be measured (\(failure.operation) \(failure.path): \(failure.cause)); "
                        + "look at what lies there and at the disk")
            }
        }
        do {
            let record = record
            try await attempt.step("entry") {
                try await engine.write(to: key, reading: BackupRecord.attributes) { record.modifications(of: $0) }
            }
        } catch let error where !(error is CancellationError) {
            warnings.append("the entry could not be written: \(error)")
        }
        return warnings.isEmpty ? nil : warnings.joined(separator: "; ")
    }

    private func measure(_ ready: Ready, _ attempt: RunningAttempt) async throws -> SnapshotSizes {
        try await BlockingWork.run { isCancelled in
            guard let home = try HomeWalk(to: ready.home).folder, let root = try home.folder(HomeFolder.snapshots)
            else {
                throw HeldFolder.Failure(
                    operation: "open", path: ready.home.snapshots, cause: .noSuchFileOrDirectory)
            }
            var measure = SnapshotMeasure(root, isCancelled: isCancelled)
            return try measure.run(newest: ready.configured.newest) { done, all in
                attempt.progress(Self.percentCopied + (99 - Self.percentCopied) * done / max(1, all))
            }
        }
    }
}
