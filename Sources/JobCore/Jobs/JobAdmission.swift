import Synchronization

/// One job at a time for each subject, and a limit on all that run, over schedulers of every kind.
///
/// A scheduler asks before it starts a job. When it is refused it lets the job wait without a slot, and is called when it is worth asking again.
public final class JobAdmission: Sendable {
    /// What is said to a scheduler that asks.
    public enum Answer: Hashable, Sendable {
        case entered
        /// Another job works on the subject.
        case subjectIsBusy
        /// As many jobs run as may.
        case limitIsReached
    }

    private struct State {
        var limit: Int?
        var running: Set<JobSubject> = []
        /// Whom to call when a subject becomes free.
        var waiting: [JobSubject: [@Sendable () -> Void]] = [:]
        /// Whom to call when any job ends.
        var waitingForAny: [@Sendable () -> Void] = []
    }

    private let state: Mutex<State>

    /// - Parameter limit: jobs of all types at once; nil: no limit.
    public init(limit: Int? = nil) { state = Mutex(State(limit: limit)) }

    /// Another limit, at once. Jobs that run go on.
    public func setLimit(_ limit: Int?) {
        let waiting = state.withLock { state in
            state.limit = limit
            defer { state.waitingForAny = [] }
            return state.waitingForAny
        }
        waiting.forEach { $0() }
    }

    /// Whether any job may begin at all.
    /// - Parameter again: called once, when it is worth asking again; not called when there is room.
    public func hasRoom(orCall again: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            guard let limit = state.limit, state.running.count >= limit else { return true }
            state.waitingForAny.append(again)
            return false
        }
    }

    /// - Parameter again: called once, when it is worth asking again; not called when the answer is `entered`.
    public func enter(_ subject: JobSubject, orCall again: @escaping @Sendable () -> Void) -> Answer {
        state.withLock { state in
            if state.running.contains(subject) {
                state.waiting[subject, default: []].append(again)
                return .subjectIsBusy
            }
            if let limit = state.limit, state.running.count >= limit {
                state.waitingForAny.append(again)
                return .limitIsReached
            }
            state.running.insert(subject)
            return .entered
        }
    }

    /// The job on a subject has ended.
    public func leave(_ subject: JobSubject) {
        let called = state.withLock { state in
            state.running.remove(subject)
            defer { state.waitingForAny = [] }
            return (state.waiting.removeValue(forKey: subject) ?? []) + state.waitingForAny
        }
        called.forEach { $0() }
    }
}
