import Foundation
import TestSupport
import Testing

/// The exit status and the output of a command.
struct Outcome: Sendable {
    let status: Int32
    let output: String
    let errors: String
}

/// Commands as scripts use them: by exit status, streams and JSON alone.
extension DaemonHarness {
    /// Runs the program to its end.
    ///
    /// - Parameters:
    ///   - arguments: all of them; the settings are named only where they are among these.
    ///   - starter: the command that starts the program, without the program itself.
    static func outcome(
        _ arguments: [String], by starter: [String] = [], environment: [String: String] = [:]
    ) async throws -> Outcome {
        let errors = FileManager.default.temporaryDirectory.appending(path: "prov-test-\(UUID().uuidString).errors")
        defer { try? FileManager.default.removeItem(at: errors) }
        let command = try RunningProgram(
            URL(filePath: "/bin/sh"),
            ["-c", "exec \"$@\" 2>\"$0\"", errors.path] + starter + [program.path] + arguments,
            environment: environment)
        let status = await command.end()
        return Outcome(
            status: status, output: command.output, errors: try String(contentsOf: errors, encoding: .utf8))
    }

    /// The values that a command prints with `--json`, one for each line. It must succeed.
    func json(_ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) async throws -> [JSON] {
        try await json(arguments, sourceLocation: sourceLocation)
    }

    func json(_ arguments: [String], sourceLocation: SourceLocation = #_sourceLocation) async throws -> [JSON] {
        let ended = try await Self.outcome(arguments + ["--json", "-c", settingsFile.path])
        #expect(ended.status == 0, "\(arguments): \(ended)", sourceLocation: sourceLocation)
        return try JSON.lines(ended.output)
    }

    /// Starts the daemon and waits until it answers and has looked at the directory.
    /// - Parameter starter: the command that starts the program, without the program itself.
    func serving(by starter: [String] = []) async throws -> RunningProgram {
        let daemon = try start(by: starter)
        try await eventually("the daemon serves") {
            let asked = try await Self.outcome(["status", "--json", "-c", self.settingsFile.path])
            return try JSON.lines(asked.output).first?["daemon"]["isDirectoryAvailable"] == .bool(true)
        }
        return daemon
    }

    /// Submits a job of `[Job NAME]`.
    /// - Returns: its number.
    func ask(_ name: String, sourceLocation: SourceLocation = #_sourceLocation) async throws -> String {
        let asked = try await Self.outcome(["jobs", "run", name, "-c", settingsFile.path])
        #expect(asked.status == 0, "\(asked)", sourceLocation: sourceLocation)
        return asked.output.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Waits for a job's end.
    /// - Returns: its result.
    @discardableResult
    func result(of job: String, sourceLocation: SourceLocation = #_sourceLocation) async throws -> String {
        var result: String?
        try await eventually("job \(job) ends", sourceLocation: sourceLocation) {
            result = try await self.json("jobs", "show", job).first?["job"]["result"].string
            return result != nil
        }
        return result ?? ""
    }

    func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path(name)) }
}
