public import LDAP
import JobCore

/// How wishes are noticed (setting `DETECTION`).
public enum Detection: String, CaseIterable, Hashable, Sendable {
    /// By a persistent search where the server offers it, else by polling.
    case auto
    case persist, poll
}

/// What the watcher does next; the watcher itself only does it.
struct WatcherStateMachine {
    enum Event {
        case started
        /// The persistent search has delivered all that was pending and waits for changes.
        case refreshed
        case persistEnded(LDAPError)
        /// A poll has delivered all that is pending.
        case polled
        case pollFailed(LDAPError)
        case slept
    }

    enum Action: Equatable {
        case persist, poll
        case sleep(Duration)
        /// Go on reading the persistent search.
        case proceed
    }

    private let detection: Detection
    private let pollInterval: Duration
    private let retry: RetryPolicy
    /// In `auto`, after so many polls the persistent search is tried again: the server may have learnt it.
    private let pollsUntilDetection: Int
    private var method: Action
    private var polls = 0
    private var failures = 0

    init(detection: Detection, pollInterval: Duration, relistInterval: Duration, retry: RetryPolicy) {
        self.detection = detection
        self.pollInterval = pollInterval
        self.retry = retry
        pollsUntilDetection = max(1, Int(relistInterval / max(pollInterval, .seconds(1))))
        method = detection == .poll ? .poll : .persist
    }

    mutating func handle(_ event: Event, using generator: inout some RandomNumberGenerator) -> Action {
        switch event {
        case .started: return method
        case .slept:
            if detection == .auto, method == .poll, polls >= pollsUntilDetection {
                polls = 0
                method = .persist
            }
            return method
        case .refreshed:
            failures = 0
            return .proceed
        case .polled:
            failures = 0
            polls += 1
            return .sleep(pollInterval)
        case .persistEnded(let error) where error.code == .unavailableCriticalExtension && detection == .auto:
            method = .poll
            return .poll
        case .persistEnded, .pollFailed:
            failures += 1
            return .sleep(retry.delay(afterAttempt: failures, using: &generator) ?? retry.maximumDelay)
        }
    }
}

/// Which entry is meant, whatever becomes of its name.
public struct AccountKey: Hashable, Sendable {
    /// The name that no rename changes.
    public var uuid: EntryUUID
    /// Where it was last seen.
    public var dn: DN

    /// An entry by both its names.
    public init(uuid: EntryUUID, dn: DN) {
        self.uuid = uuid
        self.dn = dn
    }
}

/// An entry may have changed. What is to be done is read from the entry itself.
public enum ChangeNotification: Hashable, Sendable {
    /// It belongs to the pending set, or did a moment ago; with the entryCSN that was seen.
    /// - `isChange`: it has just been changed, which an own write may have done. One that was listed is never taken for that: what it waits for may
    ///   have been lost.
    case look(AccountKey, csn: AttributeValue?, isChange: Bool)
    /// It has left the pending set: done, failed, renamed away or removed.
    case left(EntryUUID)
}
