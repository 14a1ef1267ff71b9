import ArgumentParser
import DaemonKit
import JobCore

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
        let history = configuration.historyRequirement()
        for requirement in await configuration.requirements(now: SystemWallClock().now) + [history] {
            checklist.add(requirement.subject, requirement.finding, cure: requirement.cure)
        }
        if let daemon = try await DaemonControl(configuration).status() {
            checklist.ok("daemon", "runs: process \(daemon.pid) since \(daemon.since)")
        } else {
            checklist.remark("daemon", "does not run here")
        }
        if let status = checklist.worst { throw ExitCode(status.rawValue) }
    }
}
