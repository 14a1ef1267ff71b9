import BackupRsnapshot
import DaemonKit
import DirectoryClient
import JobCore
import Provisioning
import ScriptService
import SystemPackage

/// What the settings mean for each part: the one place where parts and settings meet.
struct DaemonConfiguration: Sendable {
    /// Where the settings come from.
    let configFile: String
    /// Where the global settings come from, if that was named; nil: from their usual place, if anywhere.
    let globalFile: String?
    /// As they stand there.
    let settings: Settings
    let engine: Engine.Configuration
    let backup: BackupConfiguration
    /// With `TYPE = Script`: what is done in place of the backup accounts' provisioning.
    let script: ScriptServiceConfiguration?
    let jobs: JobConfiguration
    let logSwitches: LogSwitches
    let syslogIdentity: String
    let timeZone: String?
    let stopGrace: Duration
    /// How long what is cut off then may take to end: a program that is asked to end is killed within.
    var stopPatience: Duration { backup.scriptGrace + .seconds(10) }
    let stateDirectory: FilePath
    let runtimeDirectory: FilePath

    init(_ settings: DaemonSettings, configFile: String, globalFile: String? = nil) {
        self.configFile = configFile
        self.globalFile = globalFile
        self.settings = settings.raw
        logSwitches = settings.log
        syslogIdentity = settings.service.syslog
        timeZone = settings.service.timeZone
        stopGrace = settings.service.stopGrace
        stateDirectory = FilePath(settings.service.stateDirectory)
        runtimeDirectory = FilePath(settings.service.runtimeDirectory)
        backup = BackupConfiguration(settings)
        script = settings.service.type == .script ? ScriptServiceConfiguration(settings, backup) : nil
        jobs = JobConfiguration(settings, backup: backup, configFile: configFile)
        let service: any ProvisioningService =
            script.map { ScriptService(configuration: $0) } ?? BackupRsnapshotService(configuration: backup)
        engine = Engine.Configuration(settings, service: service)
    }

    /// One try, for commands: they do not wait for a directory that is away.
    func connectOnce() async throws -> DirectoryConnection {
        try await CommandFailure.translating {
            try await ServerList(engine.servers).connect(options: engine.connection)
        }
    }

    /// Settings that are read when the daemon starts and never again, where they differ.
    func restartNeeded(for other: Self) -> [String] {
        [
            ("LOG_DEBUG, LOG_INFO, LOG_WARNING or LOG_ERR", logSwitches != other.logSwitches),
            ("SYSLOG", syslogIdentity != other.syslogIdentity),
            ("TIME_ZONE", timeZone != other.timeZone),
            ("STOP_GRACE", stopGrace != other.stopGrace),
            ("STATE_DIRECTORY", stateDirectory != other.stateDirectory),
            ("RUNTIME_DIRECTORY", runtimeDirectory != other.runtimeDirectory),
            ("EVENTS_DIRECTORY or EVENT_TIMEOUT", jobs.events != other.jobs.events),
            ("[History]", jobs.history != other.jobs.history),
        ].filter(\.1).map(\.0)
    }
}

extension Engine.Configuration {
    init(_ settings: DaemonSettings, service: any ProvisioningService) {
        let directory = settings.directory
        let credentials: Credentials =
            switch directory.bind {
            case .anonymous: .anonymous
            case .simple(let dn, let password): .simple(bindDN: dn, password: Secret(password.expose()))
            case .external: .external
            }
        let hosts = settings.service.hosts.names
        self.init(
            servers: directory.servers,
            connection: ConnectionOptions(
                tls: directory.tls, credentials: credentials, connectTimeout: directory.connectTimeout,
                operationTimeout: directory.operationTimeout),
            scope: WatchScope(
                base: directory.subtree, condition: directory.condition, hosts: hosts, names: settings.attributes),
            timing: Watcher.Timing(
                detection: directory.detection, pollInterval: directory.pollInterval,
                relistInterval: directory.relistInterval),
            policy: DecisionPolicy(
                hosts: hosts, runsOverdue: settings.service.overdue == .run,
                deleteNeedsInactive: settings.service.requireInactiveForDelete, claimHolder: ThisHost.name,
                names: settings.attributes),
            slots: settings.service.slots, deletesPerHour: settings.service.maxDeletesPerHour,
            jobRetry: RetryPolicy(
                maximumAttempts: settings.service.maxAttempts, delay: settings.service.retryDelay,
                maximumDelay: settings.service.retryMaxDelay),
            directoryRetry: RetryPolicy(
                maximumAttempts: .max, delay: min(settings.start.sleep, settings.operation.sleep),
                maximumDelay: settings.operation.sleep),
            directoryAttemptsUntilError: AttemptsUntilError(
                atStart: settings.start.attempts, inOperation: settings.operation.attempts), service: service)
        if case .simple = directory.bind { password = directory.password }
    }
}

extension ScriptServiceConfiguration {
    init(_ settings: DaemonSettings, _ backup: BackupConfiguration) {
        let script = settings.script
        self.init(
            add: script.add.map { FilePath($0) }, modify: script.modify.map { FilePath($0) },
            delete: script.delete.map { FilePath($0) }, attributes: script.attributes, timeLimit: script.timeout,
            grace: script.grace, exitProfile: script.exitProfile, user: script.runAs,
            programDirectories: backup.programDirectories)
    }
}

extension BackupConfiguration {
    init(_ settings: DaemonSettings) {
        let backup = settings.backup
        self.init(
            homeScript: backup.homeScript.map { FilePath($0) }, scriptTimeout: backup.scriptTimeout,
            scriptGrace: backup.scriptGrace,
            places: HomePlaces(
                layout: backup.homeLayout, roots: backup.homeRoots.map { FilePath($0) },
                pools: settings.pools.map { Pool(name: $0.name, volumes: $0.volumes.map { FilePath($0) }) }),
            ownership: backup.ownership, quota: backup.quota, quotaFiles: backup.quotaFiles,
            snapshots: backup.snapshots, confinement: backup.confinement,
            rsnapshot: FilePath(backup.rsnapshot),
            configurationDirectory: FilePath(backup.rsnapshotConfigDirectory),
            template: FilePath(backup.rsnapshotTemplate), configurationTest: backup.rsnapshotConfigTest,
            onDelete: backup.onDelete, purgeAfterDays: backup.purgeAfterDays,
            timeLimit: settings.backupJobs.timeout,
            requireSystemUser: backup.requireSystemUser,
            // Not below the runtime directory: rsnapshot also runs while the daemon does not.
            lockDirectory: FilePath(settings.service.stateDirectory).appending("locks"),
            reportSocket: ReportServer.socketPath(in: FilePath(settings.service.runtimeDirectory)).string)
    }
}
