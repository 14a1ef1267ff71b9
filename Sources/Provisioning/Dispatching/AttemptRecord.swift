public import JobCore

/// What is remembered of a claim between two attempts. It is lost with the process, and nothing is lost by that: a claim
/// without an outcome is resumed at once by the next start.
public struct AttemptRecord: Hashable, Sendable {
    /// The job that the attempts belong to.
    public var job: JobID
    /// The attempt that has ended.
    public var attempt: Int
    /// How often and since when it has failed.
    public var failures: FailedAttempts
    /// When the next attempt may begin.
    public var notBefore: WallTime
    /// Why the last attempt failed.
    public var failure: ProvisioningFailure
}
