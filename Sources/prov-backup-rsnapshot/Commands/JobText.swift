import Daemon
import JobCore

/// Jobs as people read them.
enum JobText {
    static let headings = [
        "ID", "TYPE", "JOB", "CLIENT", "S", "STATUS", "TRY", "DONE", "STARTED", "TOOK", "RESULT", "MESSAGE",
    ]

    /// The cells of a list's row.
    static func row(_ job: Job) -> [String] {
        [
            "\(job.id)", "\(job.type)", name(job), job.client, job.status.letter, job.meaning,
            String(job.attempt),
            job.progress.map { "\($0) %" } ?? "-", (job.started ?? job.created).local,
            job.seconds.map(span) ?? "-", job.result?.rawValue ?? "-", short(job.message),
        ]
    }

    /// Name and level; one of them where they are the same.
    static func name(_ job: Job) -> String {
        job.level.isEmpty || job.level == job.name ? job.name : "\(job.name)/\(job.level)"
    }

    /// `0.4 s`, `12 s`, `3m05s`, `2h03m`, `1d02h`.
    static func span(_ seconds: Double) -> String {
        guard seconds >= 10 else { return "\((max(0, seconds) * 10).rounded(.down) / 10) s" }
        let whole = Int(min(seconds, 1e12))
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return switch whole {
        case ..<60: "\(whole) s"
        case ..<3_600: "\(whole / 60)m\(two(whole % 60))s"
        case ..<86_400: "\(whole / 3_600)h\(two(whole / 60 % 60))m"
        default: "\(whole / 86_400)d\(two(whole / 3_600 % 24))h"
        }
    }

    private static func short(_ message: String) -> String {
        message.count > 100 ? message.prefix(99) + "…" : message
    }

    /// What a job does just now: `attempt 1, rsnapshot, 40 %`.
    static func doing(_ job: Job) -> String {
        ([job.attempt > 0 ? "attempt \(job.attempt)" : nil, job.step, job.progress.map { "\($0) %" }])
            .compactMap(\.self).joined(separator: ", ")
    }

    // MARK: Everything of a job

    static func lines(_ job: Job) -> [String] {
        var lines = [
            field("job", "\(job.id)  \(job.type) \(name(job))  (\(job.uniqueName))"),
            field("client", job.client),
            field("subject", "\(job.subject)"),
            field("priority", String(job.priority)),
            field(
                "status",
                "\(job.status.letter)  \(job.meaning)" + (job.isCanceled ? ", is being canceled" : "")),
        ]
        if job.isOpen, !doing(job).isEmpty { lines.append(field("now", doing(job))) }
        lines.append(field("created", job.created.local))
        if let started = job.started { lines.append(field("started", started.local)) }
        if let ended = job.ended { lines.append(field("ended", ended.local)) }
        if let seconds = job.seconds { lines.append(field("took", span(seconds))) }
        if let reported = job.reported { lines.append(field("reported", reported.rawValue)) }
        if let result = job.result { lines.append(field("result", result.rawValue)) }
        if !job.message.isEmpty { lines.append(field("message", job.message)) }
        if !job.attempts.isEmpty { lines.append("attempts") }
        lines += job.attempts.map(attempt)
        if !job.steps.isEmpty { lines.append("steps") }
        lines += job.steps.flatMap { step($0) }
        if !job.statuses.isEmpty { lines.append("status over time") }
        lines += job.statuses.map(status)
        if !job.report.isEmpty { lines.append("report") }
        lines += job.report.map(report)
        if job.droppedLines > 0 { lines.append("  … \(job.droppedLines) more lines found no place …") }
        if let output = job.output {
            lines.append("output so far")
            lines += self.output(output).map { "  | " + $0 }
        }
        return lines
    }

    private static func field(_ title: String, _ value: String) -> String {
        title + String(repeating: " ", count: max(1, 11 - title.count)) + OneLine.escaping(value)
    }

    static func attempt(_ attempt: Job.Attempt) -> String {
        var parts = ["\(attempt.number)  \(attempt.began.local)"]
        if let result = attempt.result {
            parts.append(
                "pre \((attempt.pre ?? .notAvailable).rawValue)  job \(result.rawValue)  post \((attempt.post ?? .notAvailable).rawValue)"
            )
        } else {
            parts.append(attempt.fate.rawValue)
        }
        if !attempt.message.isEmpty { parts.append(attempt.message) }
        return "  " + OneLine.escaping(parts.joined(separator: "  "))
    }

    static func status(_ status: Job.StatusChange) -> String {
        "  \(status.time.local)  \(status.letter.letter)  \(status.letter.title)"
    }

    static func report(_ line: ReportLine) -> String {
        "  " + OneLine.escaping("\(line.time.local)  \(line.source.rawValue): \(line.text)")
    }

    /// - Parameter withOutput: without it only what the step was and came to.
    static func step(_ step: Job.Step, withOutput: Bool = true) -> [String] {
        var head =
            "  \(step.attempt)  \(step.began.local)  \(step.name)  \(step.result.rawValue)  \(span(step.seconds))"
        guard let script = step.script else { return [OneLine.escaping(head)] }
        if let termination = script.termination { head += "  \(termination)" }
        if let endedBy = script.endedBy { head += ", ended by its \(endedBy)" }
        var facts: [(String, String)] = []
        if let path = script.path {
            facts.append(("script", path + (script.resolvedPath.map { $0 == path ? "" : "  (\($0))" } ?? "")))
        }
        if let sha256 = script.sha256 { facts.append(("sha256", sha256)) }
        if let inode = script.inode {
            facts.append(
                (
                    "file",
                    "inode \(inode) on device \(script.device ?? 0), owner \(script.owner ?? 0), mode \(script.mode ?? "?"), \(script.size ?? 0) bytes, changed \(script.modified?.local ?? "?")"
                ))
        }
        facts.append(("command", script.arguments.map { String(reflecting: $0) }.joined(separator: " ")))
        if let refusal = script.refusal { facts.append(("not run", refusal)) }
        if !script.survivors.isEmpty { facts.append(("left", script.survivors.joined(separator: ", "))) }
        var lines = [OneLine.escaping(head)]
        lines += facts.map { "     \($0)" + String(repeating: " ", count: 9 - $0.count) + OneLine.escaping($1) }
        if withOutput, let output = script.output { lines += self.output(output).map { "     | " + $0 } }
        return lines
    }

    /// Head, how much was left out, and tail, as lines.
    static func output(_ output: CapturedOutput) -> [String] {
        let (before, dropped, after) = output.since(0)
        guard dropped > 0 else { return text(before + after) }
        return text(before) + [leftOut(dropped)] + text(after)
    }

    static func leftOut(_ count: Int) -> String { "… \(count) bytes left out …" }

    static func text(_ bytes: [UInt8]) -> [String] {
        var lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        if lines.last?.isEmpty ?? false { lines.removeLast() }
        return lines.map { OneLine.escaping(String($0)) }
    }
}
