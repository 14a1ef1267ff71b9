/// The end of a job, however it came about: for the log, for mail, and for what counts failures.
public struct JobEnd: Hashable, Sendable {
    /// The job, with the level and priority that its handlers gave it last.
    public var job: Job
    /// What it came to. One that ended well and had nothing to do says so in its message, which begins with ``nothingToDo``.
    public var outcome: JobOutcome
    /// When.
    public var time: Timestamp
    /// Since its first attempt in this process began; since it was asked for where none did.
    public var duration: Duration
    /// Whether an operator asked for it.
    public var isCanceled: Bool

    /// With what the message of a success begins that changed nothing because there was nothing to do.
    public static let nothingToDo = "nothing to do: "
}

/// Is told of every job that ends, once. It must neither block nor fail.
public typealias JobEndHandler = @Sendable (JobEnd) -> Void
