/// A job that somebody asks a ``JobRunner`` for.
public struct JobRequest: Sendable {
    /// What a job is about: it is given the attempt, and its outcome is the job's.
    ///
    /// It must be idempotent as far as its type asks for another try. It throws `CancellationError` when its task is cancelled.
    public typealias Work = @MainActor (RunningAttempt) async throws -> JobOutcome

    /// What kind of work it is.
    public var type: JobType
    /// What the work is called.
    public var name: String
    /// Which variant; empty where there is only one.
    public var level: String
    /// What it works on.
    public var subject: JobSubject
    /// For whom, for people.
    public var client: String
    /// 1 is more urgent than 10.
    public var priority: Int
    /// The earliest time; `.distantPast`: at once.
    public var due: Timestamp
    /// How often and after which waits it is tried again when its failure is retryable.
    public var retry: RetryPolicy
    /// What becomes of it when an attempt is interrupted.
    public var interruption: InterruptionPolicy
    /// What it is about.
    public var work: Work

    /// A request.
    public init(
        type: JobType, name: String, level: String = "", subject: JobSubject, client: String,
        priority: Int = Job.usualPriority, due: Timestamp = .distantPast, retry: RetryPolicy,
        interruption: InterruptionPolicy = .repeats, work: @escaping Work
    ) {
        self.type = type
        self.name = name
        self.level = level
        self.subject = subject
        self.client = client
        self.priority = priority
        self.due = due
        self.retry = retry
        self.interruption = interruption
        self.work = work
    }
}

/// What becomes of a job when an attempt is interrupted: by a stop or a crash of the daemon, or by work that goes before it.
public enum InterruptionPolicy: Hashable, Sendable {
    /// Another attempt after a wait that grows with each interruption. It does not count among those that failed.
    case repeats
    /// It has failed.
    case fails
}

/// What holds for all jobs of a type.
public struct JobPolicy: Hashable, Sendable {
    /// Pre and post scripts; nil: off (specification: rows.md D1).
    public var hooks: HookSettings?
    /// When a job may begin; nil: at any time.
    public var window: TimeWindow?
    /// Whether a failed pre or post script raises an alert at the job's end (specification: rows.md D8).
    public var alerts: Bool
    /// Whether sleep and shutdown of the machine are held off while it runs (specification: rows.md L3).
    public var inhibitsSleep: Bool

    /// Levels in the order in which they begin when several wait for the same subject; others begin after them.
    public var levels: [String]

    /// No scripts, at any time.
    public init(
        hooks: HookSettings? = nil, window: TimeWindow? = nil, alerts: Bool = true, inhibitsSleep: Bool = false,
        levels: [String] = []
    ) {
        self.hooks = hooks
        self.window = window
        self.alerts = alerts
        self.inhibitsSleep = inhibitsSleep
        self.levels = levels
    }
}
