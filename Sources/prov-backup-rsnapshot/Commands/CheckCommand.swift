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
    /// The result of one check.
    struct Line: Hashable, Encodable {
        enum Result: String, Encodable {
            case ok
            case not = "NOT"
            /// Unusual, but nothing fails.
            case warning
            /// Neither right nor wrong, or unknown.
            case note
        }

        var subject: String
        var result: Result
        var finding: String
        /// The hint; nil: nothing is wrong.
        var fix: String?
    }

    /// All results, as JSON.
    private struct Report: Encodable {
        var checks: Int
        var not: Int
        var status: Int32
        var lines: [Line]
    }

    private let isJSON: Bool
    private(set) var lines: [Line] = []
    /// The exit status; nil: all is ok.
    private(set) var worst: ProcessExitStatus?
    /// Files that other users could change. They are neither run nor listed again.
    var refused: Set<FilePath> = []

    init(asJSON isJSON: Bool = false) { self.isJSON = isJSON }

    mutating func ok(_ subject: String, _ finding: String) { add(subject, finding, hint: nil) }

    mutating func add(
        _ subject: String, _ finding: String, hint: String?, status: ProcessExitStatus = .failure
    ) {
        append(Line(subject: subject, result: hint == nil ? .ok : .not, finding: finding, fix: hint))
        if hint != nil, worst == nil || worst == .failure { worst = status }
    }

    mutating func note(_ subject: String, _ finding: String) {
        append(Line(subject: subject, result: .note, finding: finding))
    }

    mutating func add(_ requirement: Requirement) {
        let (subject, finding) = (requirement.subject, requirement.finding)
        if requirement.isNote { return note(subject, finding) }
        if requirement.isWarning {
            return append(Line(subject: subject, result: .warning, finding: finding, fix: requirement.hint))
        }
        add(subject, finding, hint: requirement.hint)
    }

    mutating func add(_ subject: String, problem: SettingsProblem) {
        let isError = problem.severity == .error
        var finding = problem.description
        let end = "; " + OneLine.escaping(problem.hint)
        if !problem.hint.isEmpty, finding.hasSuffix(end) { finding.removeLast(end.count) }
        append(
            Line(
                subject: subject, result: isError ? .not : .warning, finding: finding,
                fix: problem.hint.isEmpty ? nil : problem.hint))
        if isError { worst = .wrongConfiguration }
    }

    /// Prints the summary and ends the command.
    /// - Throws: the exit status, unless all is ok.
    func end() throws {
        let not = lines.count { $0.result == .not }
        let checks = not + lines.count { $0.result == .ok }
        let status = worst?.rawValue ?? 0
        if isJSON {
            try printJSON(Report(checks: checks, not: not, status: status, lines: lines))
        } else {
            print("\(checks) checks, \(not) NOT, exit status \(status)")
        }
        if status != 0 { throw ExitCode(status) }
    }

    private mutating func append(_ line: Line) {
        lines.append(line)
        guard !isJSON else { return }
        let mark =
            switch line.result {
            case .ok: "ok  "
            case .not: "NOT "
            case .warning: "warn"
            case .note: "    "
            }
        print(OneLine.escaping("\(mark)  \(line.subject): \(line.finding)" + (line.fix.map { "; \($0)" } ?? "")))
    }
}
