import Synchronization
public import Testing

/// The error of a wait that was in vain; the test's issue says what for.
public struct DeadlinePassed: Error {
    /// For waits of a test's own making.
    public init() {}
}

/// Waits until a condition holds. The deadline only ends a test that has failed.
///
/// - Parameters:
///   - what: what is waited for, in the words of the failure.
///   - limit: generous, since machines are shared and slow.
public func eventually(
    _ what: @autoclosure () -> String = "the condition holds", within limit: Duration = .seconds(300),
    sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            Issue.record("not within \(limit): \(what())", sourceLocation: sourceLocation)
            throw DeadlinePassed()
        }
        try await Task.sleep(for: .milliseconds(5))
    }
}

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
