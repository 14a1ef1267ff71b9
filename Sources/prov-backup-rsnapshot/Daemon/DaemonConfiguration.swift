import BackupService
import Daemon
import JobCore
import LDAP
import Provisioning
import ScriptService
import Synchronization
import SystemPackage

/// The checked settings: the sections, and values that depend on several sections. The checks use neither the LDAP server nor other programs.
///
/// Only ``load(service:global:environment:namedGlobal:)`` and ``untilRestart(of:)`` create it, so it needs no further checks.
final class DaemonConfiguration: Sendable {
    /// The service's file.
    let configFile: String
    /// The global file if the command line names it; nil: the usual one, if it exists.
    let globalFile: String?
    /// As they were read, for the changes of a reload.
    let settings: Settings
    let global: GlobalSettings
    let service: ServiceSettings
    let mail: Mailer.Configuration
    let backup: BackupConfiguration
    let backupJobs: BackupJobsConfiguration
    /// With `TYPE = Script`, it replaces the provisioning of backup accounts; otherwise nil.
    let script: ScriptServiceConfiguration?
    let scripts: ScriptsSettings
    let history: HistorySettings
    /// From `[Hooks TYPE]` and `[Backup Jobs] WINDOW`.
    let policies: [JobType: JobPolicy]
    /// From `[Job NAME]`, by name.
    let userScripts: [String: UserScript]
    /// All scheduled jobs and levels.
    let timetable: JobTimetable<JobCommand>
    let engine: Engine.Configuration

    /// Reads the files and the environment.
    ///
    /// - Parameters:
    ///   - service: the service's file (`-c`).
    ///   - global: the global file, if it exists.
    ///   - namedGlobal: the global file if the command line names it (`-g`).
    /// - Returns: nil and all errors at once if the settings cannot be used; and all warnings.
    static func load(
        service: FilePath, global: FilePath?, environment: [String: String], namedGlobal: String? = nil
    ) -> (settings: DaemonConfiguration?, warnings: [SettingsProblem], errors: [SettingsProblem]) {
        var settings = Settings(.daemon, files: [global, service].compactMap(\.self), environment: environment)
        // The content of an unreadable file is unknown, so no key is reported as missing.
        if settings.lacksFile { return (nil, settings.warnings, settings.errors) }
        let configuration = DaemonConfiguration(
            checking: &settings, configFile: service.string, globalFile: namedGlobal)
        return (settings.errors.isEmpty ? configuration : nil, settings.warnings, settings.errors)
    }

    /// The settings in force after a reload.
    /// - Parameter start: has the values of the settings that need a restart.
    /// - Throws: `CommandFailure` if the two do not fit together.
    func untilRestart(of start: DaemonConfiguration) throws(CommandFailure) -> DaemonConfiguration {
        var mixed = settings.untilRestart(of: start.settings)
        let inForce = DaemonConfiguration(
            checking: &mixed, configFile: configFile, globalFile: globalFile, written: settings)
        guard let error = mixed.errors.first else { return inForce }
        throw CommandFailure(
            "\(error)", hint: "restart the daemon: a setting that needs a restart has changed",
            status: .wrongConfiguration)
    }

    /// Checks across keys and adds the errors to the settings. The result must not be used if there are errors.
    /// - Parameter written: the settings as they were read; nil: those that are checked.
    private init(checking settings: inout Settings, configFile: String, globalFile: String?, written: Settings? = nil) {
        self.settings = written ?? settings
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
        // Not in the runtime directory: rsnapshot may also run without the daemon.
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

        policies = JobPolicy.all(&settings, backupWindow: backupJobs.window)
        let profiles = ExitProfile.all(&settings)
        let userScripts = UserScript.all(
            &settings, profiles, environment: backup.baseEnvironment, retry: service.retry)
        self.userScripts = Dictionary(userScripts.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
        timetable = JobTimetable(
            userScripts.compactMap { (script: UserScript) in
                script.schedule.map { .init(.run(script.name), schedule: $0) }
            }
                // If several levels are due, the larger level is first: it takes over the snapshot that the smaller one would remove.
                + SnapshotLevel.allCases.reversed().compactMap { level in
                    backupJobs.schedules[level].map { .init(.backup(level.rawValue, accounts: []), schedule: $0) }
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
    }

    /// At the stop, an interrupted job that takes longer is abandoned; its programs are killed earlier.
    var stopKillTimeout: Duration { backup.scriptGrace + .seconds(10) }

    /// The socket for reports of scripts.
    var reportSocket: FilePath { ReportServer.socketPath(in: service.runtimeDirectory) }

    var historyFile: FilePath { history.file(in: service.stateDirectory) }

    /// Connects with one attempt, for commands: they do not wait for an unavailable LDAP server.
    func connectOnce() async throws -> LDAPConnection {
        try await ServerList(engine.servers).connect(options: engine.connection)
    }

    /// Where this changes, other accounts may get backups.
    var accountSource: (WatchScope, [ServerAddress], login: DN?, ServiceSettings.ServiceType) {
        let login: DN? = if case .simple(let user, _) = engine.connection.credentials { user } else { nil }
        return (engine.scope, engine.servers, login, service.type)
    }

    /// The changed settings that need a restart.
    func restartNeeded(for new: DaemonConfiguration) -> [String] {
        let changes = new.settings.changes(since: settings, isRestartNeeded: true)
        // SERVICE and TYPE are the default of SYSLOG.
        let name = service.syslog == new.service.syslog ? [] : ["[Service] SYSLOG"]
        return changes + name.filter { !changes.contains($0) }
    }
}

/// The settings in force. A reload replaces the value; jobs and mails read it when they begin.
final class CurrentConfiguration: Sendable {
    private let state: Mutex<(value: DaemonConfiguration, login: Credentials?)>

    init(_ value: DaemonConfiguration) { state = Mutex((value, nil)) }

    var value: DaemonConfiguration {
        get { state.withLock(\.value) }
        set { state.withLock { $0 = (newValue, nil) } }
    }

    /// The settings of the engine, with the newest login.
    var engine: Engine.Configuration {
        state.withLock { state in
            var engine = state.value.engine
            if let login = state.login { engine.connection.credentials = login }
            return engine
        }
    }

    /// Replaces ADMIN_USER and its password until the next reload.
    /// - Returns: whether they are other ones.
    func replaceLogin(_ user: DN, _ password: Secret) -> Bool {
        let login = Credentials.simple(bindDN: user, password: password)
        let former = engine.connection.credentials
        guard case .simple = former, !user.isEmpty, login != former else { return false }
        state.withLock { $0.login = login }
        return true
    }
}

extension Engine.Configuration {
    fileprivate init(
        _ global: GlobalSettings, _ operation: OperationModeSettings, _ service: ServiceSettings,
        _ database: DatabaseSettings, _ servers: [ServerAddress], _ names: AttributeNames, password: String,
        provisioning: any ProvisioningService
    ) {
        let scope = WatchScope(
            base: database.subtree, condition: database.condition, hosts: service.hosts.names, names: names)
        self.init(
            servers: servers, connection: database.connection, timing: database.timing,
            policy: DecisionPolicy(
                scope: scope, runsOverdue: service.runsOverdue, deleteNeedsInactive: service.deleteNeedsInactive,
                claimHolder: ThisHost.name),
            slots: service.slots, jobRetry: service.retry,
            ldapRetry: RetryPolicy(
                maximumAttempts: .max, delay: min(global.sleep, operation.sleep), maximumDelay: operation.sleep),
            ldapAttemptsUntilError: (global.attempts, operation.attempts), service: provisioning)
        if case .simple = connection.credentials { self.password = password }
    }
}

extension DaemonConfiguration {
    /// All files and directories that root runs or reads, except the settings and the files for TLS, which are checked when they are read.
    ///
    /// `check`, the start and each reload check this list; each job checks its own programs again.
    var trusted: [TrustedPath] {
        [
            TrustedPath("STATE_DIRECTORY", service.stateDirectory, .directory),
            TrustedPath("RUNTIME_DIRECTORY", service.runtimeDirectory, .directory),
        ] + historyDirectory + backup.trustedProgramDirectories + (script?.trusted ?? backup.trusted) + trustedPrograms
    }

    /// The directory of the history, unless it is the state directory.
    private var historyDirectory: [TrustedPath] {
        let directory = historyFile.removingLastComponent()
        return directory == service.stateDirectory ? [] : [TrustedPath("[History] FILE", directory, .directory)]
    }

    /// - Parameter note: is called for each fault.
    /// - Throws: `CommandFailure` if another user could change anything in the list.
    func demandTrust(note: (String) -> Void) throws {
        let faults = trusted.compactMap { path in path.fault.map { (path.subject, $0) } }
        guard !faults.isEmpty else { return }
        for (subject, fault) in faults { note("\(subject): \(fault)") }
        let isTemporary = faults.allSatisfy { $0.1.failureClass != .configuration }
        throw CommandFailure(
            "users other than root and the daemon's user could change files that the daemon runs or reads",
            hint: "fix what is reported above; check reports it too",
            status: isTemporary ? .tryAgain : .wrongConfiguration)
    }

    /// The scripts of jobs and hooks that do not exist or cannot be run, each with the hint. It blocks.
    func unusableScripts(now: Timestamp) -> [String] {
        ScriptLine.all(self, now: now).filter { $0.kind != .handlers }
            .compactMap { line in line.problem.map { "\(line.subject): \($0)" } }
    }

    /// Scripts, event handlers and the programs of jobs.
    private var trustedPrograms: [TrustedPath] {
        let hooks = policies.sorted { $0.key.rawValue < $1.key.rawValue }.flatMap { type, policy in
            (policy.hooks.map { [("pre script", $0.pre), ("post script", $0.post)] } ?? [])
                .map { TrustedPath("\(type) \($0)", $1, .program) }
        }
        let programs = userScripts.values.sorted { $0.name < $1.name }
            .map { TrustedPath("[Job \($0.name)]", $0.path, .program) }
        let sendmail = mail.recipients.isEmpty ? [] : [TrustedPath("SENDMAIL", mail.sendmail, .program)]
        return hooks + programs + scripts.events.trusted + sendmail + [
            TrustedPath("systemd-inhibit", Inhibitor.usualProgram, .program)
        ]
    }
}
