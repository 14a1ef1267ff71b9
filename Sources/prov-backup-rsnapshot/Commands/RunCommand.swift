import ArgumentParser
import Daemon
import Glibc

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run the daemon (the default).",
        discussion: "Stops on SIGTERM and SIGINT, reloads its settings on SIGHUP (systemctl reload).")

    @OptionGroup var files: SettingsOptions

    @OptionGroup var log: LogOptions

    @Flag(
        name: [.customShort("r"), .customLong("dry-run")], help: "Show the plan for each account without changes.")
    var isDryRun = false

    @Flag(help: "Process the requests that are due now, then exit: 0, or 1 if an account failed or will be retried.")
    var once = false

    func run() async throws {
        // A reader of the log that has ended, such as tee at Ctrl-C, must not end the daemon.
        signal(SIGPIPE, SIG_IGN)
        if once { return try await Daemon(files: files, log: log, isDryRun: isDryRun).runOnce() }
        // Blocked until the settings are read, so that an early SIGHUP does not end the program.
        ProcessSignals.hold([SIGHUP])
        try await Daemon(files: files, log: log, isDryRun: isDryRun).run()
    }
}

struct ReloadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload", abstract: "Reload the daemon's settings, and wait for the result.",
        discussion: """
            Running jobs keep the settings with which they began. Exit status: 0 when the new settings are in force, 78 when they are wrong and \
            the daemon keeps its settings, 69 when no daemon runs, 75 when it does not reply.
            """)

    @OptionGroup var files: SettingsOptions

    func run() async throws {
        let outcome = try await files.control().reload()
        outcome.problems.forEach(printError)
        if let refusal = outcome.refusal { throw refusal }
        outcome.lines.forEach { print($0) }
    }
}

extension ReloadOutcome {
    /// The output for valid settings.
    var lines: [String] {
        ["the settings have been reloaded" + (changed.isEmpty ? ": nothing has changed" : "")]
            + changed.map { "changed: \($0)" }
            + restartNeeded.map { "takes effect at the next start: \($0); systemctl restart prov-backup-rsnapshot" }
    }
}
