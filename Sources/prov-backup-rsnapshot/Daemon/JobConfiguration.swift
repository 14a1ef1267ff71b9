import BackupRsnapshot
import DaemonKit
import DirectoryClient
import DirectoryModel
import JobCore
import Provisioning
import SystemPackage

/// What the settings mean for jobs of every type.
struct JobConfiguration: Sendable {
    /// `[Hooks TYPE]` and the windows.
    let policies: [JobType: JobPolicy]
    /// MAX_JOBS.
    let limit: Int?
    /// `[Job NAME]`, by name.
    let scripts: [String: UserScript]
    /// Everything that has a schedule.
    let timetable: JobTimetable
    /// `[Backup Jobs]`.
    let backups: BackupJobsConfiguration
    /// EVENTS_DIRECTORY, EVENT_TIMEOUT.
    let events: EventConfiguration
    /// What handlers are told of this server and of the directory.
    let surroundings: EventSurroundings
    /// What every hook and user script finds in its environment.
    let environment: [String: String]
    /// Where scripts report.
    let reportSocket: FilePath
    let history: DaemonSettings.History
    /// Who is told by mail.
    let mail: Mailer.Configuration
    /// What this installation is called in mails.
    let installation: String

    init(_ settings: DaemonSettings, backup: BackupConfiguration, configFile: String) {
        let retry = RetryPolicy(
            maximumAttempts: settings.service.maxAttempts, delay: settings.service.retryDelay,
            maximumDelay: settings.service.retryMaxDelay)
        environment = backup.baseEnvironment
        policies = Self.policies(settings)
        limit = settings.scripts.maxJobs
        scripts = Dictionary(
            settings.jobs.map { job in
                (
                    job.name,
                    UserScript(
                        name: job.name, path: FilePath(job.script), timeLimit: job.timeout, profile: job.exitProfile,
                        priority: job.priority, user: job.runAs, environment: backup.baseEnvironment, retry: retry,
                        interruption: job.onInterrupt == .fail ? .fails : .repeats)
                )
            }, uniquingKeysWith: { $1 })
        timetable = JobTimetable(
            settings.jobs.compactMap { job in
                job.schedule.map { .init(name: JobCommand.run(job.name).description, schedule: $0) }
            }
                // Due together, the larger level goes first: it takes over the snapshot that the smaller one would remove.
                + SnapshotLevel.allCases.reversed().compactMap { level in
                    settings.backupJobs.schedules[level].map {
                        .init(name: JobCommand.backup(level.rawValue, accounts: []).description, schedule: $0)
                    }
                })
        backups = BackupJobsConfiguration(
            slots: settings.backupJobs.slots, timeLimit: settings.backupJobs.timeout,
            memory: settings.backupJobs.memory,
            window: settings.backupJobs.window, schedules: settings.backupJobs.schedules, retry: retry,
            host: ThisHost.name,
            writesSize: settings.backupJobs.writesBackupSize, writesIncrement: settings.backupJobs.writesIncrementSize,
            writesLastSuccess: settings.backupJobs.writesLastSuccess)
        let state = FilePath(settings.service.stateDirectory)
        reportSocket = ReportServer.socketPath(in: FilePath(settings.service.runtimeDirectory))
        events = EventConfiguration(
            directory: FilePath(settings.scripts.eventsDirectory), timeLimit: settings.scripts.eventTimeout,
            moduleFolder: state.appending("python"),
            daemon: .init(
                name: settings.service.syslog, configFile: configFile, workingDirectory: state.string,
                version: "\(Version.description) \(Version.date)"),
            environment: [RunningAttempt.reportSocketVariable: reportSocket.string])
        surroundings = EventSurroundings(settings, backup)
        history = settings.history
        mail = Mailer.Configuration(
            recipients: settings.mail.recipients, senderName: settings.mail.senderName, sender: .root,
            sendmail: FilePath(settings.mail.sendmail))
        installation = settings.environment
    }

    private static func policies(_ settings: DaemonSettings) -> [JobType: JobPolicy] {
        var policies: [JobType: JobPolicy] = [:]
        for type in HooksSection.types {
            let hooks = settings.hooks[type]
            let window = type == .backup ? settings.backupJobs.window ?? settings.windows[type] : settings.windows[type]
            policies[type] = JobPolicy(
                hooks: hooks.map {
                    HookSettings(
                        directory: FilePath($0.directory), skipsJob: $0.skipOnPreFailure, timeLimit: $0.timeout)
                }, window: window, alerts: hooks?.alert ?? true, inhibitsSleep: type != .provisioning,
                // The larger level takes over the snapshot that the smaller one would remove.
                levels: type == .backup ? SnapshotLevel.allCases.reversed().map(\.rawValue) : [])
        }
        return policies
    }
}

/// What a schedule, a handler or an operator can ask for, in one line: `run NAME` or `backup LEVEL [UID…]`.
enum JobCommand: Hashable, Sendable, CustomStringConvertible {
    case run(String)
    case backup(String, accounts: [String])

    /// `run` also as Bacula's console has it: `run job=NAME yes`.
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

    /// Keywords in any case, the value also in quotes. Nothing is asked back, so `yes` may be left out; alone it is a name.
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

/// What handlers are told of this server and of the directory (row B7).
struct EventSurroundings: Sendable {
    private let storage: String
    private let places: HomePlaces
    private let resource: CatalogResource

    init(_ settings: DaemonSettings, _ backup: BackupConfiguration) {
        storage = ThisHost.name
        places = backup.places
        let bindDN =
            switch settings.directory.bind {
            case .simple(let dn, _): dn.description
            case .anonymous, .external: ""
            }
        let endpoint = settings.directory.servers.first?.endpoint
        var (address, socket, port) = ("", "", 0)
        switch endpoint {
        case .tcp(let host, let number, _): (address, port) = (host, Int(number))
        case .local(let path): socket = path
        case nil: break
        }
        resource = CatalogResource(
            base: settings.directory.subtree.description, address: address, bindDN: bindDN, socket: socket, port: port,
            vendor: "LDAP")
    }

    /// - Parameter volume: nil: the one that holds the account's home; for jobs without an account the first one.
    func describe(_ job: Job, _ status: JobStatus, volume: String?) async -> EventJob {
        let places = places
        let account = [.backup, .provisioning].contains(job.type) ? job.client : nil
        let facts = await BlockingWork.run { () -> VolumeFacts? in
            let volume = volume.map { FilePath($0) } ?? places.volume(ofAccount: account)
            return volume.flatMap { places.facts(of: $0) }
        }
        return EventJob(
            job, status: status, levels: job.type == .backup ? SnapshotLevel.allCases.map(\.rawValue) : [],
            pool: facts?.pool.name ?? "", volumes: facts?.pool.volumes.count ?? 0, storage: storage,
            catalog: resource.base, mediaType: facts?.mediaType ?? "", catalogResource: resource)
    }
}
