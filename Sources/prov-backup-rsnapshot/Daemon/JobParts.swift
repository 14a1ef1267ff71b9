import BackupService
import Daemon
import EventLoop
import JobCore
import LDAP
import Logging
import Provisioning
import ScriptService
import Synchronization
import SystemPackage

/// The objects that all jobs of the process share. Answers the requests of event handlers (specification: rows.md B5).
@MainActor final class JobParts {
    let ids: JobIDSource
    let registry: JobRegistry
    let scheduler: JobScheduler
    private(set) lazy var handlers = EventHandlers(
        current.value.scripts.events, host: self, notice: { [logger] in logger.log($0) })
    let inhibitor: Inhibitor
    let history: JobHistory
    let presence: Presence
    let reports: JobReports
    /// The jobs that event handlers may start; nil: this process runs requests only.
    weak var jobs: DaemonJobs?
    private let current: CurrentConfiguration
    private let logger: Logger

    init(
        _ current: CurrentConfiguration, ids: JobIDSource, presence: Presence, reports: JobReports, logger: Logger
    ) {
        let configuration = current.value
        self.current = current
        let notice: NoticeHandler = { logger.log($0) }
        self.ids = ids
        self.presence = presence
        self.logger = logger
        history = JobHistory(
            file: configuration.historyFile, retention: configuration.history.retention, ids: ids,
            isTimeTrusted: { presence.distrustedUntil == nil }, notice: notice)
        self.reports = reports
        registry = JobRegistry(recorder: history) { reports.ended($0, scriptFailures: $1) }
        scheduler = JobScheduler(limit: { current.value.scripts.maxJobs })
        inhibitor = Inhibitor(who: "prov-backup-rsnapshot", notice: notice)
    }

    /// Runs attempts with the current settings.
    var executor: JobExecutor {
        let configuration = current.value
        return JobExecutor(
            registry: registry, policies: configuration.policies, environment: configuration.backup.baseEnvironment,
            reportSocket: configuration.reportSocket.string, events: handlers, inhibitor: inhibitor,
            notice: { [logger] in logger.log($0) })
    }

    /// Sends the last event to the handlers and closes the history.
    func stop() async {
        await handlers.stop()
        await history.close()
    }

    /// Counts failed backups of previous daemons that no later backup has resolved.
    func recallFailedBackups() async {
        do throws(HistoryError) {
            for job in try await history.unresolvedFailures(of: .backup) { reports.health.ended(job) }
        } catch {
            logger.warning("backups that failed before this start are not counted: \(error)")
        }
    }

    /// The engine's current settings with the objects of this process.
    var engine: Engine.Configuration {
        var engine = current.engine
        engine.executor = executor
        // A copy, since the service keeps what it knows of the template.
        if var service = engine.service as? BackupRsnapshotService {
            service.chooseVolume = { [registry, handlers] job, pool in
                guard let job = registry.live(job) else { return nil }
                registry.status(job.id, .waitingForNewMedia)
                defer { registry.status(job.id, .running) }
                let names = pool.volumes.map(\.string)
                return await handlers.newVolume(for: job, of: pool.name, among: names).map { FilePath($0) }
            }
            service.clockDoubtedUntil = { [presence] in presence.clockDoubtedUntil }
            engine.service = service
        }
        return engine
    }
}

// MARK: - Requests of event handlers

extension JobParts: EventHandlerHost {
    func run(_ command: String) async -> Result<JobID, RefusedCommand> {
        guard let jobs else { return .failure(RefusedCommand("this daemon runs no jobs")) }
        let parsed: JobCommand
        do { parsed = try JobCommand(parsing: command) } catch { return .failure(error) }
        // Returns when the job is opened: its handlers run in the interpreter that waits for this answer.
        let (answers, first) = AsyncStream<Result<JobID, RefusedCommand>>.makeStream(
            bufferingPolicy: .bufferingOldest(1))
        Task {
            let error = await jobs.submit(parsed, opened: { first.yield(.success($0)) })
            first.yield(
                .failure(RefusedCommand(error.map { "\($0)" } ?? "no account needs it, so no job was submitted")))
            first.finish()
        }
        for await answer in answers { return answer }
        return .failure(RefusedCommand("the daemon stops"))
    }

    func cancel(_ id: JobID) async -> Bool {
        guard registry.cancel(id, by: .handler) else { return false }
        await registry.recorded(id)
        return true
    }

    /// - Parameter volume: nil: the volume of the account's home, or the first volume for jobs without an account.
    func describe(_ job: Job, _ status: JobStatus, volume: String?) async -> EventJob {
        let configuration = current.value
        let places = configuration.backup.places
        let account = [.backup, .provisioning].contains(job.type) ? job.client : nil
        let facts = await BlockingWork.run { () -> (pool: Pool, mediaType: String)? in
            let volume = volume.map { FilePath($0) } ?? places.volume(ofAccount: account)
            return volume.flatMap { places.facts(of: $0) }
        }
        let catalog = configuration.catalogResource
        return EventJob(
            job, status: status, levels: job.type == .backup ? SnapshotLevel.allCases.map(\.rawValue) : [],
            pool: facts?.pool.name ?? "", volumes: facts?.pool.volumes.count ?? 0, storage: ThisHost.name,
            catalog: catalog.base, mediaType: facts?.mediaType ?? "", catalogResource: catalog)
    }

    func volumeExists(_ name: String) async -> Bool {
        guard let jobs else { return false }
        return jobs.volumes.contains(name)
    }

    func write(_ line: String, to job: JobID, source: ReportLine.Source) {
        registry.write(line, to: job, source: source)
    }
}

extension Logger {
    /// Logs a notice of JobCore.
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

/// A command of a schedule or an event handler: `run NAME` or `backup LEVEL [UID…]`.
enum JobCommand: Hashable, Sendable, CustomStringConvertible {
    case run(String)
    case backup(String, accounts: [String])

    /// Also accepts the form of Bacula's console: `run job=NAME yes`.
    init(parsing text: String) throws(RefusedCommand) {
        let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
        switch words.first?.lowercased() {
        case "run": self = .run(try Self.name(words.dropFirst()))
        case "backup" where words.count > 1: self = .backup(words[1], accounts: Array(words[2...]))
        default:
            throw RefusedCommand(
                "\(String(reflecting: text)) is no command; write run job=NAME yes, or backup LEVEL [UID...]")
        }
    }

    /// Keywords are not case-sensitive, and the value may be quoted. `yes` is optional; alone it is a name.
    private static func name(_ words: some Collection<String>) throws(RefusedCommand) -> String {
        var name: String?
        for word in words where words.count == 1 || word.lowercased() != "yes" {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let isName = parts.count == 1 || ["job", "jobname"].contains(parts[0].lowercased())
            guard isName, name == nil, let value = parts.last else {
                throw RefusedCommand(
                    "run does not know \(word); write run job=NAME yes, with the name of a section [Job NAME]")
            }
            name =
                value.count > 1 && value.first == "\"" && value.last == "\""
                ? String(value.dropFirst().dropLast()) : String(value)
        }
        guard let name, !name.isEmpty else {
            throw RefusedCommand(
                "run does not say which job; write run job=NAME yes, with the name of a section [Job NAME]")
        }
        return name
    }

    var description: String {
        switch self {
        case .run(let name): "run \(name)"
        case .backup(let level, let accounts): (["backup", level] + accounts).joined(separator: " ")
        }
    }
}

extension DaemonConfiguration {
    /// The LDAP service, for event handlers.
    fileprivate var catalogResource: CatalogResource {
        var bindDN = ""
        if case .simple(let dn, _) = engine.connection.credentials { bindDN = dn.description }
        var (address, socket, port) = ("", "", 0)
        switch engine.servers.first?.endpoint {
        case .tcp(let host, let number, _): (address, port) = (host, Int(number))
        case .local(let path): socket = path
        case nil: break
        }
        return CatalogResource(
            base: engine.scope.base.description, address: address, bindDN: bindDN, socket: socket, port: port,
            vendor: "LDAP")
    }
}
