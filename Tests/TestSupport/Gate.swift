import Synchronization

/// A gate that holds work back until a test opens it, or the work is cancelled: a test that fails must not hang.
public final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var waiting: [AsyncStream<Never>.Continuation] = []
    }

    private let state = Mutex(State())

    /// A closed one.
    public init() {}

    /// Lets all through, now and later.
    public func open() {
        state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }.forEach { $0.finish() }
    }

    /// Returns when the gate is open or the task is cancelled.
    public func pass() async {
        let (opened, continuation) = AsyncStream<Never>.makeStream()
        let isOpen = state.withLock { state in
            if !state.isOpen { state.waiting.append(continuation) }
            return state.isOpen
        }
        if isOpen { return }
        for await _ in opened {}
    }
}
