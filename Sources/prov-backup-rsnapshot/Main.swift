import ArgumentParser
import Daemon
import EventLoop
import Glibc
import JobCore
import LDAP

@main
struct ProvBackupRsnapshot: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prov-backup-rsnapshot",
        abstract: "Provisions backup accounts that are kept on an LDAP server.",
        discussion: """
            Without a subcommand the daemon runs. Exit status: 0 done, 64 wrong usage, 78 wrong configuration, \
            69 LDAP server or daemon unreachable, 75 try again, 77 not allowed, 1 any other failure.
            """,
        version: Version.description,
        subcommands: [
            RunCommand.self, ReloadCommand.self, CheckCommand.self, StatusCommand.self, HealthCommand.self,
            AccountsCommand.self,
            JobsCommand.self,
            BackupCommand.self, SnapshotsCommand.self, ScriptsCommand.self, ReportCommand.self, LDIFCommand.self,
            SandboxCommand.self,
        ],
        defaultSubcommand: RunCommand.self)

    static func main() {
        // Before anything else opens a descriptor.
        StandardOutput.holdStandardStreams()
        EventLoop.run(runCommand)
    }

    private static func runCommand() async {
        LDAPLibrary.ignoreSurroundings()
        // Swift reads the arguments from /proc. Without them each command would be the default one, the daemon.
        guard !CommandLine.arguments.isEmpty else {
            printError(
                CommandFailure(
                    "/proc is not mounted", hint: "mount it: mount -t proc proc /proc", status: .wrongConfiguration
                )
                .description)
            end(ProcessExitStatus.wrongConfiguration.rawValue)
        }
        var status = EXIT_SUCCESS
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            if let failure = CommandFailure(error) {
                printErrors(failure.description)
                end(failure.status.rawValue)
            }
            if let failure = unknownCommand() {
                printErrors(failure.description)
                end(failure.status.rawValue)
            }
            status = exitCode(for: error).rawValue
            let message = fullMessage(for: error)
            // Help or a completion script; its lines may be long.
            if !message.isEmpty, status == EXIT_SUCCESS { StandardOutput.write("\(message)\n") }
            if status != EXIT_SUCCESS { printErrors(message) }
        }
        end(status)
    }

    /// A word in place of a command, which is otherwise reported as an argument of `run`, the default one.
    private static func unknownCommand() -> CommandFailure? {
        var command: any ParsableCommand.Type = Self.self
        var path = ""
        for word in CommandLine.arguments.dropFirst() {
            let commands = command.configuration.subcommands
            guard !commands.isEmpty, !word.hasPrefix("-"), word != "help" else { return nil }
            guard let next = commands.first(where: { $0._commandName == word }) else {
                let names = commands.map { $0._commandName }
                let nearest = NearestName.of(word, among: names).map { "did you mean \(path)\($0)?" }
                return CommandFailure(
                    "there is no command \(path)\(OneLine.escaping(String(word.prefix(40))))",
                    hint: nearest ?? "there are: \(names.joined(separator: ", "))", status: .wrongUsage)
            }
            command = next
            path += "\(word) "
        }
        return nil
    }

    /// A failure may have several reasons, one a line.
    private static func printErrors(_ lines: String) {
        for line in lines.split(separator: "\n") { printError(String(line)) }
    }

    /// Ends without running the destructors of libraries, because a thread that is connecting may still use them.
    private static func end(_ status: Int32) -> Never {
        LogWriter.flushAll()
        StandardOutput.close()
        _exit(status)
    }
}

/// The version of this program.
enum Version {
    static let description = "0.1.0"
    /// The day of its release.
    static let date = "2026-11-21"
}
