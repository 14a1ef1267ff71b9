public import JobCore
import Synchronization

/// Keeps what a board tells its recorder, for a test to look through.
public final class ChangeRecorder: JobRecorder {
    private let state = Mutex<[JobChange]>([])

    /// An empty one.
    public init() {}

    /// All so far, in their order.
    public var changes: [JobChange] { state.withLock { $0 } }

    /// Takes note of a change.
    public func record(_ change: JobChange) { state.withLock { $0.append(change) } }

    /// Returns at once.
    public func recorded() async {}

    /// The letters that a job has had.
    public func letters(of id: JobID) -> String {
        String(
            changes.compactMap { change in
                if change.job == id, case .status(let status) = change.event { status.rawValue } else { nil }
            })
    }

    /// The jobs that were opened, each as often as it was.
    public var opened: [JobID] {
        changes.compactMap { if case .opened = $0.event { $0.job } else { nil } }
    }

    /// The jobs that were closed, each as often as it was, and what they came to.
    public var closed: [(job: JobID, outcome: JobOutcome)] {
        changes.compactMap { if case .closed(let outcome) = $0.event { ($0.job, outcome) } else { nil } }
    }
}
