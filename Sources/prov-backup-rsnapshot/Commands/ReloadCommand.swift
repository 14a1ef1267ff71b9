import ArgumentParser
import Daemon

struct ReloadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload", abstract: "Have the daemon read its settings anew, and wait for its verdict.",
        discussion: """
            Running jobs go on with the settings they began with. Exit status: 0 when the new settings hold, 78 when they are wrong and \
            the daemon goes on with those that it has, 69 when no daemon runs, 75 when it does not answer.
            """)

    @OptionGroup var files: SettingsOptions

    func run() async throws {
        let outcome = try await files.control().reload()
        outcome.problems.forEach(printError)
        if let refusal = outcome.refusal { throw refusal.failure }
        outcome.lines.forEach { print($0) }
    }
}

extension ReloadOutcome {
    /// What the command prints of settings that hold.
    var lines: [String] {
        ["the settings have been read anew" + (changed.isEmpty ? ": nothing has changed" : "")]
            + changed.map { "changed: \($0)" }
            + restartNeeded.map { "takes effect at the next start: \($0); systemctl restart prov-backup-rsnapshot" }
    }
}
