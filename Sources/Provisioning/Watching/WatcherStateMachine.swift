import DirectoryClient
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
        case persistEnded(DirectoryError)
        /// A poll has delivered all that is pending.
        case polled
        case pollFailed(DirectoryError)
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
