import EventLoop
public import SystemPackage

/// A job to be submitted to a ``JobRunner``.
public struct JobRequest: Sendable {
    /// The work of a job, done in an attempt. It returns the outcome.
    ///
    /// It must be idempotent if it may be repeated. It throws `CancellationError` when its task is cancelled.
    /// One that it throws of its own accord counts as an interruption: the attempt is not counted, and is repeated without end.
    public typealias Work = @MainActor (RunningAttempt) async throws -> JobOutcome

    /// The type.
    public var type: JobType
    /// The name of the work.
    public var name: String
    /// The variant; empty if there is only one.
    public var level: String
    /// The subject that it works on, which is its exclusion key.
    public var subject: JobSubject
    /// The client, for display.
    public var client: String
    /// 1 is more urgent than 10.
    public var priority: Int
    /// The earliest time; `.distantPast`: at once.
    public var due: Timestamp
    /// The number of attempts and the delays between them, for retryable failures. Asked after each attempt.
    public var retry: @MainActor () -> RetryPolicy
    /// What follows an interrupted attempt.
    public var interruption: InterruptionPolicy
    /// The work.
    public var work: Work

    /// A request.
    public init(
        type: JobType, name: String, level: String = "", subject: JobSubject, client: String,
        priority: Int = Job.usualPriority, due: Timestamp = .distantPast,
        retry: @autoclosure @escaping @MainActor () -> RetryPolicy,
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

/// What follows an interrupted attempt: after a stop or a crash of the daemon, or for work that has precedence.
public enum InterruptionPolicy: Hashable, Sendable {
    /// Another attempt after a delay that grows with each interruption as the job's ``RetryPolicy`` says, and is a second at least. Interrupted
    /// attempts do not count as failed.
    case repeats
    /// The job fails.
    case fails
}

/// The rules for all jobs of a type: a section `[Hooks TYPE]`.
public struct JobPolicy: Hashable, Sendable {
    /// Whether pre and post scripts run (specification: rows.md D1).
    package var hasHooks = false
    /// The only directory in which `pre_script.sh` and `post_script.sh` are searched (specification: rows.md D2). Must be set if they run.
    package var directory: FilePath?
    /// Whether the job is left out if its pre script fails or is missing.
    public var skipsJob = false
    /// The time limit of each of the two scripts.
    public var timeLimit = longestTime
    /// Their grace period after SIGTERM.
    public var grace = Duration.seconds(10)
    /// When a job may begin; nil: at any time.
    public var window: TimeWindow?
    /// Whether a failed pre or post script raises an alert at the job's end (specification: rows.md D8).
    public var alerts = true
    /// Whether the machine is kept from sleep and shutdown while it runs (specification: rows.md L3).
    public var inhibitsSleep = false
    /// Levels in the order in which they begin when several wait for the same subject; others begin after them.
    public var levels: [String] = []

    /// The default time limit.
    public static let longestTime = Duration.seconds(365 * 86_400)

    /// No scripts, at any time.
    public init() {}

    /// - Parameter directory: of the scripts; nil: none run.
    public init(
        hooks directory: FilePath? = nil, skipsJob: Bool = false, timeLimit: Duration = longestTime,
        grace: Duration = .seconds(10), window: TimeWindow? = nil, alerts: Bool = true
    ) {
        (hasHooks, self.directory, self.skipsJob) = (directory != nil, directory, skipsJob)
        (self.timeLimit, self.grace, self.window, self.alerts) = (timeLimit, grace, window, alerts)
    }

    /// `pre_script.sh JOB_ID` before a job and `post_script.sh JOB_ID PRE_STATUS JOB_STATUS` after it (specification: rows.md D3); nil: neither.
    public var hooks: (pre: FilePath, post: FilePath)? {
        guard hasHooks, let directory else { return nil }
        return (directory.appending("pre_script.sh"), directory.appending("post_script.sh"))
    }
}

/// A job that was submitted to a runner. It keeps the outcome of a job that has ended.
@MainActor public final class SubmittedJob {
    /// Its number.
    public nonisolated let id: JobID
    private var isOver = false
    private var ended: JobOutcome?
    private let waiters = Waiters<JobOutcome>()

    init(_ id: JobID) { self.id = id }

    /// The outcome of the job, after its last attempt.
    /// - Returns: nil when the daemon stops first, and the job continues at the next start; or when the calling task is cancelled.
    public func outcome() async -> JobOutcome? { isOver ? ended : await waiters.wait() }

    /// - Parameter outcome: nil: the runner stops.
    func end(_ outcome: JobOutcome?) {
        guard !isOver else { return }
        (isOver, ended) = (true, outcome)
        waiters.resume(outcome)
    }
}
