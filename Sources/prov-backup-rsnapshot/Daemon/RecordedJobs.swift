import JobCore

/// Jobs as they were recorded: by the daemon that runs, or for a command that reads the file itself.
protocol RecordedJobs: Sendable {
    /// The newest first.
    func jobs(matching filter: JobFilter) async throws(HistoryError) -> [RecordedJob]
    /// nil when there is no such job.
    func job(_ id: JobID) async throws(HistoryError) -> RecordedCourse?
}

extension JobHistory: RecordedJobs {}
extension HistoryReader: RecordedJobs {}

extension JobFilter {
    init(_ query: JobQuery) {
        self.init(
            client: query.client, type: query.type.map(JobType.init),
            statuses: Set(query.statuses.compactMap(JobStatus.init)),
            since: query.since?.time, until: query.until.map { $0.time + .seconds(1) }, limit: query.limit)
    }
}

extension JobLine {
    /// - Parameter began: when its first attempt began, where that is known.
    init(_ job: RecordedJob, began: WallTime? = nil) {
        self.init(
            id: job.id.number, type: job.type.rawValue, level: job.level, name: job.name, client: job.client,
            status: job.status.letter, meaning: job.status.title, attempt: job.attempts, progress: job.progress,
            created: Moment(job.created), started: (began ?? job.began).map(Moment.init),
            ended: job.ended.map(Moment.init),
            seconds: job.ended.map { ($0 - (began ?? job.began ?? job.created)).seconds },
            result: job.ending?.result.rawValue, message: job.ending?.message ?? "", isOpen: job.ended == nil)
    }
}

extension JobDetails {
    init(_ course: RecordedCourse) {
        let job = course.job
        self.init(
            job: JobLine(job, began: course.attempts.first?.began), uniqueName: "\(job.name).\(job.id)",
            subject: job.subject, priority: job.priority, attempts: course.attempts.map(Attempt.init),
            steps: course.attempts.flatMap { attempt in attempt.steps.map { Step($0, attempt: attempt.number) } },
            statuses: course.statuses.map { Status(time: Moment($0.time), letter: $0.status.letter) },
            report: course.report.map { Line(time: Moment($0.time), source: $0.source.rawValue, text: $0.text) })
    }
}

extension JobDetails.Attempt {
    init(_ attempt: RecordedAttempt) {
        self.init(
            number: attempt.number, began: Moment(attempt.began), ended: attempt.ended.map(Moment.init),
            fate: attempt.fate.rawValue, pre: attempt.pre?.rawValue, result: attempt.ending?.result.rawValue,
            message: attempt.ending?.message ?? "", post: attempt.post?.rawValue)
    }
}

extension JobDetails.Step {
    init(_ step: RecordedStep, attempt: Int) {
        self.init(
            name: step.name, attempt: attempt, began: Moment(step.began), seconds: Double(step.microseconds) / 1e6,
            result: step.result.rawValue, script: step.program.map(JobDetails.Script.init))
    }
}

extension JobDetails.Script {
    init(_ program: RecordedProgram) {
        let file = program.file
        let end = program.end
        self.init(
            path: file?.path, resolvedPath: file?.resolvedPath, sha256: file?.sha256, device: file?.device,
            inode: file?.inode, owner: file?.owner, mode: file.map { String($0.mode, radix: 8) }, size: file?.size,
            modified: file.map { Moment($0.modified) }, arguments: program.arguments,
            termination: end.flatMap { end in
                end.exitCode.map { "exit code \($0)" } ?? end.signal.map { "signal \($0)" }
            },
            endedBy: end.flatMap { $0.cause == .itself ? nil : $0.cause == .timeLimit ? "time limit" : "cancellation" },
            refusal: program.refusal, seconds: end.map { Double($0.microseconds) / 1e6 },
            survivors: end?.survivors ?? [], output: end.map { JobOutput($0.output) })
    }
}
