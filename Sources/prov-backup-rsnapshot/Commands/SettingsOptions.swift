import ArgumentParser
import Daemon
import FoundationEssentials
import JobCore
import SystemPackage

/// Where the settings are, for every command that needs them.
struct SettingsOptions: ParsableArguments {
    @Option(name: [.customShort("c"), .long], help: "The service's settings.", completion: .file())
    var config = "/etc/Provisioning/Backup/Rsnapshot.conf"

    @Option(
        name: [.customShort("g"), .customLong("global")],
        help: "The global settings (default: /etc/Provisioning/Global.conf, where it is there).", completion: .file())
    var global: String?

    private static let usualGlobal = "/etc/Provisioning/Global.conf"

    private var globalFile: FilePath? {
        (global ?? (FileManager.default.fileExists(atPath: Self.usualGlobal) ? Self.usualGlobal : nil))
            .map { FilePath($0) }
    }

    /// Asks the running daemon without looking at settings that only the daemon needs, such as the LDAP password.
    /// - Throws: `CommandFailure` when the files cannot be read, or RUNTIME_DIRECTORY is wrong.
    func control() throws -> DaemonControl {
        DaemonControl(
            runtimeDirectory: try value(of: \ServiceSettings.runtimeDirectory), configFile: config, globalFile: global)
    }

    /// One setting alone, whatever is wrong with others.
    /// - Throws: `CommandFailure` when the files cannot be read, or this setting is wrong.
    func value<Section: SettingsSection, Value>(of property: KeyPath<Section, Value>) throws -> Value {
        let settings = Settings(
            .daemon, files: [globalFile, FilePath(config)].compactMap(\.self),
            environment: ProcessInfo.processInfo.environment)
        let errors = settings.errors(of: property)
        guard errors.isEmpty else {
            throw CommandFailure(
                errors.map(\.description).joined(separator: "; "), hint: "the settings are \(config)",
                status: .wrongConfiguration)
        }
        return settings[Section.self][keyPath: property]
    }

    /// - Parameter note: hears everything that is odd or wrong; by default it goes to standard error.
    /// - Throws: `CommandFailure` when the settings cannot be used.
    func load(note: (SettingsProblem) -> Void = { printError("\($0)") }) throws -> DaemonConfiguration {
        do {
            let (configuration, warnings) = try DaemonConfiguration.load(
                service: FilePath(config), global: globalFile,
                environment: ProcessInfo.processInfo.environment, namedGlobal: global)
            warnings.forEach(note)
            return configuration
        } catch {
            (error.warnings + error.errors).forEach(note)
            let count = error.errors.count
            throw CommandFailure(
                count == 1 ? "the settings hold an error" : "the settings hold \(count) errors",
                hint: "fix what is reported above; the settings are \(config)", status: error.exitStatus)
        }
    }
}
