public import LDAP
public import JobCore

/// What a provisioning daemon does for an account; one implementation for each SERVICE and TYPE.
///
/// The engine claims the wish, asks for a plan, carries its steps out in order and writes the outcome. It may ask again
/// for the same wish after a failure or a crash, so every step must be idempotent.
public protocol ProvisioningService: Sendable {
    /// The attributes that `plan` reads from an entry, besides those of the protocol itself.
    var requestedAttributes: [AttributeName] { get }

    /// The attribute whose value names what the work is done on, such as a home: no two entries may have the same. nil: there is none.
    var uniqueAttribute: AttributeName? { get }
    /// Which values of that attribute are this entry's alone: those that it has, and what else it names by them.
    func uniqueValues(of entry: Entry) -> [AttributeValue]

    /// Keeps other daemons that share accounts (attribute CLAIM) from working on what an entry names, for as long as the value lives.
    /// - Returns: nil while another daemon works on it.
    @MainActor func lock(_ entry: Entry) async throws(ProvisioningFailure) -> (any Sendable)?

    /// Validates the entry and looks at the machine, and changes nothing: a dry run shows just this plan.
    @MainActor func plan(_ request: ProvisioningRequest) async throws(ProvisioningFailure) -> [any ProvisioningStep]
}

extension ProvisioningService {
    /// Each entry is worked on for itself.
    public var uniqueAttribute: AttributeName? { nil }
    /// Those that it has.
    public func uniqueValues(of entry: Entry) -> [AttributeValue] { uniqueAttribute.map { entry[$0] } ?? [] }
    /// Nothing is shared.
    public func lock(_ entry: Entry) async throws(ProvisioningFailure) -> (any Sendable)? { () }
}

/// One step of a plan.
public protocol ProvisioningStep: Sendable {
    /// A short noun for logs and the history, such as `home script`.
    var name: String { get }
    /// What the step would do, for a dry run: the exact argument vector and environment, or the file with its difference.
    var preview: String { get }
    /// - Parameter attempt: with which programs are run, so that they can be followed, can report, and stand in the history.
    /// - Important: cancellation means that the job is cancelled or the daemon stops; the step ends what it started and throws
    ///   `CancellationError`.
    /// - Throws: `ProvisioningFailure`, or `CancellationError`.
    @MainActor func perform(in attempt: RunningAttempt) async throws
}

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

extension JobSubject {
    /// An account, for jobs of every type.
    public init(_ account: EntryUUID) { self.init(uuid: account.high, account.low) }

    /// The account; nil for a subject that is none.
    package var account: EntryUUID? { uuid.map { EntryUUID(high: $0.high, low: $0.low) } }

    /// What entries name by a value of an attribute, such as a home. An entry can be removed and added again, and what it names stays: so a job holds
    /// the name as well as the entry.
    /// - Parameter value: compared as `caseIgnoreMatch` does (RFC 4517, section 4.2.11).
    init(_ attribute: AttributeName, _ value: String) { self.init("\(attribute) \(value.caseIgnoreFolded)") }
}
