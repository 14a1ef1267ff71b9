/// A job that is open, as it stands at this moment.
public struct LiveJob: Hashable, Sendable {
    /// The job.
    public var job: Job
    /// Its letter.
    public var status: JobStatus
    /// The attempt that runs or ran last; 0 before the first.
    public var attempt = 0
    /// When that attempt began.
    public var began: WallTime?
    /// The step that runs; nil between steps.
    public var step: String?
    /// Percent, where anybody said.
    public var progress: Int?
    /// The result that the script itself reported in this attempt.
    public var reported: JobResult?
    /// The lines of its report.
    public var report: [ReportLine] = []
    /// Lines that came after the report was full.
    public var droppedLines = 0
    /// Whether somebody has asked to cancel it.
    public var isCanceled = false
    /// Pre and post scripts that failed in its last attempt, for the alert at its end (row D8).
    public var scriptFailures: [String] = []
}
