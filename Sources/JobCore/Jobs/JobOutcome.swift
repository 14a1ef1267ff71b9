/// How an attempt or a whole job ended: what it is worth, whether another try may help, and why.
public struct JobOutcome: Error, Hashable, Sendable {
    /// What it is worth.
    public var result: JobResult
    /// What another try can be expected to bring; nil after a success.
    public var failureClass: FailureClass?
    /// What was wrong and what mends it, in one line; empty after a plain success.
    public var message: String
    /// The raw exit code or signal of the program that decided it.
    public var termination: ScriptResult.Termination?

    /// An outcome; a success has no class.
    public init(
        _ result: JobResult, failureClass: FailureClass? = nil, message: String = "",
        termination: ScriptResult.Termination? = nil
    ) {
        self.result = result
        self.failureClass = result.isSuccess ? nil : failureClass ?? .permanent
        self.message = message
        self.termination = termination
    }

    /// What a program's end means for the job that ran it.
    public init(_ reading: ExitReading, message: String = "") {
        self.init(
            reading.result, failureClass: reading.failureClass, message: message, termination: reading.termination)
    }

    /// All is well and nothing is to be said.
    public static let success = JobOutcome(.success)

    /// Ended because a person asked for it.
    public static let canceled = JobOutcome(.aborted, message: "canceled by an operator")
}
