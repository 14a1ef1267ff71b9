import LDAP
public import JobCore

/// The failed attempts of a job, from which the time of the next one follows.
///
/// An account cannot do anything about a shortage of the machine: such attempts do not count for MAX_ATTEMPTS, and are repeated for a day.
public struct FailedAttempts: Hashable, Sendable {
    /// Attempts that count for MAX_ATTEMPTS. Attempts that a stop or a crash interrupted do not.
    public private(set) var counted = 0
    /// When the first of the latest attempts ended that failed because of a shortage; nil: the last one had another cause.
    public private(set) var shortageBegan: Timestamp?
    private var shortages = 0

    /// How long a shortage may last.
    public static let longestShortage = Duration.seconds(24 * 3_600)

    /// None has failed.
    public init() {}

    /// Adds a failed attempt.
    /// - Returns: when the next one may begin; nil: the failure is the job's outcome.
    public mutating func add(
        _ failureClass: FailureClass, at now: Timestamp, _ retry: RetryPolicy,
        using generator: inout some RandomNumberGenerator
    ) -> Timestamp? {
        guard failureClass == .shortage else {
            counted += 1
            (shortageBegan, shortages) = (nil, 0)
            guard failureClass == .retryable else { return nil }
            return retry.delay(afterAttempt: counted, using: &generator).map { now + $0 }
        }
        shortages += 1
        let began = shortageBegan ?? now
        shortageBegan = began
        let end = began + Self.longestShortage
        guard now < end else { return nil }
        return min(now + retry.endlessDelay(afterAttempt: shortages, using: &generator), end)
    }

    /// The machine's clock was set: the shortage has lasted as long as before.
    mutating func clockWasSet(by step: Duration) { shortageBegan = shortageBegan.map { $0 + step } }
}

/// A claimed account between two attempts. It is lost with the process, and the next start resumes the claim at once.
public struct AttemptRecord: Hashable, Sendable {
    /// The job that the attempts belong to.
    public var job: JobID
    /// The attempt that has ended.
    public var attempt: Int
    /// Including that attempt.
    public var failures: FailedAttempts
    /// When the next attempt may begin.
    public var notBefore: Timestamp
    /// Why the last attempt failed.
    public var failure: ProvisioningFailure
}

/// What delays the requests of several accounts, as the JSON of `status` has it: a shortage of the machine, or a refusal of the LDAP server.
public struct ProvisioningDelay: Hashable, Sendable, Codable {
    /// How many wait for it.
    public var accounts: Int
    /// When it was first logged.
    public var since: Timestamp
    /// What failed first, where, and how to fix it.
    public var reason: String

    /// A delay.
    public init(accounts: Int, since: Timestamp, reason: String) {
        (self.accounts, self.since, self.reason) = (accounts, since, reason)
    }
}

/// The accounts that wait because of a shortage of the machine or a refusal of the LDAP server. Causes with the same hint are one.
struct ProvisioningDelays: Sendable {
    /// Why an account waits.
    struct Cause: Hashable, Sendable {
        var text: String
        var hint: String

        init(text: String, hint: String) { (self.text, self.hint) = (text, hint) }

        /// - Returns: nil for a lost connection and a server that is busy, which pass.
        init?(_ refusal: LDAPError) {
            guard !refusal.isRetryable else { return nil }
            let check = "to find all that is missing: prov-backup-rsnapshot check"
            hint = "\(refusal.hint ?? "\(refusal.code)"); \(check)"
            text = "the LDAP server refuses what the daemon needs: \(refusal); \(check)"
        }
    }

    private struct Kind {
        var text: String
        var since: Timestamp
        var accounts: Set<EntryUUID> = []
    }

    /// The kinds of delay, by their hints.
    private var kinds: [String: Kind] = [:]

    /// - Parameter account: nil: what delays any.
    /// - Returns: the oldest first.
    func list(of account: EntryUUID? = nil) -> [ProvisioningDelay] {
        kinds.values.filter { kind in account.map(kind.accounts.contains) ?? true }.map {
            ProvisioningDelay(accounts: $0.accounts.count, since: $0.since, reason: $0.text)
        }
        .sorted { ($0.since, $0.reason) < ($1.since, $1.reason) }
    }

    /// - Parameter cause: why the account waits now; nil: not because of a shortage.
    /// - Returns: for the log: the text of a cause that no account waited for before, and those of causes that none waits for any more.
    mutating func update(
        _ account: EntryUUID, _ cause: Cause?, at now: Timestamp
    ) -> (began: String?, over: [String]) {
        var over: [String] = []
        for hint in kinds.keys where hint != cause?.hint {
            guard var kind = kinds[hint], kind.accounts.remove(account) != nil else { continue }
            kinds[hint] = kind.accounts.isEmpty ? nil : kind
            if kind.accounts.isEmpty { over.append(kind.text) }
        }
        guard let cause else { return (nil, over) }
        let began = kinds[cause.hint] == nil ? cause.text : nil
        kinds[cause.hint, default: Kind(text: cause.text, since: now)].accounts.insert(account)
        return (began, over)
    }
}
