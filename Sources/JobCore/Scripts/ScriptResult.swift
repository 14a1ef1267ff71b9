/// How a script ended and what it said.
public struct ScriptResult: Hashable, Sendable {
    /// What the kernel reported of the process itself.
    public enum Termination: Hashable, Sendable {
        /// It ended by itself; 0…255.
        case exited(code: Int32)
        /// A signal ended it.
        case signaled(number: Int32)
    }

    /// Who brought the end about.
    public enum Cause: Hashable, Sendable {
        /// The script itself, or somebody outside.
        case itself
        /// Its time limit.
        case timeLimit
        /// The task that ran it was cancelled.
        case cancellation
    }

    /// How its own process ended.
    public var termination: Termination
    /// Why it ended.
    public var cause: Cause
    /// Standard output and standard error, interleaved as they came.
    public var output: CapturedOutput
    /// What it wrote to its descriptors 3 and 4; empty where ``ScriptInvocation/hasReports`` is false.
    public var reports: [UInt8]
    /// From the request to the end of all that it started.
    public var duration: Duration
    /// Processes that the script had started, that outlived it and were ended, by name and number (specification: rows.md D13).
    public var survivors: [String]

    /// A result as it is told; the runner makes them.
    public init(
        termination: Termination, cause: Cause = .itself, output: CapturedOutput = CapturedOutput(),
        reports: [UInt8] = [], duration: Duration = .zero, survivors: [String] = []
    ) {
        self.termination = termination
        self.cause = cause
        self.output = output
        self.reports = reports
        self.duration = duration
        self.survivors = survivors
    }
}
