/// What the registry tells the state of jobs: the history. It must neither block nor fail, and may not ask the registry.
public protocol JobRecorder: Sendable {
    /// A job was opened, has changed or has come to its end.
    /// - Parameter job: its state now, without the long parts, which are recorded separately.
    func record(_ job: Job)
    /// A job's report has another line.
    func record(_ line: ReportLine, of job: JobID)
    /// A program has ended.
    /// - Parameter step: its place among the steps of the job.
    func record(_ output: CapturedOutput, ofStep step: Int, of job: JobID)
    /// Returns once the state of a job that was recorded before outlasts the end of this process, or cannot be recorded now.
    func recorded(_ id: JobID) async
}

/// For jobs that no history is kept of.
public struct NoHistory: JobRecorder {
    /// Forgets everything.
    public init() {}

    /// Does nothing.
    public func record(_ job: Job) {}
    /// Does nothing.
    public func record(_ line: ReportLine, of job: JobID) {}
    /// Does nothing.
    public func record(_ output: CapturedOutput, ofStep step: Int, of job: JobID) {}
    /// Returns at once.
    public func recorded(_ id: JobID) async {}
}
