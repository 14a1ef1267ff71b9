import BackupService
import Daemon
import Glibc
import JobCore
import Provisioning
import ScriptService
import SystemPackage

/// `[Global]`.
struct GlobalSettings: SettingsSection {
    var log = LogSwitches()
    /// The name of this installation; empty for the name of the host.
    var environment = ""
    /// At start, the first wait before the LDAP server is tried again.
    var sleep = Duration.seconds(10)
    var attempts = 3

    static let section = SectionName("Global")
    static let meaning = "What is logged, and the start while the LDAP server cannot be reached."
    static let keys: [Setting<Self>] = [
        Setting("LOG_DEBUG", \.log.debug, .flag, restart: true, meaning: "Log every step, for finding faults."),
        Setting("LOG_INFO", \.log.info, .flag, restart: true, meaning: "Log what was done."),
        Setting(
            "LOG_WARNING", \.log.warning, .flag, restart: true,
            meaning: "Log what is unusual but does not stop anything."),
        Setting("LOG_ERR", \.log.error, .flag, restart: true, meaning: "Log what went wrong."),
        Setting(
            "ENVIRONMENT", \.environment, .text, note: "host name",
            meaning:
                "What this installation is called in mails and at the start in the log, such as production or test."),
        Setting(
            "SLEEP", \.sleep, .duration(from: .seconds(1)),
            meaning: "The first wait before an LDAP server that cannot be reached is tried again."),
        Setting(
            "ATTEMPTS", \.attempts, .number(1...1_000_000),
            meaning:
                "At start: after so many failed tries the LDAP server is logged as an error. It is tried for ever."
        ),
    ]
}

/// `[Operation Mode]`.
struct OperationModeSettings: SettingsSection {
    /// The longest wait before the LDAP server is tried again.
    var sleep = Duration.seconds(30)
    var attempts = 3

    static let section = SectionName("Operation Mode")
    static let meaning = "What happens when the connection to the LDAP server is lost in operation."
    static let keys: [Setting<Self>] = [
        Setting(
            "SLEEP", \.sleep, .duration(from: .seconds(1)),
            meaning: "In operation: the longest wait between two tries to reach the LDAP server again."),
        Setting(
            "ATTEMPTS", \.attempts, .number(1...1_000_000),
            meaning:
                "In operation: after so many failed tries the LDAP server is logged as an error. It is tried for ever."
        ),
    ]
}

/// `[Service]`.
struct ServiceSettings: SettingsSection {
    /// What carries out the requests.
    enum ServiceType: String, CaseIterable, Hashable, Sendable { case rsnapshot = "Rsnapshot", script = "Script" }

    /// Such as `Backup`.
    var name = "Backup"
    var type = ServiceType.rsnapshot
    /// The name in the system's log; empty for that of service and type.
    var syslog = ""
    var hosts = HostSelection.any
    var slots = 4
    /// Whether a request is carried out whose day passed while the daemon was down.
    var runsOverdue = true
    /// A name of the system's time zone database; empty for the system's own zone.
    var timeZone = ""
    var deleteNeedsInactive = true
    /// 0: no limit.
    var deletesPerHour = 25
    var retry = RetryPolicy(maximumAttempts: 5, delay: .seconds(10), maximumDelay: .seconds(3_600))
    var stopGrace = Duration.seconds(30)
    var stateDirectory: FilePath = "/var/lib/prov-backup-rsnapshot"
    var runtimeDirectory: FilePath = "/run/prov-backup-rsnapshot"

    static let section = SectionName("Service")
    static let meaning = "Which service this is, which accounts are its own, and how jobs run."
    static let keys: [Setting<Self>] = [
        Setting(
            "MODUS", fixed: .choice(["selfcare": "selfcare"]), value: "selfcare",
            meaning: "Who writes the requests; there is one choice."),
        Setting(
            "TRANSPORTAPI", fixed: .transport, value: "LocalCLI", meaning: "Where the work is done: on this server."),
        Setting(
            "SERVICE", \.name, .serviceName, example: "Backup",
            meaning: "The service that is provisioned: Backup, or with TYPE = Script any name."),
        Setting(
            "TYPE", \.type, .choice, example: "Rsnapshot",
            meaning: "What carries out the requests: Rsnapshot backup accounts, or the scripts of [Script]."),
        Setting(
            "SYSLOG", \.syslog, .text, note: "SERVICE-TYPE", restart: true,
            meaning: "The daemon's name in the system's log."),
        Setting(
            "HOST", \.hosts, .hostSelection,
            meaning: """
                Which accounts are this daemon's: any takes all of them, auto those whose host attribute names this host, a \
                list of host names those that name one of them. All others are left alone.
                """),
        Setting("SLOTS", \.slots, .number(1...1_024), meaning: "How many accounts are worked on at once."),
        Setting(
            "OVERDUE", \.runsOverdue, .choice(["run": true, "skip": false]),
            meaning: "Whether a request whose day passed while the daemon was down is still carried out."),
        Setting(
            "TIME_ZONE", \.timeZone, .timeZone, note: "the system's",
            restart: true, meaning: "Where days begin, such as Europe/Zurich."),
        Setting(
            "REQUIRE_INACTIVE_FOR_DELETE", \.deleteNeedsInactive, .boolean,
            meaning: "Whether an account that is still marked as active is protected from being deleted."),
        Setting(
            "MAX_DELETES_PER_HOUR", \.deletesPerHour, .number(0...HourlyLimit.largest),
            meaning: """
                How many accounts may be deleted within an hour; further deletes wait with their entries untouched, which the log, a mail, health and \
                status say. To let them through, raise it and reload. 0: no limit.
                """),
        Setting(
            "MAX_ATTEMPTS", \.retry.maximumAttempts, .number(1...1_000),
            meaning: "How often a job is tried before its failure is written to the entry."),
        Setting(
            "RETRY_DELAY", \.retry.delay, .duration(from: .seconds(1)),
            meaning: "The wait before the second attempt; it doubles with each."),
        Setting(
            "RETRY_MAX_DELAY", \.retry.maximumDelay, .duration(from: .seconds(1)),
            meaning: "The longest wait between two attempts."),
        Setting(
            "STOP_GRACE", \.stopGrace, .duration(), restart: true,
            meaning:
                "How long running jobs may go on when the daemon stops; what is interrupted is repeated at the next start. A job that has not ended SCRIPT_GRACE and ten seconds after that is abandoned."
        ),
        Setting(
            "STATE_DIRECTORY", \.stateDirectory, .path, restart: true,
            meaning: "The directory of the history and of other files that may be lost without harm."),
        Setting(
            "RUNTIME_DIRECTORY", \.runtimeDirectory, .path, restart: true,
            meaning: "The directory of the lock and the sockets."),
    ]
}

extension ServiceSettings {
    /// Checks what no single key can say, and fills in what depends on other keys.
    mutating func check(_ settings: inout Settings) {
        if type == .rsnapshot, name.lowercased() != "backup" {
            settings.refuse(
                \Self.name, "TYPE = Rsnapshot is for the service Backup alone",
                hint: "write Backup, or TYPE = Script for a service of your own")
        }
        if retry.maximumDelay < retry.delay {
            settings.refuse(
                \Self.retry.maximumDelay, "the longest wait is shorter than the first, RETRY_DELAY",
                hint: "raise it, or lower RETRY_DELAY")
        }
        if syslog.isEmpty { syslog = "\(name)-\(type.rawValue)" }
    }
}

// MARK: - Kinds of values

extension SettingKind where Value == String {
    /// The name of a service: letters, digits, hyphens and `_`.
    fileprivate static var serviceName: Self {
        Self(form: "name") { text throws(SettingValueError) in
            guard !text.isEmpty, text.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "_-".contains($0)) })
            else {
                throw SettingValueError("this is not a name", hint: "write Backup, or letters, digits, hyphens and _")
            }
            return text
        }
    }

    /// A name in /usr/share/zoneinfo, where the system keeps the time zone database, or empty for the system's own zone.
    fileprivate static var timeZone: Self {
        Self(form: "text") { text throws(SettingValueError) in
            if text.isEmpty { return text }
            let hint = "write a name such as Europe/Zurich, or install tzdata"
            guard !text.hasPrefix("/"), !text.split(separator: "/").contains("..") else {
                throw SettingValueError("this is a path, not a name", hint: hint)
            }
            var status = stat()
            guard stat("/usr/share/zoneinfo/\(text)", &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
                throw SettingValueError("there is no such time zone in /usr/share/zoneinfo", hint: hint)
            }
            return text
        }
    }

    fileprivate static var transport: Self {
        Self(form: "LocalCLI") { text throws(SettingValueError) in
            switch text.lowercased() {
            case "localcli": return "LocalCLI"
            case "clissh":
                throw SettingValueError(
                    "the daemon no longer works on another server over ssh",
                    hint: "run it on the backup server itself and write LocalCLI")
            default: throw SettingValueError("this is not one of the choices", hint: "write LocalCLI")
            }
        }
    }
}

// MARK: - All sections

extension SettingsSchema {
    /// Every section that a settings file may hold.
    static let daemon = SettingsSchema(
        [
            Section(GlobalSettings.self), Section(OperationModeSettings.self), Section(Mailer.Configuration.self),
            Section(DatabaseSettings.self), Section(AttributeNames.self), Section(ServiceSettings.self),
            Section(BackupConfiguration.self), Section(Pool.self), Section(ScriptServiceConfiguration.self),
            Section(ScriptsSettings.self), Section(HooksSettings.self), Section(JobSettings.self),
            Section(ExitSettings.self), Section(BackupJobsConfiguration.self), Section(HistorySettings.self),
            Section(
                retired: "Gateway",
                replacement: "the daemon runs on the backup server itself and needs no way there"),
        ], otherVariables: ["PROV_JOB_ID", "PROV_JOB_TOKEN"])
}
