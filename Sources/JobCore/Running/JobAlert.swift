/// What somebody has to be told when a job has come to its end.
public struct JobAlert: Hashable, Sendable {
    /// The job.
    public var job: Job
    /// How it ended.
    public var outcome: JobOutcome
    /// Its pre and post scripts that failed in the last attempt; one alert for all of them (specification: rows.md D8).
    public var scriptFailures: [String]
}

/// Where alerts go: a mail, for example. It must neither block nor fail.
public typealias AlertHandler = @Sendable (JobAlert) -> Void
