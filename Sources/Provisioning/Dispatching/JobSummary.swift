public import JobCore

/// A job that runs now.
public struct JobSummary: Hashable, Sendable {
    public var job: JobID
    public var key: AccountKey
    public var operation: Operation
    public var attempt: Int
    public var started: WallTime
    /// The step that runs; nil before the first.
    public var step: String?
}

/// An account that waits for its next attempt.
public struct RetrySummary: Hashable, Sendable {
    public var key: AccountKey
    public var record: AttemptRecord
}

/// What the engine does at this moment.
public struct EngineSnapshot: Sendable {
    public var running: [JobSummary] = []
    /// Subjects that wait, due or not.
    public var waiting = 0
    public var nextDue: WallTime?
    public var retrying: [RetrySummary] = []
    public var succeeded = 0
    public var failed = 0
    public var isDirectoryAvailable = true
}
