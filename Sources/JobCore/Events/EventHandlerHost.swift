/// Why a handler's command started no job.
public struct RefusedCommand: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong, and what to write instead.
    public let description: String

    /// - Parameter description: what is wrong, and what to write instead.
    public init(_ description: String) { self.description = description }
}

/// What the daemon does for its event handlers (specification: rows.md B5).
///
/// - Important: While one of these runs, a handler waits and its time limit runs. None may wait for an event of a job, as events wait for the handler.
@MainActor public protocol EventHandlerHost: Sendable {
    /// Starts a job.
    /// - Parameter command: `run job=NAME yes` or `backup LEVEL [UID…]`, as a handler wrote it.
    /// - Returns: the new job's number, or why there is none, which goes to the report.
    func run(_ command: String) async -> Result<JobID, RefusedCommand>

    /// Cancels a job.
    /// - Returns: whether there was such a job.
    func cancel(_ id: JobID) async -> Bool

    /// Whether there is a volume of this name.
    func volumeExists(_ name: String) async -> Bool

    /// A line for the report of a job, without its line feed. It must neither block nor fail.
    func write(_ line: String, to job: JobID)
}
