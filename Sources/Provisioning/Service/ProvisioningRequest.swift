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
    /// Looks once more whether another entry names what the work is done on; to be called immediately before anything is removed.
    /// It throws `ProvisioningFailure` with code 1 and the names of both, or `CancellationError`.
    public var demandUnique: @Sendable () async throws -> Void

    /// A request for one attempt.
    public init(
        operation: Operation, entry: Entry, job: JobID, attempt: Int,
        demandUnique: @escaping @Sendable () async throws -> Void = {}
    ) {
        self.operation = operation
        self.entry = entry
        self.job = job
        self.attempt = attempt
        self.demandUnique = demandUnique
    }
}
