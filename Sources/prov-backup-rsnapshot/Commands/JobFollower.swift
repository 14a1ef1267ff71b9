import JobCore

/// What is new of a job since it was looked at last, as lines.
///
/// Output is told as it comes, in whole lines; the rest of a line when its program has ended.
struct JobFollower {
    private var attempts = 0
    private var ended = 0
    private var steps = 0
    private var statuses = 0
    private var report = 0
    private var progress: Int?
    /// Bytes of the output of the program that runs, or of the last one, that have been told.
    private var told = 0

    /// - Parameter known: what has been told already, whole.
    init(known: Job? = nil) {
        if let known {
            _ = news(known)
            told = known.output?.count ?? 0
        }
    }

    mutating func news(_ job: Job) -> [String] {
        var lines: [String] = []
        for attempt in job.attempts.dropFirst(attempts) where attempt.ended == nil {
            lines.append("attempt" + JobText.attempt(attempt))
        }
        attempts = max(attempts, job.attempts.count)
        lines += job.statuses.dropFirst(statuses).map { "status" + JobText.status($0) }
        statuses = max(statuses, job.statuses.count)
        for step in job.steps.dropFirst(steps) {
            if let output = step.script?.output {
                lines += self.output(output, isWhole: true)
                told = 0
            }
            lines += JobText.step(step, withOutput: false).enumerated().map { $0 == 0 ? "step" + $1 : $1 }
        }
        steps = max(steps, job.steps.count)
        if let output = job.output { lines += self.output(output, isWhole: false) }
        lines += job.report.dropFirst(report).map { "report" + JobText.report($0) }
        report = max(report, job.report.count)
        if let percent = job.progress, percent != progress { lines.append("progress  \(percent) %") }
        progress = job.progress
        let finished = job.attempts.filter { $0.ended != nil }
        lines += finished.dropFirst(ended).map { "attempt" + JobText.attempt($0) }
        ended = max(ended, finished.count)
        return lines
    }

    /// - Parameter isWhole: whether nothing more will come.
    private mutating func output(_ output: CapturedOutput, isWhole: Bool) -> [String] {
        guard output.count > told else { return [] }
        var (before, dropped, after) = output.since(told)
        told = output.count
        if !isWhole {
            // The beginning of a line waits for its end, unless there is much of it.
            let last = after.isEmpty ? before : after
            let rest =
                last.count - (last.lastIndex(of: 10).map { last.distance(from: last.startIndex, to: $0) + 1 } ?? 0)
            if rest <= 4_096 {
                if after.isEmpty { before.removeLast(rest) } else { after.removeLast(rest) }
                told -= rest
            }
        }
        var lines = JobText.text(before)
        if dropped > 0 { lines.append(JobText.leftOut(dropped)) }
        lines += JobText.text(after)
        return lines.map { "| " + $0 }
    }
}
