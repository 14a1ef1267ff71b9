import ArgumentParser
import DaemonKit

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run the daemon (the default).",
        discussion: "Stops on SIGTERM and SIGINT, reads its settings anew on SIGHUP.")

    @OptionGroup var files: SettingsOptions

    @Flag(name: [.customShort("d"), .customLong("debug")], help: "Print every log line to the terminal.")
    var isDebugging = false

    @Flag(
        name: [.customShort("r"), .customLong("dry-run")], help: "Show the plan for each account, and change nothing.")
    var isDryRun = false

    @Flag(help: "Work on what is due now, then exit: 0, or 1 when an account failed or has to be tried again.")
    var once = false

    func run() async throws {
        let daemon = try Daemon(files: files, isDebugging: isDebugging, isDryRun: isDryRun)
        if once {
            try await daemon.runOnce()
        } else {
            try await daemon.run()
        }
    }
}
