import ArgumentParser
import Daemon
import JobCore

struct ScriptsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scripts", abstract: "List the scripts of the settings, or load the event handlers anew.",
        subcommands: [List.self, Restart.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "List pre and post scripts, scripts that are jobs, and event handlers: where they lie, and whether they can run."
        )

        @OptionGroup var files: SettingsOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let scripts = try await files.control().scripts()
            if output.json { return try scripts.forEach(printJSON) }
            ScriptText.lines(scripts).forEach(print)
        }
    }

    struct Restart: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Load the event handlers anew; running jobs keep those they have.")

        @OptionGroup var files: SettingsOptions

        func run() async throws {
            print(OneLine.escaping(try await files.control().restartScripts()))
        }
    }
}

/// Scripts of the settings as people read them.
enum ScriptText {
    static func lines(_ scripts: [ScriptLine]) -> [String] {
        var table = TextTable(["KIND", "NAME", "STATE", "SCHEDULE", "NEXT", "PATH"])
        let rows = scripts.map {
            [$0.kind.rawValue, $0.name, $0.state.rawValue, $0.schedule ?? "-", $0.next?.local ?? "-", $0.path]
        }
        // What is wrong stands below its script, where it has room.
        let lines = table.lines(rows)
        return [lines[0]]
            + zip(lines.dropFirst(), scripts).flatMap { line, script in
                [line] + (script.problem.map { ["  " + OneLine.escaping($0)] } ?? [])
            }
    }
}
