/// A message for the operator. The core has no log of its own: its user decides where notices go.
public struct CoreNotice: Hashable, Sendable {
    /// The severity.
    public enum Level: Hashable, Sendable { case debug, info, warning, error }

    /// The severity.
    public var level: Level
    /// One line.
    public var text: String
    /// The job that it is about, if any.
    public var job: JobID?

    /// A notice.
    public init(_ level: Level, _ text: String, job: JobID? = nil) {
        self.level = level
        self.text = text
        self.job = job
    }
}

/// Called with each notice. It must neither block nor fail.
public typealias NoticeHandler = @Sendable (CoreNotice) -> Void

/// The end of a job with failed pre or post scripts, of which an administrator is told.
public struct JobAlert: Hashable, Sendable {
    /// The job.
    public var job: Job
    /// How it ended.
    public var outcome: JobOutcome
    /// Its pre and post scripts that failed in the last attempt; one alert for all of them (specification: rows.md D8).
    public var scriptFailures: [String]
}

/// Called with each alert, to send a mail for example. It must neither block nor fail.
public typealias AlertHandler = @Sendable (JobAlert) -> Void

/// The end of a job: for the log, for mail, and to count failures.
public struct JobEnd: Hashable, Sendable {
    /// The job, with the level and priority that its handlers gave it last.
    public var job: Job
    /// The outcome. The message of a success without work begins with ``nothingToDo``.
    public var outcome: JobOutcome
    /// When.
    public var time: Timestamp
    /// Since its first attempt in this process began; without one, since it was submitted.
    public var duration: Duration
    /// Whether an operator asked for it.
    public var isCanceled: Bool

    /// The beginning of the message of a success without work.
    public static let nothingToDo = "nothing to do: "
}

/// Called once for every job that ends. It must neither block nor fail.
public typealias JobEndHandler = @Sendable (JobEnd) -> Void
