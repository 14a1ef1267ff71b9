import ArgumentParser
import DaemonKit

struct CheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Look whether everything is as the daemon needs it.",
        discussion: "Changes nothing. A list of ok and not ok with cures; exit status 0 only when all is ok.")

    @OptionGroup var files: SettingsOptions

    func run() async throws {
        var checklist = Checklist()
        let configuration = try files.load { checklist.add("settings", problem: $0) }
        checklist.ok("settings", "\(files.config)")
        await checklist.directory(configuration)
        await checklist.service(configuration)
        await checklist.jobs(configuration)
        checklist.history(configuration)
        if let daemon = try await DaemonControl(configuration).status() {
            checklist.ok("daemon", "runs: process \(daemon.pid) since \(daemon.since)")
        } else {
            checklist.remark("daemon", "does not run here")
        }
        if let status = checklist.worst { throw ExitCode(status.rawValue) }
    }
}
