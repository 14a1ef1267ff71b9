import ArgumentParser
import Daemon

struct CheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Check that everything the daemon needs is in place.",
        discussion: """
            Changes nothing. A line for each thing: ok, NOT with its fix, or a note where nothing is to be decided or where it is not \
            known; at the end one line that sums up. Exit status 0 only when nothing is NOT.
            """)

    @OptionGroup var files: SettingsOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        var checklist = Checklist(asJSON: output.json)
        let configuration: DaemonConfiguration
        do {
            configuration = try files.load { checklist.add("settings", problem: $0) }
        } catch is CommandFailure {
            // All that is wrong with them has been said.
            return try checklist.end()
        }
        checklist.ok("settings", "\(files.config)")
        checklist.trust(configuration)
        let isBound = await checklist.directory(configuration)
        await checklist.service(configuration)
        checklist.machine(configuration)
        await checklist.jobs(configuration)
        await checklist.schedules(configuration, isBound: isBound)
        checklist.history(configuration)
        await checklist.daemon(configuration)
        try checklist.end()
    }
}
