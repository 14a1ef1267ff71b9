import Foundation
import Glibc
import TestSupport
import Testing

/// How every command ends, by the table in `Golden/exit-statuses.txt`. After an intended change, and for new lines, which
/// begin with `? ? ?`, this command writes the statuses into it:
///
///     PROV_REGENERATE=1 swift test --filter ExitStatusTests
@Suite struct ExitStatusTests {
    private static let table = "exit-statuses.txt"

    /// A line of the table.
    private struct Row {
        let status: String
        let output: String
        let errors: String
        let command: String

        init?(_ line: Substring) {
            let cells = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: true)
            guard cells.count == 4, !line.hasPrefix("#"), !line.hasPrefix("[") else { return nil }
            (status, output, errors) = ("\(cells[0])", "\(cells[1])", "\(cells[2])")
            command = cells[3].trimmingCharacters(in: .whitespaces)
        }

        init(_ command: String, _ outcome: Outcome) {
            func state(_ text: String) -> String { text.isEmpty ? "-" : "text" }
            self.command = command
            (status, output, errors) = ("\(outcome.status)", state(outcome.output), state(outcome.errors))
        }

        var text: String {
            func cell(_ text: String, _ width: Int) -> String {
                text.padding(toLength: max(width, text.count), withPad: " ", startingAt: 0)
            }
            return "\(cell(status, 3)) \(cell(output, 5)) \(cell(errors, 5)) \(command)"
        }
    }

    /// A heading and the lines below it.
    private struct Section {
        var heading: Substring?
        /// Lines that are no rows, before the rows and after them.
        var before: [String] = []
        var rows: [Row] = []
        var after: [String] = []
    }

    private static func sections() throws -> [Section] {
        var sections = [Section()]
        let text = try String(contentsOf: Golden.file(table), encoding: .utf8)
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("[") { sections.append(Section(heading: line.dropFirst().dropLast())) }
            let last = sections.count - 1
            if let row = Row(line) {
                sections[last].rows.append(row)
            } else if sections[last].rows.isEmpty {
                sections[last].before.append(String(line))
            } else {
                sections[last].after.append(String(line))
            }
        }
        return sections
    }

    @Test("every command ends in every situation as the table says", .enabled(if: geteuid() == 0, "needs root"))
    func statuses() async throws {
        try await DaemonHarness.run { harness in
            var stage = Stage(harness)
            do {
                let made = try await Self.compare(on: &stage)
                if Golden.isRegenerating { try Golden.expect(made.joined(separator: "\n"), in: Self.table) }
            } catch {
                await stage.end()
                throw error
            }
            await stage.end()
        }
    }

    /// - Returns: the lines of the table as they should be.
    private static func compare(on stage: inout Stage) async throws -> [String] {
        var lines: [String] = []
        for section in try sections() {
            if let heading = section.heading { try await stage.enter(heading) }
            let outcomes = try await stage.run(section.rows.map(\.command))
            let ended = zip(section.rows, outcomes).map { Row($0.command, $1) }
            lines += section.before + ended.map(\.text) + section.after
            for (index, row) in section.rows.enumerated()
            where ended[index].text != row.text && !Golden.isRegenerating {
                Issue.record("[\(section.heading ?? "")] \(row.text): \(outcomes[index])")
            }
        }
        return lines
    }

    @Test(
        "the table has a success and a failure of every command",
        .enabled(if: !Golden.isRegenerating, "it is being made"))
    func coverage() throws {
        let help = try String(contentsOf: Golden.file("help.txt"), encoding: .utf8)
        let names = help.matches(of: #/(?m)^== prov-backup-rsnapshot (.+)$/#).map { String($0.output.1) }
        let commands = names.filter { name in !names.contains { $0.hasPrefix("\(name) ") } }
        #expect(commands.count > 20)
        let rows = try Self.sections().flatMap(\.rows)
        for command in commands {
            let ends = rows.filter { $0.command == command || $0.command.hasPrefix("\(command) ") }.map(\.status)
            #expect(ends.contains("0") && ends.contains { $0 != "0" }, "\(command): \(ends)")
        }
    }
}

/// Makes the situations of the table one after the other.
private struct Stage: Sendable {
    private let harness: DaemonHarness
    private(set) var situation = ""
    private var daemon: RunningProgram?
    private var jobs: [(String, String)] = []

    init(_ harness: DaemonHarness) { self.harness = harness }

    private func settings(database: String = "", service: String = "") throws {
        let script = harness.path("job.sh")
        try harness.settings(
            database: database, service: service,
            backup: """
                HOME_SCRIPT =
                [Job good]
                SCRIPT = \(script)
                [Job bad]
                SCRIPT = \(harness.path("bad.sh"))
                [Job open]
                SCRIPT = \(harness.path("open.sh"))
                [Job reports]
                SCRIPT = \(harness.path("reports.sh"))
                [Backup Jobs]
                DAILY = 0 3 29 2 *
                WEEKLY = 0 3 29 2 *
                MONTHLY = 0 3 29 2 *
                """)
    }

    mutating func enter(_ situation: Substring) async throws {
        self.situation = String(situation)
        switch situation.replacing(", in this order", with: "") {
        case "there are no settings", "no settings are needed", "no daemon runs, and requests were carried out",
            "the daemon runs, and requests were carried out", "a script of a job asks":
            break
        case "the settings are wrong":
            for (name, text) in [
                ("job.sh", "exit 0"), ("bad.sh", "exit 1"), ("reports.sh", ""),
                ("open.sh", "touch \(harness.path("began"))\nexec sleep 1000"),
            ] { _ = try harness.script(name, text) }
            try settings(service: "SLOTS = many")
        case "no daemon runs, and accounts are shared":
            try settings(database: "[Attributes]\nCLAIM = provisioningClaim\n[Service]")
            try await harness.add("3724301", claimedBy: "gone.example.org 17", ["sstProvisioningMode": "adding"])
        case "no daemon runs":
            try settings()
            try await harness.add("3724300")
            try await harness.add("3724302", home: "/outside/3724302")
        case "no daemon runs, and the LDAP server is away":
            try settings(database: "SERVER = ldapi://%2Fnonexistent%2Fldapi")
        case "the daemon runs":
            try settings()
            daemon = try await harness.serving()
            try await harness.add("3724303", ["sstProvisioningExecutionDate": "20991231"])
            let done = try await harness.ask("good")
            try await harness.result(of: done)
            jobs = [("DONE", done), ("OPEN", try await harness.ask("open"))]
            try await eventually("the job runs") { harness.exists("began") }
        case "the daemon runs, and no account has failed":
            try await harness.manager.delete(DaemonHarness.dn("3724302"))
        case "the daemon runs, and another user asks":
            // The settings are not secret; the password is.
            chmod(harness.settingsFile.path, 0o644)
        case "the daemon runs, and its settings have become wrong":
            try settings(service: "SLOTS = many")
        case "the daemon runs, and the LDAP server is away":
            try settings()
            try await harness.sandbox.kill()
            try await eventually("the daemon has noticed it") {
                try await harness.json("status").first?["daemon"]["isDirectoryAvailable"] == .bool(false)
            }
        default: Issue.record("no situation \(situation)")
        }
    }

    /// Stops the sandbox that a row starts.
    func end() async {
        _ = try? await DaemonHarness.outcome(["sandbox", "stop", "--directory", harness.path("sandbox")])
    }

    /// Runs the rows of the situation, all at once where none changes anything.
    func run(_ commands: [String]) async throws -> [Outcome] {
        let isOrdered = situation.hasSuffix("in this order")
        var outcomes: [Int: Outcome] = [:]
        var rest = commands.enumerated().makeIterator()
        try await withThrowingTaskGroup(of: (Int, Outcome).self) { group in
            func add() {
                if let (index, command) = rest.next() {
                    group.addTask { (index, try await run(command)) }
                }
            }
            for _ in 0..<(isOrdered ? 1 : 8) { add() }
            while let (index, outcome) = try await group.next() {
                outcomes[index] = outcome
                add()
            }
        }
        return commands.indices.compactMap { outcomes[$0] }
    }

    private func run(_ command: String) async throws -> Outcome {
        let names = [("CONF", harness.settingsFile.path), ("DIR", harness.directory.path)] + jobs
        let arguments = command.split(separator: " ").map { word in
            names.reduce(String(word)) { $0.replacing($1.0, with: $1.1) }
        }
        switch situation {
        case "a script of a job asks, in this order": return try await runInScript(arguments)
        case "the daemon runs, and another user asks":
            return try await DaemonHarness.outcome(
                arguments, by: ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
        default: return try await DaemonHarness.outcome(arguments)
        }
    }

    /// Runs the program in the script of a job, which stores its output and exit status.
    private func runInScript(_ arguments: [String]) async throws -> Outcome {
        _ = try harness.script(
            "reports.sh",
            """
            cd \(harness.directory.path)
            \(DaemonHarness.program.path) \(arguments.joined(separator: " ")) >output 2>errors
            echo $? >status
            """)
        try await harness.result(of: try await harness.ask("reports"))
        func text(_ name: String) throws -> String { try String(contentsOfFile: harness.path(name), encoding: .utf8) }
        let status = try #require(Int32(try text("status").trimmingCharacters(in: .whitespacesAndNewlines)))
        return Outcome(status: status, output: try text("output"), errors: try text("errors"))
    }
}
