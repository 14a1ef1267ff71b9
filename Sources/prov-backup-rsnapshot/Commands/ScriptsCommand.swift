import ArgumentParser
import Daemon
import JobCore
import ScriptService
import SystemPackage

struct ScriptsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scripts", abstract: "List the scripts of the settings, or reload the event handlers.",
        subcommands: [List.self, Restart.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "List pre and post scripts, scripts that are jobs, and event handlers, with their paths and whether they can run.",
            discussion:
                "Ends with 1 if one of them cannot run; a missing DirStartUp.py means that there are no handlers."
        )

        @OptionGroup var files: SettingsOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let scripts = try await files.control().scripts()
            if output.json { try scripts.forEach(printJSON) } else { ScriptLine.table(scripts).forEach(print) }
            if let failure = ScriptLine.failure(of: scripts) { throw failure }
        }
    }

    struct Restart: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Reload the event handlers; running jobs keep theirs.")

        @OptionGroup var files: SettingsOptions

        func run() async throws {
            print(OneLine.escaping(try await files.control().restartScripts()))
        }
    }
}

/// A script of the settings, with its state.
struct ScriptLine: Codable, Hashable, Sendable {
    enum Kind: String, Codable, Sendable {
        /// A pre or post script of a job type.
        case hook
        /// Processes requests, with TYPE = Script.
        case service
        /// A user script, run as a job.
        case job
        /// Event handlers.
        case handlers
    }

    enum State: String, Codable, Sendable {
        case ok
        /// Disabled in the settings.
        case off
        /// The file does not exist. Permitted for event handlers.
        case missing
        /// Another user could change it, or it cannot be run.
        case notTrusted = "not trusted"
        /// Event handlers that the daemon could not load.
        case notLoaded = "not loaded"
    }

    var kind: Kind
    /// `Backup pre script`, or the name of a user script.
    var name: String
    var path: String
    var state: State
    /// With the hint.
    var problem: String?
    /// In cron notation; nil: none.
    var schedule: String?
    var next: Timestamp?
    /// Only the hint; not part of the JSON.
    var hint: String?

    private enum CodingKeys: String, CodingKey {
        case kind, name, path, state, problem, schedule, next
    }

    /// For messages.
    var subject: String { kind == .job ? "[Job \(name)]" : name }
}

extension ScriptLine {
    mutating func handlersAreNotLoaded(_ fault: String) {
        (state, problem, hint) = (.notLoaded, "\(fault); \(Self.loadingHint)", Self.loadingHint)
    }

    static let loadingHint = "correct it, then run: prov-backup-rsnapshot scripts restart"

    /// The problems of all scripts; nil: there are none.
    static func failure(of scripts: [ScriptLine]) -> CommandFailure? {
        let problems = scripts.compactMap { line in line.problem.map { "\(line.subject): \($0)" } }
        guard let first = problems.first else { return nil }
        let more = problems.count == 1 ? "" : " (and \(problems.count - 1) more)"
        return CommandFailure("\(first)\(more)", hint: "see also: prov-backup-rsnapshot check")
    }

    static func table(_ scripts: [ScriptLine]) -> [String] {
        var table = TextTable(["KIND", "NAME", "STATE", "SCHEDULE", "NEXT", "PATH"])
        let rows = scripts.map {
            [$0.kind.rawValue, $0.name, $0.state.rawValue, $0.schedule ?? "-", $0.next?.local ?? "-", $0.path]
        }
        // The problem is on a separate line below its script.
        let lines = table.lines(rows)
        return [lines[0]]
            + zip(lines.dropFirst(), scripts).flatMap { line, script in
                [line] + (script.problem.map { ["  " + OneLine.escaping($0)] } ?? [])
            }
    }

    /// All scripts of the settings, in the order service, hooks, jobs, event handlers. Reads the file system.
    static func all(_ configuration: DaemonConfiguration, now: Timestamp) -> [ScriptLine] {
        let service = configuration.script.map { service in
            [("ADD", service.add), ("MODIFY", service.modify), ("DELETE", service.delete)]
                .map { ScriptLine(kind: .service, name: $0, $1) }
        }
        let hooks = JobPolicy.types.flatMap { type in
            let hooks = configuration.policies[type]?.hooks
            return [("pre script", hooks?.pre), ("post script", hooks?.post)].map { name, path in
                ScriptLine(kind: .hook, name: "\(type) \(name)", path)
            }
        }
        let jobs = configuration.userScripts.values.sorted { $0.name < $1.name }.map { script in
            var line = ScriptLine(kind: .job, name: script.name, script.path)
            line.schedule = script.schedule?.description
            line.next = script.schedule?.next(after: now)
            return line
        }
        let handlers = ScriptLine(
            kind: .handlers, name: "event handlers", configuration.scripts.events.directory.appending("DirStartUp.py"),
            as: .pythonScript)
        return (service ?? []) + hooks + jobs + [handlers]
    }

    /// - Parameter path: nil: disabled.
    private init(kind: Kind, name: String, _ path: FilePath?, as trust: FileTrust.Kind = .program) {
        self.init(kind: kind, name: name, path: path?.string ?? "", state: .off)
        guard let path else { return }
        do throws(FileTrustError) {
            try FileTrust.check(path, as: trust)
            state = .ok
        } catch {
            state = error.isAbsent && error.file == path ? .missing : .notTrusted
            // Event handlers are optional.
            if state != .missing || kind != .handlers { (problem, hint) = ("\(error)", error.hint) }
        }
    }
}
