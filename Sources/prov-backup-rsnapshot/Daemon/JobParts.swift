import BackupService
import Daemon
import JobCore
import Logging
import Provisioning
import ScriptService
import Synchronization
import SystemPackage

/// What all jobs of this process share, from its start to its end.
@MainActor struct JobParts {
    let ids: JobIDSource
    let registry: JobRegistry
    let scheduler: JobScheduler
    let handlers: EventHandlers
    let inhibitor: Inhibitor
    let history: JobHistory
    let presence: Presence
    let reports: JobReports
    private let host: HandlerHost
    private let logger: Logger

    init(
        _ configuration: DaemonConfiguration, ids: JobIDSource, presence: Presence, reports: JobReports, logger: Logger
    ) {
        let notice: NoticeHandler = { logger.log($0) }
        self.ids = ids
        self.presence = presence
        self.logger = logger
        history = JobHistory(
            file: configuration.historyFile, retention: configuration.history.retention, notice: notice)
        self.reports = reports
        registry = JobRegistry(recorder: history) { reports.ended($0) }
        scheduler = JobScheduler(limit: configuration.scripts.maxJobs)
        host = HandlerHost(registry: registry)
        handlers = EventHandlers(configuration.scripts.events, host: host, notice: notice)
        inhibitor = Inhibitor(who: "prov-backup-rsnapshot", notice: notice)
    }

    /// What the handlers ask for goes there from now on.
    func serve(_ jobs: DaemonJobs) { host.serve(jobs) }

    /// How attempts are carried out by some settings.
    func executor(_ configuration: DaemonConfiguration) -> JobExecutor {
        JobExecutor(
            registry: registry, policies: configuration.policies, environment: configuration.backup.baseEnvironment,
            reportSocket: configuration.reportSocket.string, events: events(configuration), inhibitor: inhibitor,
            notice: { [logger] in logger.log($0) }, alert: { [reports] in reports.scriptsFailed($0) })
    }

    /// Gives the handlers their last event, and writes what the history has not written yet.
    func stop() async {
        await handlers.stop()
        await history.close()
    }

    /// Jobs that were open when an earlier run of the daemon ended.
    func leftJobs() async -> [Job] {
        do throws(HistoryError) {
            return try await history.unfinished()
        } catch {
            logger.warning("what was left of an earlier run cannot be told: \(error)")
            return []
        }
    }

    /// Failed backups of an earlier run that no later job has made good are counted from now on.
    func recallFailedBackups() async {
        do throws(HistoryError) {
            for job in try await history.unresolvedFailures(of: .backup) { reports.health.recall(job) }
        } catch {
            logger.warning("backups that failed before this start are not counted: \(error)")
        }
    }

    func events(_ configuration: DaemonConfiguration) -> JobEvents {
        JobEvents(handlers) { [surroundings = configuration.surroundings] job, status, volume in
            await surroundings.describe(job, status, volume: volume)
        }
    }

    /// The engine's settings with everything that this process alone can give it.
    func engine(_ configuration: DaemonConfiguration) -> Engine.Configuration {
        var engine = configuration.engine
        engine.executor = executor(configuration)
        if configuration.script == nil {
            let events = events(configuration)
            engine.service = BackupRsnapshotService(configuration: configuration.backup) { [registry] job, choice in
                guard let job = registry.live(job) else { return nil }
                registry.status(job.id, .waitingForNewMedia)
                defer { registry.status(job.id, .running) }
                let names = choice.volumes.map(\.string)
                return await events.newVolume(for: job, of: choice.pool.name, among: names).map { FilePath($0) }
            }
        }
        return engine
    }
}

/// What handlers can ask of the daemon (specification: rows.md B5).
@MainActor final class HandlerHost: EventHandlerHost {
    private let registry: JobRegistry
    private weak var jobs: DaemonJobs?

    nonisolated init(registry: JobRegistry) { self.registry = registry }

    func serve(_ jobs: DaemonJobs) { self.jobs = jobs }

    func run(_ command: String) async -> Result<JobID, RefusedCommand> {
        guard let jobs else { return .failure(RefusedCommand("this daemon runs no jobs")) }
        let parsed: JobCommand
        do { parsed = try JobCommand(parsing: command) } catch { return .failure(error) }
        // The new job's handlers are those that wait for this answer: it must not wait for them.
        let (answers, first) = AsyncStream<Result<JobID, RefusedCommand>>.makeStream(
            bufferingPolicy: .bufferingOldest(1))
        Task {
            let error = await jobs.ask(parsed, opened: { first.yield(.success($0)) })
            first.yield(.failure(RefusedCommand(error.map { "\($0)" } ?? "no account needs it, so no job was made")))
            first.finish()
        }
        for await answer in answers { return answer }
        return .failure(RefusedCommand("the daemon stops"))
    }

    func cancel(_ id: JobID) async -> Bool { registry.cancel(id) }

    func volumeExists(_ name: String) async -> Bool {
        guard let jobs else { return false }
        return jobs.volumes.contains(name)
    }

    func write(_ line: String, to job: JobID) { registry.write(line, to: job, source: .handler) }
}

extension Logger {
    /// A notice of the core as a line of the log.
    func log(_ notice: CoreNotice) {
        let level: Level =
            switch notice.level {
            case .debug: .debug
            case .info: .info
            case .warning: .warning
            case .error: .error
            }
        log(level: level, "\(notice.text)", metadata: notice.job.map { ["job": "\($0)"] })
    }
}
