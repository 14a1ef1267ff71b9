import EventLoop
public import JobCore
import Synchronization
import Testing

/// A clock that only a test moves.
public final class ManualClock: WallClock {
    private struct Sleeper {
        var deadline: Timestamp
        var continuation: CheckedContinuation<Void, any Error>
    }
    private struct State {
        var now: Timestamp
        var sleepers: [Int: Sleeper] = [:]
        var listeners: [Int: AsyncStream<Duration>.Continuation] = [:]
        var cancelled: Set<Int> = []
        var nextID = 0
    }

    private let state: Mutex<State>

    /// - Parameter now: its initial time.
    public init(_ now: Timestamp) { state = Mutex(State(now: now)) }

    /// Its time.
    public var now: Timestamp { state.withLock { $0.now } }

    /// When somebody sleeps until; the earliest first.
    public var deadlines: [Timestamp] { state.withLock { $0.sleepers.values.map(\.deadline).sorted() } }

    /// Moves it forward, and wakes tasks that sleep until then.
    public func advance(to time: Timestamp) {
        let due = state.withLock { state in
            state.now = max(state.now, time)
            let due = state.sleepers.filter { $0.value.deadline <= state.now }
            due.keys.forEach { state.sleepers[$0] = nil }
            return due.values.map(\.continuation)
        }
        due.forEach { $0.resume() }
    }

    /// Sets it, forward or back, as an operator does: those who listen are told, and those whose time has come wake.
    public func set(to time: Timestamp) {
        let (step, listeners) = state.withLock { state in
            let step = time - state.now
            state.now = time
            return (step, Array(state.listeners.values))
        }
        listeners.forEach { $0.yield(step) }
        advance(to: time)
    }

    /// Those who listen for its being set.
    public var listenerCount: Int { state.withLock { $0.listeners.count } }

    /// By how much it is set.
    public func steps() -> AsyncStream<Duration> {
        let (stream, continuation) = AsyncStream<Duration>.makeStream()
        let id = state.withLock { state in
            state.nextID += 1
            state.listeners[state.nextID] = continuation
            return state.nextID
        }
        continuation.onTermination = { [weak self] _ in self?.state.withLock { $0.listeners[id] = nil } }
        return stream
    }

    /// Waits until somebody has moved it.
    public func sleep(until deadline: Timestamp) async throws {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let outcome: Result<Void, any Error>? = state.withLock { state in
                    if state.cancelled.remove(id) != nil { return .failure(CancellationError()) }
                    if deadline <= state.now { return .success(()) }
                    state.sleepers[id] = Sleeper(deadline: deadline, continuation: continuation)
                    return nil
                }
                if let outcome { continuation.resume(with: outcome) }
            }
        } onCancel: {
            let continuation = state.withLock { state in
                if let sleeper = state.sleepers.removeValue(forKey: id) {
                    return sleeper.continuation as CheckedContinuation?
                }
                state.cancelled.insert(id)
                return nil
            }
            continuation?.resume(throwing: CancellationError())
        }
    }
}

/// The same for time limits.
package final class ManualSteadyClock: SteadyClock {
    private let start = ContinuousClock.now
    private let origin = Timestamp(secondsSince1970: 0)
    private let hand = ManualClock(Timestamp(secondsSince1970: 0))
    private let looks = Atomic(0)

    package init() {}

    package var now: ContinuousClock.Instant {
        looks.add(1, ordering: .relaxed)
        return start + (hand.now - origin)
    }
    package var minimumResolution: Duration { .zero }
    /// How many sleep.
    package var sleepers: Int { hand.deadlines.count }

    package func advance(by time: Duration) { hand.advance(to: hand.now + time) }

    package func sleep(until deadline: ContinuousClock.Instant, tolerance: Duration?) async throws {
        try await hand.sleep(until: origin + (deadline - start))
    }

    /// Waits until somebody looks at it again and again: he waits by it without sleeping.
    package func isWatched() async throws {
        let before = looks.load(ordering: .relaxed)
        try await eventually("somebody looks at the clock") { looks.load(ordering: .relaxed) > before + 2 }
    }

    /// Lets limits and graces be over as often as somebody waits for one, until some work ends.
    package func passes<Value: Sendable>(until work: Task<Value, any Error>) async throws -> Value {
        let hand = Task {
            while !Task.isCancelled {
                advance(by: .seconds(3_600))
                try await Task.sleep(for: .milliseconds(5))
            }
        }
        defer { hand.cancel() }
        return try await work.value
    }
}
