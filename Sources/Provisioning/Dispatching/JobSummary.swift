public import JobCore

/// A job that runs now.
public struct JobSummary: Hashable, Sendable {
    /// The number.
    public var job: JobID
    /// The account.
    public var key: AccountKey
    /// What the wish asks for.
    public var operation: Operation
    /// 1 for the first.
    public var attempt: Int
    /// When this attempt began.
    public var started: WallTime
    /// The step that runs; nil before the first.
    public var step: String?
}

/// An account that waits for its next attempt.
public struct RetrySummary: Hashable, Sendable {
    /// The account.
    public var key: AccountKey
    /// Its last attempt, and when the next is due.
    public var record: AttemptRecord
}
