public import LDAP
public import JobCore

/// The work that a provisioning daemon does for an account; one implementation for each SERVICE and TYPE.
///
/// The engine claims the request, asks for a plan, performs its steps in order and writes the outcome. It may ask again
/// for the same request after a failure or a crash, so every step must be idempotent.
public protocol ProvisioningService: Sendable {
    /// The attributes that `plan` reads from an entry, besides those of the protocol itself.
    var requestedAttributes: [AttributeName] { get }

    /// The attribute that names the resource of an account, such as its home: no two entries may have the same value. nil: there is none.
    var uniqueAttribute: AttributeName? { get }
    /// The values that no other entry may have while the operation is carried out, by attribute: that attribute, and others by which an entry gets at
    /// the same resource. Each attribute needs an equality index. Entries without the unique attribute, such as those of groups, do not count.
    func uniqueValues(of entry: Entry, for operation: Operation) -> [AttributeName: [AttributeValue]]
    /// Whether entries count as well that are not accounts of this daemon (HOST, SEARCH_FILTER), because they may name the same resource.
    var isUniqueAmongAll: Bool { get }
    /// The names of the resources that no other job may work on at the same time.
    func exclusionNames(of entry: Entry) -> [String]

    /// Locks the resource against other daemons that share accounts (attribute CLAIM), until the returned value is released.
    /// - Returns: nil while another daemon has the lock.
    @MainActor func lock(_ entry: Entry) async throws(ProvisioningFailure) -> (any Sendable)?

    /// Validates the entry and examines the machine, and changes nothing: a dry run prints this plan.
    @MainActor func plan(_ request: ProvisioningRequest) async throws(ProvisioningFailure) -> [any ProvisioningStep]
}

extension ProvisioningService {
    /// No resource is shared between entries.
    public var uniqueAttribute: AttributeName? { nil }
    /// The values of the unique attribute that the entry has.
    public func uniqueValues(of entry: Entry, for operation: Operation) -> [AttributeName: [AttributeValue]] {
        uniqueAttribute.map { [$0: entry[$0]] } ?? [:]
    }
    /// Entries of other hosts count, too.
    public var isUniqueAmongAll: Bool { true }
    /// The values of the unique attribute that the entry has.
    public func exclusionNames(of entry: Entry) -> [String] {
        uniqueAttribute.map { entry[$0].compactMap(\.text) } ?? []
    }
    /// Nothing needs a lock.
    public func lock(_ entry: Entry) async throws(ProvisioningFailure) -> (any Sendable)? { () }
}

/// One step of a plan.
public protocol ProvisioningStep: Sendable {
    /// A short noun for logs and the history, such as `home script`.
    var name: String { get }
    /// The effect of the step, for a dry run: the exact argument vector and environment, or the file with its difference.
    var preview: String { get }
    /// - Parameter attempt: runs programs, so that they can be followed, can report, and are in the history.
    /// - Important: cancellation means that the job is cancelled or the daemon stops; the step ends what it started and throws
    ///   `CancellationError`.
    /// - Throws: `ProvisioningFailure`, or `CancellationError`.
    @MainActor func perform(in attempt: RunningAttempt) async throws
}

/// The work for one account.
public struct ProvisioningRequest: Sendable {
    /// The operation of the request.
    public var operation: Operation
    /// The entry as it was read before the claim, with the attributes that the service asked for.
    public var entry: Entry
    /// The job, the same for all attempts.
    public var job: JobID
    /// 1 for the first; higher after a failure or a crash.
    public var attempt: Int
    /// Searches again for another entry with the same unique value; to be called immediately before anything is removed.
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

extension JobSubject {
    /// The resource of an account, such as a home. It stays when its entry is removed and added again, so a job has
    /// exclusion keys for both.
    /// - Parameter value: compared as `caseIgnoreMatch` does (RFC 4517, section 4.2.11).
    init(_ attribute: AttributeName, _ value: String) { self.init("\(attribute) \(value.caseIgnoreFolded)") }
}
