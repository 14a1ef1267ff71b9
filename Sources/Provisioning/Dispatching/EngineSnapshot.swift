public import JobCore

/// What the engine does at this moment.
public struct EngineSnapshot: Sendable {
    /// In the order of their numbers.
    public var running: [JobSummary] = []
    /// Subjects that wait, due or not.
    public var waiting = 0
    /// When the next waiting subject is due; nil when none waits.
    public var nextDue: Timestamp?
    /// Those that wait after a failure, the next first.
    public var retrying: [RetrySummary] = []
    /// Accounts whose entries the LDAP server shows older than they were seen before; they are among ``troubled``.
    public var behind: [AccountKey] = []
    /// Accounts that something outside of them stands in the way of, such as the directory's access rules.
    public var troubled = 0
    /// What the machine lacks, for which accounts wait.
    public var shortages: [MachineShortage] = []
    /// Jobs that ended well since the engine started.
    public var succeeded = 0
    /// Jobs that ended with a failure on the entry, or without their entry, since the engine started.
    public var failed = 0
    /// How many deletes wait because of their number.
    public var deletes = HourlyLimit.Summary()
    /// Whether the directory answers.
    public var isDirectoryAvailable = true
    /// The server refuses the credentials: how it does, and when they are tried again.
    public var refusedCredentials: String?
}

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
    public var started: Timestamp
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
