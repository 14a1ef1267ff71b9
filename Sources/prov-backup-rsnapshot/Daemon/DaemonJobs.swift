import BackupService
import Daemon
import LDAP
import EventLoop
import JobCore
import Logging
import Provisioning
import SystemPackage

/// The daemon's jobs besides the provisioning: takes them in from operators, schedules and handlers, and has them run.
@MainActor final class DaemonJobs: JobDesk {
    let parts: JobParts
    let engine: Engine
    let backups: JobRunner
    let scripts: JobRunner
    let logger: Logger
    let clock: any WallClock = SystemWallClock()
    private(set) var configuration: DaemonConfiguration
    private(set) var isStopping = false
    private(set) var rescuing: Task<Void, Never>?
    private var clockWatch: Task<Void, Never>?
    /// Follows the timetable.
    var schedule: Task<Void, Never>?
    /// Looks through all accounts once a day.
    var review: Task<Void, Never>?
    /// The last request of a run of backups; the next one waits for it.
    var lastAsking: Task<Void, Never>?
    /// Runs of backups that are under way.
    var runs: [SnapshotLevel: BackupRun] = [:]
    /// The last request for a level of all accounts; the next one waits for it.
    private var lastLevel: Task<Void, Never>?
    /// Who asks before the handlers are there; nil when they are.
    private var early: [CheckedContinuation<Void, Never>]? = []
    nonisolated let history: JobHistory?

    init(
        _ configuration: DaemonConfiguration, parts: JobParts, engine: Engine, history: JobHistory?, logger: Logger
    ) {
        self.configuration = configuration
        self.parts = parts
        self.engine = engine
        self.history = history
        self.logger = logger
        let executor = parts.executor(configuration)
        backups = JobRunner(
            executor: executor, ids: parts.ids, scheduler: parts.scheduler, slots: configuration.backupJobs.slots)
        scripts = JobRunner(
            executor: executor, ids: parts.ids, scheduler: parts.scheduler, slots: Self.scriptSlots)
        parts.serve(self)
    }

    /// Scripts that differ in name may run side by side; MAX_JOBS limits them with all others.
    private static let scriptSlots = 64

    // MARK: - From start to stop

    /// Loads the handlers, begins to take up what an earlier run of the daemon left behind, and asks for what has a schedule from now on.
    /// To be called before the engine starts.
    func start() async {
        await parts.handlers.start()
        early?.forEach { $0.resume() }
        early = nil
        let left = await parts.leftJobs()
        await parts.recallFailedBackups()
        await engine.takeUp(left)
        // The directory may be away for long, and the daemon is to be there meanwhile.
        rescuing = Task {
            let run = parts.reports.mail.open("jobs of an earlier run of the daemon")
            for left in left where left.type != .provisioning { await rescue(left, run) }
            parts.reports.mail.close(run)
        }
        warnOfDoubtedClock()
        clockWatch = Task { await followClock() }
        makeUpForMissedRuns(since: parts.presence.lastSeen ?? clock.now)
        followSchedules()
    }

    /// Jobs that begin from now on go by these settings.
    func reload(_ configuration: DaemonConfiguration) async {
        self.configuration = configuration
        parts.scheduler.setLimit(configuration.scripts.maxJobs)
        parts.reports.reconfigure(configuration)
        let executor = parts.executor(configuration)
        backups.reconfigure(executor: executor, slots: configuration.backupJobs.slots)
        scripts.reconfigure(executor: executor, slots: Self.scriptSlots)
        followSchedules()
    }

    /// Starts nothing more; what runs has the grace, and then patience to end.
    func stop(grace: Duration, patience: Duration) async {
        isStopping = true
        for task in [schedule, review, clockWatch, rescuing] + runs.values.map(\.task) { task?.cancel() }
        async let first: Void = backups.stop(grace: grace, killTimeout: patience)
        async let second: Void = scripts.stop(grace: grace, killTimeout: patience)
        _ = await (first, second)
    }

    // MARK: - Crash rescue

    private func rescue(_ left: Job, _ run: MailDigest.Run) async {
        parts.reports.mail.add(left.id, to: run)
        do {
            switch left.type {
            case _ where left.status == .canceled:
                close(left, .canceled)
            case .admin where configuration.userScripts[left.name] != nil:
                guard let request = configuration.userScripts[left.name]?.request else { return }
                try await scripts.submit(request, resuming: left)
            case .backup:
                guard let level = SnapshotLevel(rawValue: left.level), configuration.script == nil,
                    let request = try await selection.requests(of: level, accounts: [left.client], isForced: true)
                        .first
                else { fallthrough }
                try await backups.submit(request, resuming: left)
            default:
                lose(left, "nothing is left that could take it up")
            }
        } catch is CancellationError {
            // The daemon stops: the next start takes it up.
        } catch {
            lose(left, "\(error)")
        }
    }

    private func lose(_ job: Job, _ reason: String) {
        close(job, JobOutcome(.failed, message: "lost: the daemon ended before the job did, and \(reason)"))
    }

    private func close(_ job: Job, _ outcome: JobOutcome) {
        parts.registry.open(job)
        parts.registry.close(job.id, outcome)
    }

    var selection: BackupJobs {
        BackupJobs(engine: engine, configuration: configuration.backup, jobs: configuration.backupJobs)
    }

    // MARK: - Asking

    /// What goes wrong is in the log as well.
    /// - Parameters:
    ///   - isWanted: looks at each job before it is asked for.
    ///   - opened: is told the number of each job before its handlers hear of it.
    /// - Returns: what went wrong.
    @discardableResult
    func ask(
        _ command: JobCommand, where isWanted: @escaping @MainActor (JobRequest) -> Bool = { _ in true },
        opened: @escaping @Sendable (JobID) -> Void = { _ in }
    ) async -> (any Error)? {
        do {
            switch command {
            case .run(let name):
                let request = try script(name).request
                if isWanted(request) { _ = try await submit(request, to: scripts, opened: opened) }
            case .backup(let level, let accounts):
                _ = try await backup(level, accounts: accounts, where: isWanted, opened: opened)
            }
            return nil
        } catch is CancellationError {
            logger.notice("\(command): the daemon stops before all its jobs are asked for")
            return Self.stops
        } catch {
            logger.error("\(command): \(error)")
            return error
        }
    }

    func run(_ name: String) async throws -> JobID { try await submit(try script(name).request, to: scripts).id }

    private func script(_ name: String) throws -> UserScript {
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

    func backup(_ level: String, accounts: [String], isForced: Bool) async throws -> (jobs: [JobID], recent: Int) {
        // Scheduled jobs wait for an LDAP server that is down; an operator at a terminal does not.
        do throws(LDAPError) { try await engine.reachDirectory() } catch { throw CommandFailure(error) }
        return try await backup(
            level, accounts: accounts, isForced: isForced, where: { _ in true }, opened: { _ in })
    }

    private func backup(
        _ level: String, accounts: [String], isForced: Bool = false,
        where isWanted: @escaping @MainActor (JobRequest) -> Bool, opened: @escaping @Sendable (JobID) -> Void
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
            return (try await backup(level, of: accounts, isForced, where: isWanted, opened: opened), 0)
        }
        // One level after the other: so each account has its jobs in the order in which the levels were asked for.
        let earlier = lastLevel
        let request = Task {
            await earlier?.value
            return try await backupAll(level, isForced, where: isWanted, opened: opened)
        }
        lastLevel = Task { _ = await request.result }
        return try await withTaskCancellationHandler {
            try await request.value
        } onCancel: {
            request.cancel()
        }
    }

    private func backup(
        _ level: SnapshotLevel, of accounts: [String], _ isForced: Bool, where isWanted: (JobRequest) -> Bool,
        opened: @escaping @Sendable (JobID) -> Void
    ) async throws -> [JobID] {
        let requests: [JobRequest]
        do {
            requests = try await selection.requests(of: level, accounts: accounts, isForced: isForced)
        } catch let refusals as BackupRefusals {
            throw CommandFailure("\(refusals)", hint: "no backup was asked for")
        }
        var ids: [JobID] = []
        for request in requests where isWanted(request) {
            ids.append(try await submit(request, to: backups, opened: opened).id)
        }
        return ids
    }

    private func backupAll(
        _ level: SnapshotLevel, _ isForced: Bool, where isWanted: (JobRequest) -> Bool,
        opened: @escaping @Sendable (JobID) -> Void
    ) async throws -> (jobs: [JobID], recent: Int) {
        var ids: [JobID] = []
        var recent = 0
        try await selection.all(of: level, isForced: isForced) { selected in
            guard let request = selected.request(level) else {
                recent += 1
                return
            }
            if isWanted(request) { ids.append(try await submit(request, to: backups, opened: opened).id) }
        }
        if ids.isEmpty, recent == 0 { logger.info("no account gets a backup of level \(level)") }
        return (ids, recent)
    }

    /// Removes archived homes whose days are over, as a job, so that its handlers hear of each.
    /// - Returns: nil with `TYPE = Script`: archived homes are the affair of the daemon that archives them.
    func purge() async throws -> JobOutcome? {
        guard configuration.script == nil else { return nil }
        let events = parts.events(configuration)
        let purge = ArchivePurge(configuration.backup)
        let job = try await submit(
            JobRequest(
                type: .purge, name: "purge", subject: JobSubject("purge"), client: "archive",
                retry: RetryPolicy(maximumAttempts: 1, delay: .zero, maximumDelay: .zero)
            ) { [clock, logger] attempt in
                let report = try await purge.run(now: clock.now)
                for purged in report.purged {
                    attempt.write("the archived home \(purged.path) has been removed")
                    logger.notice("the archived home \(purged.path) has been removed")
                    await events.volumePurged("\(purged.volume)", of: attempt.job)
                }
                guard !report.problems.isEmpty else { return .success }
                return JobOutcome(
                    .warnings, message: "archived homes stay: \(report.problems.joined(separator: "; "))")
            }, to: scripts)
        return await job.outcome()
    }

    func submit(
        _ request: JobRequest, to runner: JobRunner, opened: @escaping @Sendable (JobID) -> Void = { _ in }
    ) async throws -> SubmittedJob {
        if early != nil { await withCheckedContinuation { early?.append($0) } }
        guard let job = try await runner.submit(request, opened: opened) else {
            throw Self.stops
        }
        return job
    }

    private static let stops = CommandFailure(
        "the daemon stops", hint: "ask again when it runs", status: .unavailable)

    // MARK: - Looking

    func live() -> [Job] { parts.registry.live() }

    var health: BackupHealth { parts.reports.health }

    var backupSlots: Int { configuration.backupJobs.slots }

    func output(of id: JobID) -> CapturedOutput? { parts.registry.output(of: id) }

    func cancel(_ id: JobID) -> Bool { parts.registry.cancel(id) }

    /// - Throws: `CommandFailure` when there are no handlers now, or not the new ones.
    func restartHandlers() async throws -> String {
        let said = await parts.handlers.restart()
        if let fault = parts.handlers.fault { throw CommandFailure(fault, hint: ScriptLine.loadingHint) }
        return said
    }

    /// The names by which handlers know the volumes.
    var volumes: Set<String> { Set(configuration.backup.places.volumes.map(\.string)) }

    func scripts() async -> [ScriptLine] {
        let configuration = configuration
        let now = clock.now
        var lines = await BlockingWork.run { ScriptLine.all(configuration, now: now) }
        // What is wrong with the file on the disk has been said already.
        if let fault = parts.handlers.fault,
            let handlers = lines.firstIndex(where: { $0.kind == .handlers && $0.state == .ok })
        {
            lines[handlers].handlersAreNotLoaded(fault)
        }
        return lines
    }
}

extension JobType {
    /// Archived homes whose days are over are removed.
    static let purge = JobType(rawValue: "Purge")
}

extension BackupJobs.Selected {
    /// The job that comes of it; nil: none does.
    func request(_ level: SnapshotLevel) -> JobRequest? {
        switch self {
        case .job(let request): request
        case .refused(let refusal): refusal.request(level)
        case .recent: nil
        }
    }
}

extension BackupRefusal {
    /// A job that says so, and ends as wrong configuration.
    fileprivate func request(_ level: SnapshotLevel) -> JobRequest {
        let outcome = JobOutcome(.wrongConfiguration, failureClass: .configuration, message: description)
        return JobRequest(
            type: .backup, name: level.rawValue, level: level.rawValue,
            subject: JobSubject("backup of \(dn.map { "\($0)" } ?? account)"), client: account,
            retry: RetryPolicy(maximumAttempts: 1, delay: .zero, maximumDelay: .zero), work: { _ in outcome })
    }
}
