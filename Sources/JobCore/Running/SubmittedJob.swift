import Synchronization

/// A job that a runner has taken in. However soon it ends, its outcome is known here.
public final class SubmittedJob: Sendable {
    /// Its number.
    public let id: JobID

    private struct State {
        var isOver = false
        var outcome: JobOutcome?
        var lastWaiter: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<JobOutcome?, Never>] = [:]
    }

    private let state = Mutex(State())

    init(_ id: JobID) { self.id = id }

    /// What the job came to, when it has ended after its last attempt.
    /// - Returns: nil when the daemon stops first, and the job goes on at the next start; or when the calling task is cancelled.
    public func outcome() async -> JobOutcome? {
        let waiter = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let outcome: JobOutcome?? = state.withLock { state in
                    if state.isOver || Task.isCancelled { return .some(state.outcome) }
                    state.waiters[waiter] = continuation
                    return nil
                }
                if let outcome { continuation.resume(returning: outcome) }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: waiter) }?.resume(returning: nil)
        }
    }

    /// - Parameter outcome: nil: the runner stops.
    func end(_ outcome: JobOutcome?) {
        let waiters = state.withLock { state in
            guard !state.isOver else { return [UInt64: CheckedContinuation<JobOutcome?, Never>]() }
            state.isOver = true
            state.outcome = outcome
            defer { state.waiters = [:] }
            return state.waiters
        }
        waiters.values.forEach { $0.resume(returning: outcome) }
    }
}
