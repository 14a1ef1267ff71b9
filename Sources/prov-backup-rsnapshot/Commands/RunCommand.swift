import ArgumentParser
import Daemon
import Glibc

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run the daemon (the default).",
        discussion: "Stops on SIGTERM and SIGINT, reads its settings anew on SIGHUP (systemctl reload).")

    @OptionGroup var files: SettingsOptions

    @OptionGroup var log: LogOptions

    @Flag(
        name: [.customShort("r"), .customLong("dry-run")], help: "Show the plan for each account, and change nothing.")
    var isDryRun = false

    @Flag(help: "Work on what is due now, then exit: 0, or 1 when an account failed or has to be tried again.")
    var once = false

    func run() async throws {
        if once { return try await Daemon(files: files, log: log, isDryRun: isDryRun).runOnce() }
        // A signal that comes before the settings are read is obeyed by reading them, a later one by reading them again.
        ProcessSignals.hold([SIGHUP])
        try await Daemon(files: files, log: log, isDryRun: isDryRun).run()
    }
}
