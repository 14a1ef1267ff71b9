import ArgumentParser
import BackupService
import Daemon
import JobCore
import SystemPackage

/// What has been looked at, printed as it is found, or as one JSON object at the end.
struct Checklist {
    /// What was found out about one thing.
    struct Line: Hashable, Encodable {
        enum Result: String, Encodable {
            case ok
            case not = "NOT"
            /// Odd, and nothing stops.
            case warning
            /// Neither right nor wrong, or it could not be told.
            case note
        }

        var subject: String
        var result: Result
        var finding: String
        /// How to fix it; nil unless something is wrong.
        var fix: String?
    }

    /// All of them, for programs.
    private struct Report: Encodable {
        var checks: Int
        var not: Int
        var status: Int32
        var lines: [Line]
    }

    private let isJSON: Bool
    private(set) var lines: [Line] = []
    /// What the command ends with; nil when all is ok.
    private(set) var worst: ProcessExitStatus?
    /// What others could change: it is neither run nor named a second time.
    var refused: Set<FilePath> = []

    init(asJSON isJSON: Bool = false) { self.isJSON = isJSON }

    mutating func ok(_ subject: String, _ finding: String) { add(subject, finding, hint: nil) }

    mutating func add(
        _ subject: String, _ finding: String, hint: String?, status: ProcessExitStatus = .failure
    ) {
        append(Line(subject: subject, result: hint == nil ? .ok : .not, finding: finding, fix: hint))
        if hint != nil, worst == nil || worst == .failure { worst = status }
    }

    /// What is neither right nor wrong.
    mutating func remark(_ subject: String, _ finding: String) {
        append(Line(subject: subject, result: .note, finding: finding))
    }

    mutating func add(_ requirement: Requirement) {
        guard !requirement.isNote else { return remark(requirement.subject, requirement.finding) }
        guard !requirement.isWarning else {
            return append(
                Line(
                    subject: requirement.subject, result: .warning, finding: requirement.finding, fix: requirement.hint)
            )
        }
        add(requirement.subject, requirement.finding, hint: requirement.hint)
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

    /// Sums up, and ends the command.
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
