import BackupService
import Daemon
import LDAP
import JobCore
import Provisioning
import ScriptService
import SystemPackage

/// The settings, checked as far as can be done without asking the LDAP server or starting anything: the sections as their consumers take them,
/// and the values that are made from several of them.
///
/// It is made by ``load(service:global:environment:namedGlobal:)`` alone, so that its holder needs no further checks.
struct DaemonConfiguration: Sendable {
    /// The service's file.
    let configFile: String
    /// The global file where it was named on the command line; `nil`: the usual one, if it is there.
    let globalFile: String?
    /// As they were read, to tell what a reload changes.
    let settings: Settings
    let global: GlobalSettings
    let service: ServiceSettings
    let mail: Mailer.Configuration
    let backup: BackupConfiguration
    let backupJobs: BackupJobsConfiguration
    /// With `TYPE = Script`: it takes the place of the backup accounts' provisioning.
    let script: ScriptServiceConfiguration?
    let scripts: ScriptsSettings
    let history: HistorySettings
    /// From `[Hooks TYPE]` and the windows.
    let policies: [JobType: JobPolicy]
    /// From `[Job NAME]`, by name.
    let userScripts: [String: UserScript]
    /// Everything that has a schedule.
    let timetable: JobTimetable
    let engine: Engine.Configuration
    /// For handlers: this server and the LDAP service.
    let surroundings: EventSurroundings

    /// Reads the files and the environment.
    ///
    /// - Parameters:
    ///   - service: the service's file (`-c`).
    ///   - global: the global file, if there is one.
    ///   - namedGlobal: the global file where the command line names it (`-g`).
    /// - Returns: the settings, and the warnings about them.
    /// - Throws: everything that is wrong, at once.
    static func load(
        service: FilePath, global: FilePath?, environment: [String: String], namedGlobal: String? = nil
    ) throws(SettingsError) -> (settings: DaemonConfiguration, warnings: [SettingsProblem]) {
        var settings = Settings(.daemon, files: [global, service].compactMap(\.self), environment: environment)
        // The content of a file that cannot be read is not known, so no key is reported as missing.
        if settings.lacksFile { throw settings.error }
        let configuration = DaemonConfiguration(
            checking: &settings, configFile: service.string, globalFile: namedGlobal)
        guard settings.errors.isEmpty else { throw settings.error }
        return (configuration, settings.warnings)
    }

    /// Makes the checks that no single key can make, and adds their errors to the settings. With errors the result is not to be used.
    private init(checking settings: inout Settings, configFile: String, globalFile: String?) {
        self.settings = settings
        self.configFile = configFile
        self.globalFile = globalFile
        var database = settings[DatabaseSettings.self]
        let servers = database.check(&settings)
        var service = settings[ServiceSettings.self]
        service.check(&settings)
        self.service = service
        var global = settings[GlobalSettings.self]
        if global.environment.isEmpty { global.environment = ThisHost.name }
        self.global = global
        var backupJobs = settings[BackupJobsConfiguration.self]
        backupJobs.retry = service.retry
        backupJobs.host = ThisHost.name
        self.backupJobs = backupJobs

        let reportSocket = ReportServer.socketPath(in: service.runtimeDirectory)
        var backup = settings[BackupConfiguration.self]
        backup.check(&settings, service: service.type)
        backup.places.configuredPools = Pool.all(&settings, below: backup.places.roots)
        backup.timeLimit = backupJobs.timeLimit
        // Not below the runtime directory: rsnapshot also runs while the daemon does not.
        backup.lockDirectory = service.stateDirectory.appending("locks")
        backup.reportSocket = reportSocket.string
        self.backup = backup

        var scripts = settings[ScriptsSettings.self]
        scripts.events.moduleDirectory = service.stateDirectory.appending("python")
        scripts.events.daemon.name = service.syslog
        scripts.events.daemon.configFile = configFile
        scripts.events.daemon.workingDirectory = service.stateDirectory.string
        scripts.events.daemon.version = "\(Version.description) \(Version.date)"
        scripts.events.environment = [RunningAttempt.reportSocketVariable: reportSocket.string]
        self.scripts = scripts

        policies = JobPolicy.all(HooksSettings.all(&settings, backupWindow: backupJobs.window), backupJobs.window)
        let profiles = ExitProfile.all(&settings)
        let jobs = JobSettings.all(
            &settings, profiles, environment: backup.baseEnvironment, retry: service.retry)
        userScripts = Dictionary(jobs.map { ($0.job.name, $0.job) }, uniquingKeysWith: { $1 })
        timetable = JobTimetable(
            jobs.compactMap { (section: JobSettings) in
                section.schedule.map { .init(name: JobCommand.run(section.job.name).description, schedule: $0) }
            }
                // Due together, the larger level goes first: it takes over the snapshot that the smaller one would remove.
                + SnapshotLevel.allCases.reversed().compactMap { level in
                    backupJobs.schedules[level].map {
                        .init(name: JobCommand.backup(level.rawValue, accounts: []).description, schedule: $0)
                    }
                })
        history = settings[HistorySettings.self]
        var script = settings[ScriptServiceConfiguration.self]
        script.check(&settings, profiles, service: service.type)
        script.programDirectories = backup.programDirectories
        self.script = service.type == .script ? script : nil
        var mail = settings[Mailer.Configuration.self]
        if mail.senderName.isEmpty { mail.senderName = service.syslog }
        self.mail = mail
        engine = Engine.Configuration(
            global, settings[OperationModeSettings.self], service, database, servers, settings[AttributeNames.self],
            password: settings.file(of: \DatabaseSettings.password).map { "ADMIN_PASSWORD_FILE (\($0))" }
                ?? "ADMIN_PASSWORD (\(settings.place(of: \DatabaseSettings.password)))",
            provisioning: service.type == .script
                ? ScriptService(configuration: script) : BackupRsnapshotService(configuration: backup))
        surroundings = EventSurroundings(engine, backup.places)
    }

    /// How long a job that is interrupted at the stop may take to end: within, a program that is asked to end is killed.
    var stopPatience: Duration { backup.scriptGrace + .seconds(10) }

    /// The socket for reports of scripts.
    var reportSocket: FilePath { ReportServer.socketPath(in: service.runtimeDirectory) }

    var historyFile: FilePath { history.file(in: service.stateDirectory) }

    /// One try, for commands: they do not wait for an LDAP server that is away.
    func connectOnce() async throws -> LDAPConnection {
        try await CommandFailure.translating {
            try await ServerList(engine.servers).connect(options: engine.connection)
        }
    }

    /// The settings that take effect at the daemon's next start only, where they differ.
    func restartNeeded(for new: Self) -> [String] {
        let changes = new.settings.changes(since: settings, isRestartNeeded: true)
        // Where SYSLOG is not set, SERVICE and TYPE give the name.
        let name = service.syslog == new.service.syslog ? [] : ["[Service] SYSLOG"]
        return changes + name.filter { !changes.contains($0) }
    }
}

extension Engine.Configuration {
    fileprivate init(
        _ global: GlobalSettings, _ operation: OperationModeSettings, _ service: ServiceSettings,
        _ database: DatabaseSettings, _ servers: [ServerAddress], _ names: AttributeNames, password: String,
        provisioning: any ProvisioningService
    ) {
        let hosts = service.hosts.names
        self.init(
            servers: servers, connection: database.connection,
            scope: WatchScope(
                base: database.subtree, condition: database.condition, hosts: hosts, names: names),
            timing: database.timing,
            policy: DecisionPolicy(
                hosts: hosts, runsOverdue: service.runsOverdue, deleteNeedsInactive: service.deleteNeedsInactive,
                claimHolder: ThisHost.name, names: names),
            slots: service.slots, deletesPerHour: service.deletesPerHour, jobRetry: service.retry,
            directoryRetry: RetryPolicy(
                maximumAttempts: .max, delay: min(global.sleep, operation.sleep), maximumDelay: operation.sleep),
            directoryAttemptsUntilError: AttemptsUntilError(
                atStart: global.attempts, inOperation: operation.attempts), service: provisioning)
        if case .simple = connection.credentials { self.password = password }
    }
}
