/// A job as the history has it.
public struct RecordedJob: Hashable, Sendable, Codable {
    /// Its number.
    public var id: JobID
    /// What kind of work it is.
    public var type: JobType
    /// What the work is called.
    public var name: String
    /// Which variant of the work; empty where there is only one.
    public var level: String
    /// What it works on.
    public var subject: String
    /// For whom it is done.
    public var client: String
    /// 1 is more urgent than 10.
    public var priority: Int
    /// When it was asked for.
    public var created: WallTime
    /// The letter that it has, or had last.
    public var status: JobStatus
    /// Percent, where anybody said.
    public var progress: Int?
    /// How many attempts there were.
    public var attempts: Int
    /// How many of them were interrupted: by a stop of the daemon, by its end, or by work that goes before.
    public var interruptions: Int
    /// When the first of them began; nil before.
    public var began: WallTime?
    /// When it came to its end; nil while it is open.
    public var ended: WallTime?
    /// What it came to; nil while it is open.
    public var ending: RecordedEnding?
}

/// How a job or an attempt ended.
public struct RecordedEnding: Hashable, Sendable, Codable {
    /// What it was worth.
    public var result: JobResult
    /// What another try could be expected to bring; nil after a success.
    public var failureClass: FailureClass?
    /// What was wrong and what mends it; empty after a plain success.
    public var message: String
    /// The exit code of the program that decided it.
    public var exitCode: Int32?
    /// The signal that ended the program that decided it.
    public var signal: Int32?
}

/// All that the history has of one job.
public struct RecordedCourse: Hashable, Sendable, Codable {
    /// The job.
    public var job: RecordedJob
    /// In the order in which they began.
    public var attempts: [RecordedAttempt]
    /// Its letters over time; that it was created is not told again.
    public var statuses: [RecordedStatus]
    /// Its report.
    public var report: [RecordedLine]
}

/// One try of a job.
public struct RecordedAttempt: Hashable, Sendable, Codable {
    /// What became of it.
    public enum Fate: String, Hashable, Sendable, Codable {
        /// It runs, or its end is not written yet.
        case running
        /// It came to its end.
        case ended
        /// A stop of the daemon, or work that goes before, ended it before its time.
        case cutOff = "cut off"
        /// The daemon went away in the middle of it: by a crash, a kill, or a loss of power.
        case lost
    }

    /// 1 for the first.
    public var number: Int
    /// When it began.
    public var began: WallTime
    /// When it ended, where that is known.
    public var ended: WallTime?
    /// What became of it.
    public var fate: Fate
    /// What became of its pre script; nil unless it ended.
    public var pre: ScriptStatus?
    /// What became of its post script; nil unless it ended.
    public var post: ScriptStatus?
    /// What its work came to; nil unless it ended.
    public var ending: RecordedEnding?
    /// In the order in which they ended.
    public var steps: [RecordedStep]
}

/// A letter, and since when.
public struct RecordedStatus: Hashable, Sendable, Codable {
    /// Since when.
    public var time: WallTime
    /// The letter.
    public var status: JobStatus
}

/// A line of a report, and when it was written.
public struct RecordedLine: Hashable, Sendable, Codable {
    /// When.
    public var time: WallTime
    /// By whom.
    public var source: ReportLine.Source
    /// Without a line feed and without control characters.
    public var text: String
}
