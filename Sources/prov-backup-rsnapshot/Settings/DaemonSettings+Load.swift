import DaemonKit
import DirectoryModel
import JobCore
import Provisioning
import SystemPackage

extension DaemonSettings {
    /// Reads the files and the environment.
    ///
    /// - Parameters:
    ///   - service: the service's file (`-c`).
    ///   - global: the global file (`-g`), if there is one.
    /// - Returns: the settings, and what is odd about them but stops nothing.
    /// - Throws: everything that is wrong, at once.
    static func load(
        service: FilePath, global: FilePath?, environment: [String: String]
    ) throws(SettingsError) -> (settings: DaemonSettings, warnings: [SettingsProblem]) {
        let files = [global, service].compactMap(\.self)
        var raw = SettingsLoader(DaemonSchema.schema).load(files: files, environment: environment)
        // Of a file that cannot be read nobody knows what it holds, so nothing is said to be missing.
        guard !raw.lacksFile else { throw SettingsError(errors: raw.errors, warnings: raw.warnings) }
        let settings = DaemonSettings(checking: &raw)
        guard raw.errors.isEmpty else { throw SettingsError(errors: raw.errors, warnings: raw.warnings) }
        return (settings, raw.warnings)
    }

    /// One setting alone, whatever is wrong with others: the password file, for instance, may be for the daemon's eyes only.
    /// - Throws: `SettingsError` when a file cannot be read, or this setting is wrong.
    static func value<Value>(
        of key: SettingKey<Value>, service: FilePath, global: FilePath?, environment: [String: String]
    ) throws(SettingsError) -> Value {
        let files = [global, service].compactMap(\.self)
        let raw = SettingsLoader(DaemonSchema.schema).load(files: files, environment: environment)
        guard !raw.lacksFile else { throw SettingsError(errors: raw.errors.filter(\.isOfWholeFile)) }
        guard !raw.isFaulty(key) else { throw SettingsError(errors: raw.errors.filter { $0.isAbout(key) }) }
        return raw[key]
    }

    /// Checks what no single key can say, and adds to the errors what is found. With errors the result is not to be used.
    init(checking raw: inout Settings) {
        self.raw = raw
        log = LogSwitches(
            debug: raw[GlobalSection.logDebug], info: raw[GlobalSection.logInfo],
            warning: raw[GlobalSection.logWarning], error: raw[GlobalSection.logErr])
        environment = raw[GlobalSection.environment].isEmpty ? ThisHost.name : raw[GlobalSection.environment]
        start = Reconnecting(sleep: raw[GlobalSection.sleep], attempts: raw[GlobalSection.attempts])
        operation = Reconnecting(
            sleep: raw[OperationModeSection.sleep], attempts: raw[OperationModeSection.attempts])
        directory = Directory(checking: &raw)
        attributes = AttributeNames(raw)
        service = Service(checking: &raw)
        backup = Backup(checking: &raw)
        pools = Self.pools(checking: &raw, homeRoots: backup.homeRoots)
        scripts = Scripts(raw)
        (hooks, windows) = Hooks.all(checking: &raw)
        exitProfiles = ExitProfile.all(checking: &raw)
        jobs = ScriptJob.all(checking: &raw, profiles: exitProfiles)
        backupJobs = BackupJobs(raw)
        history = History(raw)
        script = Script(checking: &raw, profiles: exitProfiles)
        mail = Mail(
            recipients: raw[MailSection.sendTo],
            senderName: raw[MailSection.fromName].isEmpty ? service.syslog : raw[MailSection.fromName],
            sendmail: raw[MailSection.sendmail])
    }

    private static func pools(checking raw: inout Settings, homeRoots: [String]) -> [Pool] {
        let roots = homeRoots.map { FilePath($0).lexicallyNormalized() }
        return raw.labels(of: PoolSection.name).map { name in
            let volumes = raw[PoolSection.volumes, name]
            if volumes.isEmpty {
                raw.refuse(
                    PoolSection.volumes, label: name, "the pool has no volumes", cure: "name at least one directory")
            }
            for volume in volumes
            where !roots.contains(where: { FilePath(volume).lexicallyNormalized().starts(with: $0) }) {
                raw.refuse(
                    PoolSection.volumes, label: name, "\(volume) lies below none of HOME_ROOTS",
                    cure: "add it to HOME_ROOTS in [Backup], or choose a directory below one of them")
            }
            return Pool(name: name, volumes: volumes)
        }
    }
}

extension SettingsProblem {
    fileprivate var isOfWholeFile: Bool { if case .wholeFile = place { true } else { false } }

    fileprivate func isAbout<Value>(_ key: SettingKey<Value>) -> Bool {
        section == key.section.title && self.key == key.name
    }
}

extension AttributeNames {
    fileprivate init(_ raw: Settings) {
        self.init()
        mode = raw[AttributesSection.mode]
        state = raw[AttributesSection.state]
        let date = raw[AttributesSection.date]
        dates = [date] + ["sstProvisioningDate"].filter { $0 != date }
        returnValue = raw[AttributesSection.returnValue]
        active = raw[AttributesSection.active]
        host = raw[AttributesSection.host]
        claim = raw[AttributesSection.claim]
    }
}

extension DaemonSettings.Service {
    fileprivate init(checking raw: inout Settings) {
        let name = raw[ServiceSection.service]
        let type = raw[ServiceSection.type]
        if type == .rsnapshot, name.lowercased() != "backup" {
            raw.refuse(
                ServiceSection.service, "TYPE = Rsnapshot is for the service Backup alone",
                cure: "write Backup, or TYPE = Script for a service of your own")
        }
        let zone = raw[ServiceSection.timeZone]
        if let reason = TimeZoneName.fault(zone) {
            raw.refuse(ServiceSection.timeZone, reason, cure: "write a name such as Europe/Zurich, or install tzdata")
        }
        let delay = raw[ServiceSection.retryDelay]
        let longest = raw[ServiceSection.retryMaxDelay]
        if longest < delay {
            raw.refuse(
                ServiceSection.retryMaxDelay, "the longest wait is shorter than the first, RETRY_DELAY",
                cure: "raise it, or lower RETRY_DELAY")
        }
        self.init(
            name: name, type: type,
            syslog: raw[ServiceSection.syslog].isEmpty
                ? "\(name)-\(type.rawValue)" : raw[ServiceSection.syslog],
            hosts: raw[ServiceSection.host], slots: raw[ServiceSection.slots], overdue: raw[ServiceSection.overdue],
            timeZone: zone.isEmpty ? nil : zone,
            requireInactiveForDelete: raw[ServiceSection.requireInactiveForDelete],
            maxDeletesPerHour: raw[ServiceSection.maxDeletesPerHour], maxAttempts: raw[ServiceSection.maxAttempts],
            retryDelay: delay, retryMaxDelay: longest,
            stopGrace: raw[ServiceSection.stopGrace], stateDirectory: raw[ServiceSection.stateDirectory],
            runtimeDirectory: raw[ServiceSection.runtimeDirectory])
    }
}

extension DaemonSettings.Backup {
    fileprivate init(checking raw: inout Settings) {
        let roots = raw[BackupSection.homeRoots]
        if roots.isEmpty {
            raw.refuse(
                BackupSection.homeRoots, "no directory is named", cure: "write at least one, such as /var/backup")
        }
        if roots.contains(where: { FilePath($0).lexicallyNormalized() == "/" }) {
            raw.refuse(
                BackupSection.homeRoots, "the whole file system cannot be a home root",
                cure: "write the directory that holds the homes, such as /var/backup")
        }
        Self.checkSnapshots(&raw)
        self.init(
            homeScript: raw[BackupSection.homeScript], scriptTimeout: raw[BackupSection.scriptTimeout],
            scriptGrace: raw[BackupSection.scriptGrace], homeRoots: roots, homeLayout: raw[BackupSection.homeLayout],
            ownership: raw[BackupSection.ownership], quota: raw[BackupSection.quota],
            quotaFiles: raw[BackupSection.quotaFiles], snapshots: raw[BackupSection.snapshots],
            confinement: raw[BackupSection.backupSandbox],
            rsnapshot: raw[BackupSection.rsnapshot],
            rsnapshotConfigDirectory: raw[BackupSection.rsnapshotConfigDirectory],
            rsnapshotTemplate: raw[BackupSection.rsnapshotTemplate],
            rsnapshotConfigTest: raw[BackupSection.rsnapshotConfigTest], onDelete: raw[BackupSection.onDelete],
            purgeAfterDays: raw[BackupSection.purgeAfterDays], requireSystemUser: raw[BackupSection.requireSystemUser])
    }

    /// Snapshots that a customer cannot change need root, a sandbox, and quotas that count wherever they lie.
    private static func checkSnapshots(_ raw: inout Settings) {
        let access = raw[BackupSection.snapshots]
        guard access != .own, raw[ServiceSection.type] == .rsnapshot else { return }
        func refuse(_ reason: String, _ cure: String) {
            raw.refuse(BackupSection.snapshots, "\(access.rawValue) \(reason)", cure: "write own, or \(cure)")
        }
        if raw[BackupSection.ownership] == .none {
            refuse("needs files that belong to the accounts", "OWNERSHIP = account and run the daemon as root")
        }
        if raw[BackupSection.quota] == .btrfs {
            refuse("moves snapshots out of the subvolume that QUOTA = btrfs limits", "another QUOTA")
        }
        if raw[BackupSection.backupSandbox] == .off {
            refuse("keeps snapshots where a copy without a sandbox cannot reach them", "BACKUP_SANDBOX = on")
        }
    }
}
