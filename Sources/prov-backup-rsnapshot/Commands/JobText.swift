import Daemon
import JobCore

/// Jobs as text for people.
enum JobText {
    static let headings = [
        "ID", "TYPE", "JOB", "CLIENT", "S", "STATUS", "TRY", "DONE", "STARTED", "TOOK", "RESULT", "MESSAGE",
    ]

    /// The cells of a row in a list.
    static func row(_ job: Job) -> [String] {
        [
            "\(job.id)", "\(job.type)", name(job), job.client, job.status.letter, job.meaning,
            String(job.attempt),
            job.progress.map { "\($0) %" } ?? "-", (job.started ?? job.created).local,
            job.seconds.map(span) ?? "-", job.result?.rawValue ?? "-", short(job.message),
        ]
    }

    /// Name and level, or only the name if they are the same.
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

    /// The progress of a job: `attempt 1, rsnapshot, 40 %`.
    static func doing(_ job: Job) -> String {
        ([job.attempt > 0 ? "attempt \(job.attempt)" : nil, job.step, job.progress.map { "\($0) %" }])
            .compactMap(\.self).joined(separator: ", ")
    }

    /// `job 7 server_backup: failed after 12 s: why`
    static func end(of job: Job) -> String {
        "job \(job.id) \(name(job)) \(job.client): \(job.result?.rawValue ?? job.meaning)"
            + (job.seconds.map { " after \(span($0))" } ?? "") + (job.message.isEmpty ? "" : ": \(job.message)")
    }

    // MARK: Details

    static func lines(_ job: Job) -> [String] {
        let now = job.isOpen ? doing(job) : ""
        var lines = fieldLines(
            [
                ("job", "\(job.id)  \(job.type) \(name(job))  (\(job.uniqueName))"), ("client", job.client),
                ("subject", "\(job.subject)"), ("priority", String(job.priority)),
                ("status", "\(job.status.letter)  \(job.meaning)" + (job.isCanceled ? ", is being canceled" : "")),
                ("now", now.isEmpty ? nil : now), ("created", job.created.local), ("started", job.started?.local),
                ("ended", job.ended?.local), ("took", job.seconds.map(span)), ("reported", job.reported?.rawValue),
                ("result", job.result?.rawValue), ("message", job.message.isEmpty ? nil : job.message),
            ], width: 11)
        if !job.attempts.isEmpty { lines.append("attempts") }
        lines += job.attempts.map(attempt)
        if !job.steps.isEmpty { lines.append("steps") }
        lines += job.steps.flatMap { step($0) }
        if !job.statuses.isEmpty { lines.append("status over time") }
        lines += job.statuses.map(status)
        if !job.report.isEmpty { lines.append("report") }
        lines += job.report.map(report)
        if job.droppedLines > 0 { lines.append("  … \(job.droppedLines) more lines were dropped …") }
        if let output = job.output {
            lines.append("output so far")
            lines += self.output(output).map { "  | " + $0 }
        }
        return lines
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

    /// - Parameter withOutput: whether the output of the step is included.
    static func step(_ step: Job.Step, withOutput: Bool = true) -> [String] {
        var head =
            "  \(step.attempt)  \(step.began.local)  \(step.name)  \(step.result.rawValue)  \(span(step.seconds))"
        guard let script = step.script else { return [OneLine.escaping(head)] }
        if let termination = script.termination { head += "  \(termination)" }
        if let endedBy = script.endedBy { head += ", ended by its \(endedBy)" }
        let file = script.inode.map {
            """
            inode \($0) on device \(script.device ?? 0), owner \(script.owner ?? 0), mode \(script.mode ?? "?"), \
            \(script.size ?? 0) bytes, changed \(script.modified?.local ?? "?")
            """
        }
        let target = script.resolvedPath.map { $0 == script.path ? "" : "  (\($0))" } ?? ""
        let facts = fieldLines(
            [
                ("script", script.path.map { $0 + target }), ("sha256", script.sha256), ("file", file),
                ("command", script.arguments.map { String(reflecting: $0) }.joined(separator: " ")),
                ("not run", script.refusal),
                ("left", script.survivors.isEmpty ? nil : script.survivors.joined(separator: ", ")),
            ], width: 9)
        var lines = [OneLine.escaping(head)] + facts.map { "     " + $0 }
        if withOutput, let output = script.output { lines += self.output(output).map { "     | " + $0 } }
        return lines
    }

    /// Head, number of omitted bytes, and tail, as lines.
    static func output(_ output: CapturedOutput) -> [String] {
        let (before, dropped, after) = output.since(0)
        guard dropped > 0 else { return text(before + after) }
        return text(before) + [omitted(dropped)] + text(after)
    }

    static func omitted(_ count: Int) -> String { "… \(count) bytes omitted …" }

    static func text(_ bytes: [UInt8]) -> [String] {
        var lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        if lines.last?.isEmpty ?? false { lines.removeLast() }
        return lines.map { OneLine.escaping(String($0)) }
    }
}

/// Prints the changes of a job. Output is printed in whole lines; an incomplete line is printed when its program has ended.
struct JobFollower {
    /// The state that was already printed.
    private var known: Job?
    /// Bytes that were printed of the output of the current or last program.
    private var printed: Int

    init(known: Job? = nil) {
        self.known = known
        printed = known?.output?.count ?? 0
    }

    mutating func lines(_ job: Job) -> [String] {
        let known = known
        func new<Element>(_ list: KeyPath<Job, [Element]>) -> ArraySlice<Element> {
            job[keyPath: list].dropFirst(known?[keyPath: list].count ?? 0)
        }
        var lines = new(\.attempts).filter { $0.ended == nil }.map { "attempt" + JobText.attempt($0) }
        lines += new(\.statuses).map { "status" + JobText.status($0) }
        for step in new(\.steps) {
            if let output = step.script?.output {
                lines += self.output(output, isComplete: true)
                printed = 0
            }
            lines += JobText.step(step, withOutput: false).enumerated().map { $0 == 0 ? "step" + $1 : $1 }
        }
        if let output = job.output { lines += self.output(output, isComplete: false) }
        lines += new(\.report).map { "report" + JobText.report($0) }
        if let percent = job.progress, percent != known?.progress { lines.append("progress  \(percent) %") }
        let ended = known?.attempts.count { $0.ended != nil } ?? 0
        lines += job.attempts.filter { $0.ended != nil }.dropFirst(ended).map { "attempt" + JobText.attempt($0) }
        self.known = job
        return lines
    }

    /// - Parameter isComplete: whether the program has ended.
    private mutating func output(_ output: CapturedOutput, isComplete: Bool) -> [String] {
        guard output.count > printed else { return [] }
        var (before, dropped, after) = output.since(printed)
        printed = output.count
        if !isComplete {
            // An incomplete line waits for its end, unless it is long.
            let last = after.isEmpty ? before : after
            let rest =
                last.count - (last.lastIndex(of: 10).map { last.distance(from: last.startIndex, to: $0) + 1 } ?? 0)
            if rest <= 4_096 {
                if after.isEmpty { before.removeLast(rest) } else { after.removeLast(rest) }
                printed -= rest
            }
        }
        var lines = JobText.text(before)
        if dropped > 0 { lines.append(JobText.omitted(dropped)) }
        lines += JobText.text(after)
        return lines.map { "| " + $0 }
    }
}
