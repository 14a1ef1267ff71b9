import BackupService
import Daemon
import LDAP
import EventLoop
import JobCore
import Logging
import Provisioning
import SystemPackage

/// All jobs except provisioning: accepts them from operators, schedules and event handlers.
@MainActor final class DaemonJobs {
    let parts: JobParts
    let engine: Engine
    let backups: JobRunner
    let scripts: JobRunner
    let logger: Logger
    let clock: any WallClock = SystemWallClock()
    private let current: CurrentConfiguration
    var configuration: DaemonConfiguration { current.value }
    private(set) var isStopping = false
    private(set) var resuming: Task<Void, Never>?
    /// Recovers interrupted jobs when the history can be read.
    private var lateRecovery: Task<Void, Never>?
    private var clockWatch: Task<Void, Never>?
    /// Runs the timetable.
    var schedule: Task<Void, Never>?
    /// Of each line of the timetable, the time up to which it is done.
    var reached: [JobTimetable<JobCommand>.Line: Timestamp] = [:]
    /// The levels without a schedule of which the log has warned, and when.
    var warnedLevels: (levels: Set<SnapshotLevel>, time: Timestamp) = ([], .distantPast)
    /// Checks all accounts once a day.
    var review: Task<Void, Never>?
    /// The submissions of backup runs.
    let submissions = WorkInOrder()
    /// Backup runs in progress.
    var runs: [SnapshotLevel: BackupRun] = [:]
    /// Scheduled work that waits because no job number can be reserved, by its name.
    var delays: [String: JobDelay] = [:]
    /// The submissions of all accounts that operators and event handlers ask for.
    private let allAccounts = WorkInOrder()
    /// Those that wait or are in progress.
    private var openSubmissions = 0
    /// Submissions and reloads that wait for the end of the start; nil: it has ended.
    private var early: [CheckedContinuation<Void, Never>]? = []

    init(_ current: CurrentConfiguration, parts: JobParts, engine: Engine, logger: Logger) {
        self.current = current
        self.parts = parts
        self.engine = engine
        self.logger = logger
        backups = JobRunner(
            executor: { parts.executor }, ids: parts.ids, scheduler: parts.scheduler,
            slots: { current.value.backupJobs.slots })
        scripts = JobRunner(
            executor: { parts.executor }, ids: parts.ids, scheduler: parts.scheduler, slots: { Self.scriptSlots })
        parts.jobs = self
    }

    /// Different scripts may run at the same time; MAX_JOBS limits all jobs together.
    private static let scriptSlots = 64

    // MARK: - Start, reload, stop

    /// Loads the event handlers, resumes interrupted jobs, and starts the schedules. Must be called before the engine starts.
    func start() async {
        var interrupted: [Job]?
        var mayBeReadLater = false
        do throws(HistoryError) {
            interrupted = try await parts.history.unfinished()
            // Monitoring asks also while the handlers are loaded.
            await parts.recallFailedBackups()
        } catch {
            logger.warning("interrupted jobs cannot be read from the history: \(error)")
            mayBeReadLater = error.isPassing
        }
        await parts.handlers.start()
        if let interrupted {
            await recover(interrupted)
        } else if mayBeReadLater {
            lateRecovery = Task { await recoverLate() }
        }
        warnOfDoubtedClock()
        clockWatch = Task { await followClock() }
        makeUpForMissedRuns(since: parts.presence.lastSeen ?? clock.now)
        followSchedules()
        early?.forEach { $0.resume() }
        early = nil
    }

    /// Returns when ``start()`` has ended: no request and no schedule may come before the interrupted jobs are known.
    func started() async {
        if early != nil { await withCheckedContinuation { early?.append($0) } }
    }

    /// Starts no further jobs; running jobs are interrupted after the grace period and abandoned after the kill timeout.
    func stop(grace: Duration, cancelTimeout: Duration) async {
        isStopping = true
        for task in [schedule, review, clockWatch, lateRecovery, resuming] + runs.values.map(\.task) { task?.cancel() }
        async let first: Void = backups.stop(grace: grace, cancelTimeout: cancelTimeout)
        async let second: Void = scripts.stop(grace: grace, cancelTimeout: cancelTimeout)
        _ = await (first, second)
    }

    // MARK: - Interrupted jobs

    /// - Parameter isLate: jobs of this run may already do the same work.
    private func recover(_ interrupted: [Job], isLate: Bool = false) async {
        await engine.recover(interrupted)
        // The next start recovers the others.
        guard !isStopping else { return }
        // In the background, because the LDAP server may be unavailable for long.
        resuming = Task {
            let run = parts.reports.mail.open("jobs that the last end of the daemon interrupted")
            var backups: [Job] = []
            for job in interrupted where job.type != .provisioning {
                parts.reports.mail.add(job.id, to: run)
                if let outcome = job.outcomeBeforeClosing {
                    registry.closeInterrupted(job, outcome)
                } else if isLate, let other = await successor(of: job, among: interrupted) {
                    registry.closeInterrupted(
                        job, JobOutcome(.aborted, message: "not resumed: job \(other) was submitted for the same work"))
                } else if job.type == .backup {
                    await open(job)
                    backups.append(job)
                } else {
                    await resume(job)
                }
            }
            parts.reports.mail.close(run)
            // Only these need the LDAP server.
            for job in backups where isWaiting(job) { await resume(job) }
        }
    }

    /// Opens a job that is resumed later, so that it can be cancelled until then.
    private func open(_ job: Job) async {
        _ = await parts.executor.open(job)
        registry.whenCanceled(job.id) { [parts] in
            Task { await parts.executor.close(job, parts.registry.cancellation(of: job.id) ?? .canceled) }
        }
    }

    /// Whether a job is open and was not cancelled.
    private func isWaiting(_ job: Job) -> Bool { registry.live(job.id)?.isCanceled == false }

    private func recoverLate() async {
        do throws(HistoryError) {
            let interrupted = try await parts.history.unfinished(waits: true)
            logger.notice("the history can be read; interrupted jobs that are recovered: \(interrupted.count)")
            await parts.recallFailedBackups()
            await recover(interrupted, isLate: true)
        } catch {
            if !Task.isCancelled { logger.warning("interrupted jobs are recovered at the next start: \(error)") }
        }
    }

    /// The newest job of this run for the same work as an interrupted one; nil: none.
    private func successor(of job: Job, among interrupted: [Job]) async -> JobID? {
        let known = Set(interrupted.map(\.id))
        let others = try? await parts.history.jobs(matching: JobFilter(client: job.client, type: job.type.rawValue))
        return others?.first { $0.id > job.id && $0.name == job.name && !known.contains($0.id) }?.id
    }

    private func resume(_ job: Job) async {
        do {
            switch job.type {
            case .purge:
                registry.closeInterrupted(
                    job,
                    JobOutcome(.warnings, message: "interrupted by the end of the daemon; the next purge continues"))
            case .admin:
                guard let script = configuration.userScripts[job.name] else {
                    return registry.closeInterrupted(job, UserScript.removed)
                }
                try await scripts.submit(request(script), resuming: job)
            case .backup:
                guard let level = SnapshotLevel(rawValue: job.level), configuration.script == nil else { fallthrough }
                guard let uuid = job.subject.uuid else { fallthrough }
                let request = try await selection.request(of: level, resuming: uuid)
                guard isWaiting(job) else { return }
                guard let request else {
                    return registry.closeInterrupted(
                        job, JobOutcome(.aborted, message: "its entry is gone from LDAP, or no longer this daemon's"))
                }
                try await backups.submit(ofBackups(request), resuming: job)
            default:
                fail(job, "with these settings nothing can resume it")
            }
        } catch is CancellationError {
            // The daemon stops: the next start resumes the job.
        } catch {
            if job.type != .backup || isWaiting(job) { fail(job, "\(error)") }
        }
    }

    private func fail(_ job: Job, _ reason: String) {
        registry.closeInterrupted(
            job, JobOutcome(.failed, message: "lost: the daemon ended before the job did, and \(reason)"))
    }

    var selection: BackupJobs {
        BackupJobs(
            engine: engine, configuration: { [current] in current.value.backup },
            jobs: { [current] in current.value.backupJobs })
    }

    // MARK: - Submitting

    /// Submits the jobs of an event handler's command.
    /// - Parameter opened: gets the number of each job before its event handlers run.
    /// - Returns: the error, which is logged; nil: all jobs are submitted.
    func submit(
        _ command: JobCommand, opened: @escaping @Sendable (JobID) -> Void
    ) async -> (any Error)? {
        do {
            switch command {
            case .run(let name): _ = try await submit(request(try script(name)), to: scripts, opened: opened)
            case .backup(let level, let accounts):
                try await refuseToWait(forAll: accounts.isEmpty)
                _ = try await backup(level, accounts: accounts, opened: opened)
            }
            return nil
        } catch { return logged(error, of: command) }
    }

    /// Logs why a command has not submitted all of its jobs.
    @discardableResult
    func logged(_ error: any Error, of command: JobCommand) -> any Error {
        guard error is CancellationError else {
            logger.error("\(command): \(error)")
            return error
        }
        logger.notice("\(command): the daemon stops before all jobs are submitted")
        return Self.stopping
    }

    /// - Throws: if the submission of a backup would wait long.
    private func refuseToWait(forAll isForAll: Bool) async throws {
        let answer = Waiters<Result<Void, LDAPError>>()
        let attempt = Task {
            do throws(LDAPError) {
                try await engine.reachLDAP()
                answer.resume(.success(()))
            } catch { answer.resume(.failure(error)) }
        }
        let alarm = EventLoop.shared.call(at: .now + .seconds(1)) {
            answer.resume(.failure(LDAPError(.timeout, operation: "connect", server: "the LDAP server")))
        }
        defer {
            EventLoop.shared.cancel(alarm)
            attempt.cancel()
        }
        if case .failure(let error)? = await answer.wait() {
            throw CommandFailure(
                "\(error)", hint: "call job.run again when the LDAP server answers", status: .unavailable)
        }
        guard !isForAll || openSubmissions == 0 else {
            throw CommandFailure(
                "another backup of all accounts is being submitted",
                hint: "name accounts, or call job.run again later", status: .tryAgain)
        }
    }

    /// Submits a job of `[Job NAME]`.
    func run(_ name: String) async throws -> JobID { try await submit(request(script(name)), to: scripts).id }

    func request(_ script: UserScript) -> JobRequest {
        script.request { [current] in current.value.userScripts[script.name] }
    }

    /// - Throws: `CommandFailure` with the known names.
    func script(_ name: String) throws -> UserScript {
        guard let script = configuration.userScripts[name] else {
            let names = configuration.userScripts.keys.sorted()
            throw CommandFailure(
                "there is no job \(name)",
                hint: names.isEmpty
                    ? "declare it in a section [Job \(name)], then: systemctl reload prov-backup-rsnapshot"
                    : "the settings know \(names.joined(separator: ", "))", status: .wrongUsage)
        }
        return script
    }

    /// Submits jobs that make snapshots of a level.
    /// - Parameters:
    ///   - accounts: uids; empty: every account of this host that has the level.
    ///   - isForced: even if the last snapshot is recent.
    ///   - opened: gets the number of each job before its event handlers run.
    /// - Returns: the jobs, and the number of accounts that were skipped because their last snapshot is recent.
    /// - Throws: `CommandFailure` if an account does not exist, does not have the level, or has a recent snapshot.
    func backup(
        _ level: String, accounts: [String], isForced: Bool = false,
        opened: @escaping @Sendable (JobID) -> Void = { _ in }
    ) async throws -> (jobs: [JobID], recent: Int) {
        guard configuration.script == nil else {
            throw CommandFailure(
                "this daemon provisions by scripts and makes no backups", hint: "ask one with TYPE = Rsnapshot")
        }
        guard let level = SnapshotLevel(rawValue: level) else {
            throw CommandFailure(
                "there is no level \(level)",
                hint: "the levels are \(SnapshotLevel.allCases.map(\.rawValue).joined(separator: ", "))",
                status: .wrongUsage)
        }
        guard accounts.isEmpty else {
            return (try await backup(level, of: accounts, isForced, opened: opened), 0)
        }
        // One level after the other, so that the jobs of each account have the order of the requests.
        openSubmissions += 1
        return try await allAccounts.perform { [self] in
            defer { openSubmissions -= 1 }
            return try await backupAll(level, isForced, opened: opened)
        }
    }

    private func backup(
        _ level: SnapshotLevel, of accounts: [String], _ isForced: Bool,
        opened: @escaping @Sendable (JobID) -> Void
    ) async throws -> [JobID] {
        let (requests, refusals) = try await selection.requests(of: level, accounts: accounts, isForced: isForced)
        guard refusals.isEmpty else {
            throw CommandFailure(
                refusals.map { OneLine.of($0.description) }.joined(separator: "\n"), hint: "no backup was submitted")
        }
        var ids: [JobID] = []
        do {
            for request in requests {
                ids.append(try await submit(request, to: backups, opened: opened).id)
            }
        } catch { throw after(ids, of: level, error) }
        return ids
    }

    /// The error of a command that has submitted jobs before it failed. If its client has gone, the log says how far it came.
    private func after(_ submitted: [JobID], of level: SnapshotLevel, _ error: any Error) -> any Error {
        if error is CancellationError, Task.isCancelled, !isStopping {
            logger.notice(
                "backup \(level): the client has gone; submitted jobs: \(submitted.count), the others were not submitted"
            )
        }
        guard !submitted.isEmpty, let failure = CommandFailure(error) else { return error }
        return CommandFailure(
            "\(failure)",
            hint: "jobs submitted before this: \(submitted.count); see: prov-backup-rsnapshot jobs list",
            status: failure.status)
    }

    private func backupAll(
        _ level: SnapshotLevel, _ isForced: Bool, opened: @escaping @Sendable (JobID) -> Void
    ) async throws -> (jobs: [JobID], recent: Int) {
        var ids: [JobID] = []
        var recent = 0
        do {
            try await selection.all(of: level, isForced: isForced) { request in
                guard let request else {
                    recent += 1
                    return
                }
                ids.append(try await submit(request, to: backups, opened: opened).id)
            }
        } catch { throw after(ids, of: level, error) }
        if ids.isEmpty, recent == 0 { logger.info("no account gets a backup of level \(level)") }
        return (ids, recent)
    }

    /// Removes expired archived homes as a job, so that event handlers get an event for each, and waits for its end. With `TYPE = Script` there are
    /// none.
    func purge() async throws {
        guard configuration.script == nil else { return }
        let request = JobRequest(
            type: .purge, name: "purge", subject: JobSubject("purge"), client: "archive",
            retry: RetryPolicy(maximumAttempts: 1, delay: .zero, maximumDelay: .zero)
        ) { [clock, logger, current, handlers = parts.handlers] attempt in
            let problems = try await ArchivePurge.run(current.value.backup, now: clock.now) { path, volume in
                attempt.write("the archived home \(path) has been removed")
                logger.notice("the archived home \(path) has been removed")
                await handlers.volumePurged("\(volume)", of: attempt.job)
            }
            guard !problems.isEmpty else { return .success }
            return JobOutcome(
                .warnings, message: "archived homes were not removed: \(problems.joined(separator: "; "))")
        }
        let job = try await withJobNumbers("purge") { try await submit(request, to: scripts) }
        _ = await job.outcome()
    }

    /// The same work, unless a reload has set `TYPE = Script` while it waited: then the settings of backups are not read.
    private func ofBackups(_ request: JobRequest) -> JobRequest {
        var guarded = request
        guarded.work = { [current] attempt in
            guard current.value.script == nil else {
                return JobOutcome(
                    request.type == .purge ? .success : .aborted, message: "this daemon has TYPE = Script by now")
            }
            return try await request.work(attempt)
        }
        return guarded
    }

    func submit(
        _ request: JobRequest, to runner: JobRunner, opened: @escaping @Sendable (JobID) -> Void = { _ in }
    ) async throws -> SubmittedJob {
        await started()
        // The client that asked may have gone.
        try Task.checkCancellation()
        let request = [.backup, .purge].contains(request.type) ? ofBackups(request) : request
        guard let job = try await runner.submit(request, opened: opened) else {
            throw Self.stopping
        }
        return job
    }

    static let stopping = CommandFailure(
        "the daemon stops", hint: "ask again when it runs", status: .unavailable)

    // MARK: - Queries

    var history: JobHistory { parts.history }

    var registry: JobRegistry { parts.registry }

    /// With TYPE = Script no backup can resolve earlier failures.
    var backupProblems: BackupHealth.Summary {
        configuration.script == nil ? parts.reports.health.summary : BackupHealth.Summary()
    }

    /// Reloads the event handlers (specification: rows.md B10).
    /// - Returns: the result, for the operator.
    /// - Throws: `CommandFailure` if the handlers could not be loaded.
    func restartHandlers() async throws -> String {
        let result = await parts.handlers.restart()
        if let fault = parts.handlers.fault { throw CommandFailure(fault, hint: ScriptLine.loadingHint) }
        return result
    }

    /// The volumes' names for event handlers.
    var volumes: Set<String> { Set(configuration.backup.places.volumes.map(\.string)) }

    /// The state of hooks, user scripts and event handlers.
    func scripts() async -> [ScriptLine] {
        let configuration = configuration
        let now = clock.now
        var lines = await BlockingWork.run { ScriptLine.all(configuration, now: now) }
        // Faults of the file are already reported.
        if let fault = parts.handlers.fault,
            let handlers = lines.firstIndex(where: { $0.kind == .handlers && $0.state == .ok })
        {
            lines[handlers].handlersAreNotLoaded(fault)
        }
        return lines
    }
}

extension JobType {
    /// Removes expired archived homes.
    static let purge = JobType(rawValue: "Purge")
}
