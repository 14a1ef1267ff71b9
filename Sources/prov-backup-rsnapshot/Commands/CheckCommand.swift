import ArgumentParser
import BackupService
import Daemon
import JobCore
import SystemPackage

struct CheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Check that everything the daemon needs is in place.",
        discussion: """
            Changes nothing. Prints a line for each check: ok, NOT with its fix, warn, or a note if there is nothing to check or the result is \
            unknown; and a summary. Exit status 0 only when no line is NOT.
            """)

    @OptionGroup var files: SettingsOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        var checklist = Checklist(asJSON: output.json)
        let configuration: DaemonConfiguration
        do {
            configuration = try files.load { checklist.add("settings", problem: $0) }
        } catch is CommandFailure {
            // The problems are already listed.
            return try checklist.end()
        }
        checklist.ok("settings", "\(files.config)")
        checklist.trust(configuration)
        let isBound = await checklist.ldapServer(configuration)
        await checklist.service(configuration)
        checklist.machine(configuration)
        await checklist.jobs(configuration)
        await checklist.schedules(configuration, isBound: isBound)
        checklist.history(configuration)
        await checklist.daemon(configuration)
        try checklist.end()
    }
}

/// The results of the checks, printed one by one, or as one JSON object at the end.
struct Checklist {
    /// All results, as JSON.
    private struct Report: Encodable {
        var checks: Int
        var not: Int
        var status: Int32
        var lines: [[String: String]]
    }

    private let isJSON: Bool
    private(set) var lines: [Requirement] = []
    /// The exit status; nil: all is ok.
    private(set) var worst: ProcessExitStatus?
    /// Files that other users could change. They are neither run nor listed again.
    var refused: Set<FilePath> = []

    init(asJSON isJSON: Bool = false) { self.isJSON = isJSON }

    mutating func ok(_ subject: String, _ finding: String) { add(Requirement(subject, .met, finding)) }

    mutating func note(_ subject: String, _ finding: String) { add(Requirement(subject, .note, finding)) }

    /// - Parameter hint: nil: nothing is wrong.
    mutating func add(
        _ subject: String, _ finding: String, hint: String?, status: ProcessExitStatus = .failure
    ) {
        add(Requirement(subject, hint == nil ? .met : .unmet, finding, hint: hint), status: status)
    }

    mutating func add(_ subject: String, problem: SettingsProblem) {
        add(
            Requirement(
                subject, problem.severity == .error ? .unmet : .warning, problem.finding,
                hint: problem.hint.isEmpty ? nil : problem.hint), status: .wrongConfiguration)
    }

    /// - Parameter status: the exit status if it is not met.
    mutating func add(_ line: Requirement, status: ProcessExitStatus = .failure) {
        lines.append(line)
        if line.result == .unmet, worst == nil || worst == .failure { worst = status }
        guard !isJSON else { return }
        let mark =
            switch line.result {
            case .met: "ok  "
            case .unmet: "NOT "
            case .warning: "warn"
            case .note: "    "
            }
        print(OneLine.escaping("\(mark)  \(line.subject): \(line.finding)" + (line.hint.map { "; \($0)" } ?? "")))
    }

    /// Prints the summary and ends the command.
    /// - Throws: the exit status, unless all is ok.
    func end() throws {
        let not = lines.count { $0.result == .unmet }
        let checks = not + lines.count { $0.result == .met }
        let status = worst?.rawValue ?? 0
        if isJSON {
            let lines = lines.map { line in
                [
                    "subject": line.subject, "result": line.result.rawValue, "finding": line.finding, "fix": line.hint,
                ].compactMapValues(\.self)
            }
            try printJSON(Report(checks: checks, not: not, status: status, lines: lines))
        } else {
            print("\(checks) checks, \(not) NOT, exit status \(status)")
        }
        if status != 0 { throw ExitCode(status) }
    }
}
