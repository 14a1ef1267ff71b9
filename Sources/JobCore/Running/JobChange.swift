/// Something that happened to a job, as the history keeps it and followers see it.
public struct JobChange: Hashable, Sendable {
    /// What happened.
    public enum Event: Hashable, Sendable {
        /// It was asked for.
        case opened(Job)
        /// A handler or an operator gave it another level or priority.
        case altered(Job)
        /// It stands elsewhere now.
        case status(JobStatus)
        /// A try of it began; 1 for the first.
        case attemptBegan(number: Int)
        /// A part of the attempt that runs came to its end.
        case stepEnded(JobStep)
        /// Percent, 0…100.
        case progress(Int)
        /// Its report has another line.
        case reported(ReportLine)
        /// A try of it came to its end: the work, and the scripts around it.
        case attemptEnded(number: Int, pre: ScriptStatus, body: JobOutcome, post: ScriptStatus)
        /// The daemon's stop cut the attempt off; the job goes on in a later one.
        case attemptCutOff(number: Int)
        /// It came to its end, once and for ever.
        case closed(JobOutcome)
    }

    /// The job it happened to.
    public var job: JobID
    /// When.
    public var time: WallTime
    /// What.
    public var event: Event

    /// A change.
    public init(_ event: Event, of job: JobID, at time: WallTime) {
        self.job = job
        self.time = time
        self.event = event
    }
}

/// Where changes go: the history. It must neither block nor fail.
public protocol JobRecorder: Sendable {
    /// Takes note of a change.
    func record(_ change: JobChange)
    /// Returns once what was noted before outlasts the end of this process, or cannot be recorded now.
    func recorded() async
}

/// For jobs that no history is kept of.
public struct NoHistory: JobRecorder {
    /// Forgets everything.
    public init() {}

    /// Does nothing.
    public func record(_ change: JobChange) {}

    /// Returns at once.
    public func recorded() async {}
}

/// A line of a job's report.
public struct ReportLine: Hashable, Sendable {
    /// Who says it.
    public enum Source: String, Hashable, Sendable { case daemon, script, handler, reporter }

    /// Who says it.
    public var source: Source
    /// Without a line feed and without control characters.
    public var text: String

    /// A line.
    public init(_ source: Source, _ text: String) {
        self.source = source
        self.text = text
    }
}

/// A step of an attempt that has ended: the pre script, a program of the body, the post script, or work without a program.
public struct JobStep: Hashable, Sendable {
    /// A short noun, such as `pre script` or `rsnapshot`.
    public var name: String
    /// The attempt that it belongs to.
    public var attempt: Int
    /// When it began.
    public var began: WallTime
    /// How long it took.
    public var duration: Duration
    /// What it came to.
    public var result: JobResult
    /// The program that was run; nil for work without one.
    public var script: ScriptRun?

    /// A step.
    public init(
        name: String, attempt: Int, began: WallTime, duration: Duration, result: JobResult, script: ScriptRun? = nil
    ) {
        self.name = name
        self.attempt = attempt
        self.began = began
        self.duration = duration
        self.result = result
        self.script = script
    }
}

/// A program that was run: what it was, and what came of it.
public struct ScriptRun: Hashable, Sendable {
    /// The file as it was just before the start; nil when it could not be looked at.
    public var identity: ScriptIdentity?
    /// Its argument vector, argument 0 first.
    public var arguments: [String]
    /// How it ended; nil when it could not be started.
    public var ended: ScriptResult?
    /// Why it could not be started.
    public var refusal: String?

    /// A run.
    public init(
        identity: ScriptIdentity?, arguments: [String], ended: ScriptResult? = nil, refusal: String? = nil
    ) {
        self.identity = identity
        self.arguments = arguments
        self.ended = ended
        self.refusal = refusal
    }
}
