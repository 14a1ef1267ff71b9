public import DirectoryModel
public import JobCore

/// What a service is asked to do for one account.
public struct ProvisioningRequest: Sendable {
    /// What the wish asks for.
    public var operation: Operation
    /// The entry as it was read before the claim, with the attributes that the service asked for.
    public var entry: Entry
    /// The job, the same for all attempts.
    public var job: JobID
    /// 1 for the first try; higher after a failure or a crash.
    public var attempt: Int

    /// A request for one attempt.
    public init(operation: Operation, entry: Entry, job: JobID, attempt: Int) {
        self.operation = operation
        self.entry = entry
        self.job = job
        self.attempt = attempt
    }
}
