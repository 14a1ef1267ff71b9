public import LDAP
import JobCore

/// How requests are detected (setting `DETECTION`).
public enum Detection: String, CaseIterable, Hashable, Sendable {
    /// A persistent search if the server supports it, else polling.
    case auto
    case persist, poll
}

/// Whether the watcher searches persistently or polls, and how long it waits before it does so again.
struct DetectionState {
    private let timing: Watcher.Timing
    private let retry: RetryPolicy
    /// The number of polls after which `auto` tries the persistent search again, since the server may support it by then.
    private let pollsUntilDetection: Int
    private(set) var isPolling: Bool
    private var polls = 0
    private var failures = 0

    init(_ timing: Watcher.Timing, retry: RetryPolicy) {
        self.timing = timing
        self.retry = retry
        pollsUntilDetection = max(1, Int(timing.relistInterval / max(timing.pollInterval, .seconds(1))))
        isPolling = timing.detection == .poll
    }

    /// The persistent search has returned all pending accounts and waits for changes.
    mutating func refreshed() { failures = 0 }

    /// A poll has returned all pending accounts.
    /// - Returns: the delay before the next poll, or before the search is tried again.
    mutating func polled() -> Duration {
        failures = 0
        polls += 1
        if timing.detection == .auto, polls >= pollsUntilDetection { (isPolling, polls) = (false, 0) }
        return timing.pollInterval
    }

    /// The server does not support the persistent search, and polling takes its place.
    func replacesSearch(_ error: LDAPError) -> Bool {
        timing.detection == .auto && error.code == .unavailableCriticalExtension && !isPolling
    }

    /// The persistent search has ended, or a poll has failed.
    /// - Returns: the delay before the next search or poll.
    mutating func failed(_ error: LDAPError, using generator: inout some RandomNumberGenerator) -> Duration {
        if replacesSearch(error) {
            isPolling = true
            return .zero
        }
        failures += 1
        return retry.endlessDelay(afterAttempt: failures, using: &generator)
    }
}

/// The identity of an entry, and where it was last seen.
public struct AccountKey: Hashable, Sendable, Codable {
    /// Does not change when the entry is renamed.
    public var uuid: EntryUUID
    /// Where it was last seen.
    public var dn: DN

    /// An entry with its DN.
    public init(uuid: EntryUUID, dn: DN) {
        self.uuid = uuid
        self.dn = dn
    }
}

/// An entry may have changed. Decisions are made from the entry itself.
enum ChangeNotification: Hashable, Sendable {
    /// The entry is pending, or was a moment ago.
    /// - `csn`: the entryCSN that was seen.
    /// - `isChange`: the entry has just been changed, possibly by an own write. False for an entry that was listed, which never counts as an own
    ///   write, since the notification of a change before may be lost.
    case pending(AccountKey, csn: AttributeValue?, isChange: Bool)
    /// The entry is not pending any more: done, failed, renamed or removed.
    case noLongerPending(EntryUUID)
}

/// Which entries a daemon watches.
public struct WatchScope: Hashable, Sendable {
    /// The subtree that holds the accounts (setting `SERVICE_SUBTREE`).
    public var base: DN
    /// A further condition of the site (setting `SEARCH_FILTER`).
    public var condition: Filter?
    /// The hosts whose accounts are ours, compared as `caseIgnoreMatch` does; nil: all (setting `HOST`).
    public var hosts: [String]?
    /// The names of the protocol's attributes.
    public var names: AttributeNames

    /// By default every account below the base.
    public init(base: DN, condition: Filter? = nil, hosts: [String]? = nil, names: AttributeNames) {
        self.base = base
        self.condition = condition
        self.hosts = hosts
        self.names = names
    }

    /// Every account of this daemon that takes part in provisioning.
    public var accounts: Filter {
        .and([.present(names.mode), .present(names.state)] + limits)
    }

    /// The same scope for the accounts of any host.
    public var ofAllHosts: Self {
        var scope = self
        scope.hosts = nil
        return scope
    }

    /// The pending accounts: requests, and claims without an outcome. The server can answer the equality of the state from its index, so the cost
    /// does not grow with the number of accounts that are done.
    public var pending: Filter {
        let claimed = modes(.claimed)
        let unfinished = names.returnValue.map { [.and([.or(claimed), .not(.present($0))])] } ?? claimed
        return .and([.equal(names.state, "0"), .or(modes(.requested) + unfinished)] + limits)
    }

    /// Accounts whose `modify` is requested or claimed: what they ask for need not be done yet.
    public var openModify: Filter {
        let stages: [ProvisioningMode.Stage] = [.requested, .claimed]
        return .and([
            .equal(names.state, "0"),
            .or(stages.map { .equal(names.mode, AttributeValue(ProvisioningMode(.modify, $0).description)) }),
        ])
    }

    /// Claims whose last attempt has failed; nil where entries have no ReturnValue.
    public var failed: Filter? {
        guard let returnValue = names.returnValue else { return nil }
        return .and([.equal(names.state, "0"), .or(modes(.claimed)), .present(returnValue)] + limits)
    }

    /// Accounts whose mode and state are invalid: a requested or claimed mode with a state other than `0`, or state `0` with a mode that is none of the
    /// protocol's. The server can answer it from its indexes on mode and state. ``AccountStatus/isInvalid(_:names:)`` also finds what no index
    /// does: such a mode with another state.
    public var invalid: Filter {
        let (open, isZero) = (modes(.requested) + modes(.claimed), Filter.equal(names.state, "0"))
        return .and(
            [
                .or([
                    .and([.or(open), .present(names.state), .not(isZero)]),
                    .and([isZero, .present(names.mode), .not(.or(open + modes(.done)))]),
                ])
            ] + limits)
    }

    private func modes(_ stage: ProvisioningMode.Stage) -> [Filter] {
        Operation.allCases.map { .equal(names.mode, AttributeValue(ProvisioningMode($0, stage).description)) }
    }

    private var limits: [Filter] {
        let ours = hosts.map { hosts in [Filter.or(hosts.map { .equal(names.host, AttributeValue($0)) })] } ?? []
        return ours + (condition.map { [$0] } ?? [])
    }
}
