import ArgumentParser
import Daemon
import FoundationEssentials
import Glibc
import JobCore
import LDAP
import Sandbox
import SystemPackage

/// The files of the settings.
struct SettingsOptions: ParsableArguments {
    @Option(name: [.customShort("c"), .long], help: "The service's settings.", completion: .file())
    var config = "/etc/Provisioning/Backup/Rsnapshot.conf"

    @Option(
        name: [.customShort("g"), .customLong("global")],
        help: "The global settings (default: /etc/Provisioning/Global.conf, if it exists).", completion: .file())
    var global: String?

    private static let usualGlobal = "/etc/Provisioning/Global.conf"

    private var globalFile: FilePath? {
        (global ?? (FileManager.default.fileExists(atPath: Self.usualGlobal) ? Self.usualGlobal : nil))
            .map { FilePath($0) }
    }

    /// All times are those of TIME_ZONE, in each command as in the daemon. A wrong one is reported by ``load(note:)``.
    func validate() {
        let settings = settings()
        let service = settings[ServiceSettings.self]
        guard settings.errors(of: \ServiceSettings.timeZone).isEmpty, !service.timeZone.isEmpty else { return }
        setenv("TZ", service.timeZone, 1)
        tzset()
    }

    /// Reads the files.
    func settings() -> Settings {
        Settings(
            .daemon, files: [globalFile, FilePath(config)].compactMap(\.self),
            environment: ProcessInfo.processInfo.environment)
    }

    /// For requests to the running daemon. Settings that only the daemon needs, such as the LDAP password, are not checked.
    /// - Throws: `CommandFailure` if the files cannot be read or RUNTIME_DIRECTORY is wrong.
    func control() throws -> DaemonControl {
        DaemonControl(
            runtimeDirectory: try value(of: \ServiceSettings.runtimeDirectory),
            stateDirectory: try? value(of: \ServiceSettings.stateDirectory), configFile: config, globalFile: global)
    }

    /// A single setting, regardless of errors in other settings.
    /// - Parameter read: what the files say; nil: they are read.
    /// - Throws: `CommandFailure` if the files cannot be read or this setting is wrong.
    func value<Section: SettingsSection, Value>(
        of property: KeyPath<Section, Value>, in read: Settings? = nil
    ) throws -> Value {
        let settings = read ?? settings()
        let errors = settings.errors(of: property)
        guard errors.isEmpty else {
            throw CommandFailure(
                errors.map(\.description).joined(separator: "; "), hint: "the settings are \(config)",
                status: .wrongConfiguration)
        }
        return settings[Section.self][keyPath: property]
    }

    /// - Parameter note: is called for each problem; by default it is printed to standard error.
    /// - Throws: `CommandFailure` if the settings cannot be used.
    func load(note: (SettingsProblem) -> Void = { printError("\($0)") }) throws -> DaemonConfiguration {
        let (configuration, warnings, errors) = DaemonConfiguration.load(
            service: FilePath(config), global: globalFile, environment: ProcessInfo.processInfo.environment,
            namedGlobal: global)
        (warnings + errors).forEach(note)
        if let configuration { return configuration }
        throw CommandFailure(
            errors.count == 1 ? "the settings contain an error" : "the settings contain \(errors.count) errors",
            hint: "fix what is reported above; the settings are \(config)", status: .wrongConfiguration)
    }
}

/// The output format of a command.
struct OutputOptions: ParsableArguments {
    @Flag(help: "As JSON, one object a line.") var json = false

    /// Prints a value, as text or as a line of JSON.
    func show(_ value: some Encodable, _ text: @autoclosure () -> String) throws {
        if json { try printJSON(value) } else { print(text()) }
    }
}

/// The account of a command.
struct AccountArgument: ParsableArguments {
    @OptionGroup var files: SettingsOptions
    @Argument(help: "The account's name, as `accounts list` shows it, or its DN.") var account: String
}

/// The log of a command that runs jobs itself.
struct LogOptions: ParsableArguments {
    @Flag(name: [.customShort("d"), .customLong("debug")], help: "Print every log line to the terminal.")
    var isDebugging = false
}

extension CommandFailure {
    /// The failure of what only reads.
    init(_ error: LDAPError) { self.init(error, consequence: nil) }

    /// - Parameters:
    ///   - hint: instead of the error's.
    ///   - consequence: whether something was or may have been changed.
    init(_ error: LDAPError, hint: String? = nil, consequence: String?) {
        let status: ProcessExitStatus =
            switch error.code {
            case .insufficientAccessRights, .invalidCredentials, .inappropriateAuthentication: .notAllowed
            default: error.isRetryable ? .unavailable : .failure
            }
        let hints = [hint ?? error.hint, consequence].compactMap(\.self)
        self.init(
            error.reason,
            hint: hints.isEmpty ? "see: prov-backup-rsnapshot check" : hints.joined(separator: "; "), status: status)
    }

    /// An error of the daemon, of any kind.
    init(inDaemon error: any Error) {
        self = CommandFailure(error) ?? CommandFailure("\(error)", hint: "see the daemon's log")
    }

    /// - Returns: nil for other errors, such as those of the command line.
    init?(_ error: any Error) {
        switch error {
        case let failure as CommandFailure: self = failure
        case let error as LDAPError: self.init(error)
        case let error as SandboxError: self.init(error.reason, hint: error.hint)
        case let error as StateFileError: self.init(error.reason, hint: error.hint)
        default: return nil
        }
    }
}

/// Writes a line to standard error.
func printError(_ text: String) {
    StandardError.write("prov-backup-rsnapshot: \(OneLine.of(text))\n")
}

/// A time on the command line: `2026-11-21`, `2026-11-21T06:30`, `2026-11-21T06:30:15`, or an age: `90s`, `15m`, `2h`, `1d`, `1w`.
enum TimeArgument {
    static let forms = "YYYY-MM-DD, YYYY-MM-DDThh:mm, YYYY-MM-DDThh:mm:ss, or how long ago: 90s, 15m, 2h, 1d, 1w"

    /// - Parameters:
    ///   - text: in local time. A date without a time is the first second of the day.
    ///   - now: for ages.
    ///   - meansEnd: a date without a time is the last second of the day.
    /// - Throws: `ValidationError` with the valid forms.
    static func parse(_ text: String, option: String, now: Timestamp, meansEnd: Bool = false) throws -> Timestamp {
        guard let time = ago(text, now) ?? local(text, meansEnd: meansEnd) else {
            throw ValidationError("\(option): \(OneLine.escaping(String(text.prefix(40)))) is no time; write \(forms).")
        }
        return time
    }

    private static func ago(_ text: String, _ now: Timestamp) -> Timestamp? {
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800]
        guard let last = text.last, let unit = units[last], text.dropLast().count <= 9,
            text.dropLast().allSatisfy({ ("0"..."9").contains($0) }), let count = Int64(text.dropLast())
        else { return nil }
        return now + .seconds(-count * unit)
    }

    private static func local(_ text: String, meansEnd: Bool) -> Timestamp? {
        guard
            let match = text.wholeMatch(
                of: #/([0-9]{4})-([0-9]{2})-([0-9]{2})(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?)?/#),
            let year = Int(match.1), let month = Int(match.2), let number = Int(match.3),
            let day = CalendarDay(year: year, month: month, day: number)
        else { return nil }
        let isDay = match.4 == nil
        let parts = [match.4, match.5, match.6].map { $0.flatMap { Int($0) } }
        let hour = parts[0] ?? (meansEnd ? 23 : 0)
        let minute = parts[1] ?? (meansEnd ? 59 : 0)
        let second = parts[2] ?? (meansEnd && isDay ? 59 : 0)
        guard hour < 24, minute < 60, second < 60 else { return nil }
        return DayCalendar.system.firstMoment(
            reaching: LocalTime(day: day, hour: hour, minute: minute, second: second))
    }
}
