/// How a unit of work ended, whatever program did it (specification: jobs-and-scripts.md#statuses-and-results).
///
/// The numbers that programs use for these differ from program to program: see ``ExitProfile``.
public enum JobResult: String, CaseIterable, Hashable, Sendable, Codable {
    /// All is well.
    case success
    /// The work was not done, or not wholly.
    case failed
    /// Ended by a person or by the program itself before it was done.
    case aborted
    /// Done, with something to look at.
    case warnings
    /// It was not run when it should have been.
    case missed
    /// It cannot be done until a person changes something.
    case wrongConfiguration = "wrong configuration"
    /// The program says that it does not know.
    case undefined
    /// Nobody has said anything.
    case unknown

    /// Whether the work was done.
    public var isSuccess: Bool { self == .success || self == .warnings }
}
