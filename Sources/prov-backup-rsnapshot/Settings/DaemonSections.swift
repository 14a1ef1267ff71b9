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
    /// The name of this installation; empty: the host name.
    var environment = ""
    /// The first wait before the LDAP server is tried again.
    var sleep = Duration.seconds(10)
    var attempts = 3

    static let section = SectionName("Global")
    static let meaning = "The log, and the start while the LDAP server cannot be reached."
    static let keys: [Setting<Self>] = [
        Setting("LOG_DEBUG", \.log.debug, .flag, restart: true, meaning: "Log every step, for finding faults."),
        Setting("LOG_INFO", \.log.info, .flag, restart: true, meaning: "Log completed work."),
        Setting(
            "LOG_WARNING", \.log.warning, .flag, restart: true,
            meaning: "Log unusual events that stop nothing."),
        Setting("LOG_ERR", \.log.error, .flag, restart: true, meaning: "Log errors."),
        Setting(
            "ENVIRONMENT", \.environment, .text, note: "host name",
            meaning:
                "The name of this installation in mails and in the log at the start, such as production or test."),
        Setting(
            "SLEEP", \.sleep, .duration(from: .seconds(1)),
            meaning: "The first wait before an LDAP server that cannot be reached is tried again."),
        Setting(
            "ATTEMPTS", \.attempts, .number(1...1_000_000),
            meaning:
                "At start: after this number of failed attempts an error is logged. The attempts continue."
        ),
    ]
}

/// `[Operation Mode]`.
struct OperationModeSettings: SettingsSection {
    /// The longest wait before the LDAP server is tried again.
    var sleep = Duration.seconds(30)
    var attempts = 3

    static let section = SectionName("Operation Mode")
    static let meaning = "Reconnecting when the connection to the LDAP server is lost in operation."
    static let keys: [Setting<Self>] = [
        Setting(
            "SLEEP", \.sleep, .duration(from: .seconds(1)),
            meaning: "In operation: the longest wait between two attempts to reach the LDAP server."),
        Setting(
            "ATTEMPTS", \.attempts, .number(1...1_000_000),
            meaning:
                "In operation: after this number of failed attempts an error is logged. The attempts continue."
        ),
    ]
}

/// `[Service]`.
struct ServiceSettings: SettingsSection {
    /// Which service processes the requests.
    enum ServiceType: String, CaseIterable, Hashable, Sendable { case rsnapshot = "Rsnapshot", script = "Script" }

    /// Such as `Backup`.
    var name = "Backup"
    var type = ServiceType.rsnapshot
    /// The name in the system's log; empty: `SERVICE-TYPE`.
    var syslog = ""
    var hosts = HostSelection.any
    var slots = 4
    /// Whether a request is processed if its day passed while the daemon was down.
    var runsOverdue = true
    /// A name of the time zone database; empty: the system's time zone.
    var timeZone = ""
    var deleteNeedsInactive = true
    /// 0: no limit.
    var deletesPerHour = 25
    var retry = RetryPolicy(maximumAttempts: 5, delay: .seconds(10), maximumDelay: .seconds(3_600))
    var stopGrace = Duration.seconds(30)
    var stateDirectory: FilePath = "/var/lib/prov-backup-rsnapshot"
    var runtimeDirectory: FilePath = "/run/prov-backup-rsnapshot"

    static let section = SectionName("Service")
    static let meaning = "The service, its accounts, and how jobs run."
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
            meaning: "How requests are processed: Rsnapshot backup accounts, or the scripts of [Script]."),
        Setting(
            "SYSLOG", \.syslog, .text, note: "SERVICE-TYPE", restart: true,
            meaning: "The daemon's name in the system's log."),
        Setting(
            "HOST", \.hosts, .hostSelection,
            meaning: """
                The accounts of this daemon: any means all, auto those whose host attribute names this host, a list of host \
                names those whose host attribute names one of them. All others are ignored.
                """),
        Setting("SLOTS", \.slots, .number(1...1_024), meaning: "How many accounts are processed at the same time."),
        Setting(
            "OVERDUE", \.runsOverdue, .choice(["run": true, "skip": false]),
            meaning: "Whether a request is still processed if its day passed while the daemon was down."),
        Setting(
            "TIME_ZONE", \.timeZone, .timeZone, note: "the system's",
            restart: true, meaning: "The time zone of dates and schedules, such as Europe/Zurich."),
        Setting(
            "REQUIRE_INACTIVE_FOR_DELETE", \.deleteNeedsInactive, .boolean,
            meaning: """
                Whether a delete is refused unless the account is marked as not active (sstIsActive: FALSE); also where the attribute is missing or \
                not visible to the daemon.
                """),
        Setting(
            "MAX_DELETES_PER_HOUR", \.deletesPerHour, .number(0...HourlyLimit.largest),
            meaning: """
                How many accounts may be deleted within an hour; further deletes wait with their entries untouched, which the log, a mail, health and \
                status report. To permit them, raise the limit and reload. 0: no limit.
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
                "How long running jobs may go on when the daemon stops; interrupted jobs are repeated at the next start. A job that has not ended SCRIPT_GRACE and ten seconds after that is abandoned."
        ),
        Setting(
            "STATE_DIRECTORY", \.stateDirectory, .path, restart: true,
            meaning: "The directory of the history and of other state; it may be lost without harm."),
        Setting(
            "RUNTIME_DIRECTORY", \.runtimeDirectory, .path, restart: true,
            meaning: "The directory of the lock and the sockets."),
    ]
}

extension ServiceSettings {
    /// Checks across keys, and sets values that depend on other keys.
    mutating func check(_ settings: inout Settings) {
        if type == .rsnapshot, name.lowercased() != "backup" {
            settings.refuse(
                \Self.name, "TYPE = Rsnapshot requires the service Backup",
                hint: "write Backup, or TYPE = Script for another service")
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

    /// A name in /usr/share/zoneinfo; empty: the system's time zone.
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
                    "the daemon no longer supports another server over ssh",
                    hint: "run it on the backup server itself and write LocalCLI")
            default: throw SettingValueError("this is not one of the choices", hint: "write LocalCLI")
            }
        }
    }
}

// MARK: - All sections

extension SettingsSchema {
    /// All sections of the settings files.
    static let daemon = SettingsSchema(
        [
            Section(GlobalSettings.self), Section(OperationModeSettings.self), Section(Mailer.Configuration.self),
            Section(DatabaseSettings.self), Section(AttributeNames.self), Section(ServiceSettings.self),
            Section(BackupConfiguration.self), Section(Pool.self), Section(ScriptServiceConfiguration.self),
            Section(ScriptsSettings.self), Section(JobPolicy.self), Section(UserScript.self),
            Section(ExitSettings.self), Section(BackupJobsConfiguration.self), Section(HistorySettings.self),
            Section(
                retired: "Gateway",
                replacement: "the daemon runs on the backup server itself"),
        ], otherVariables: ["PROV_JOB_ID", "PROV_JOB_TOKEN"])
}

/// The accounts of this daemon (setting `HOST`).
enum HostSelection: Hashable, Sendable {
    case any
    /// Accounts that name this host, by its short or full name.
    case auto
    /// Accounts that name one of these hosts.
    case listed([String])

    /// nil: all accounts. Asks the resolver for the full name if the kernel has only the short one.
    var names: [String]? {
        switch self {
        case .any: nil
        case .auto: ThisHost.names
        case .listed(let hosts): hosts
        }
    }
}

extension SettingKind where Value == HostSelection {
    static var hostSelection: Self {
        let list = SettingKind<[String]>.hosts
        return Self(form: "any, auto, or host names split by blanks") { text throws(SettingValueError) in
            let hosts = try list.parse(text)
            switch hosts.map({ $0.lowercased() }) {
            case ["any"]: return .any
            case ["auto"]: return .auto
            case []: throw SettingValueError("no host is named", hint: "write any, auto, or host names split by blanks")
            case let words where words.contains("any") || words.contains("auto"):
                throw SettingValueError(
                    "any and auto cannot be combined", hint: "write any, auto, or host names split by blanks")
            default: return .listed(hosts)
            }
        } render: { selection in
            switch selection {
            case .any: "any"
            case .auto: "auto"
            case .listed(let hosts): hosts.joined(separator: " ")
            }
        }
    }
}

/// The names of this machine.
enum ThisHost {
    /// The name in the kernel, usually the short one.
    static var name: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Short and full name, without duplicates.
    static var names: [String] {
        let name = name
        let short = name.split(separator: ".").first.map(String.init) ?? name
        var names = [short]
        for other in [name, canonical(name)].compactMap(\.self) where !names.contains(other) { names.append(other) }
        return names
    }

    private static func canonical(_ name: String) -> String? {
        var hints = addrinfo()
        hints.ai_flags = AI_CANONNAME
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, nil, &hints, &list) == 0, let list else { return nil }
        defer { freeaddrinfo(list) }
        guard let text = list.pointee.ai_canonname else { return nil }
        let full = String(cString: text)
        // A resolver that maps this host to the loopback address may return localhost.
        return full.lowercased().hasPrefix(name.lowercased()) ? full : nil
    }
}
