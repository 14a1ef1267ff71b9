/// Tasks that wait for the next call of ``resume(_:)``. A cancelled task stops waiting.
@MainActor package final class Waiters<Value: Sendable> {
    private var waiting: [AsyncStream<Value>.Continuation] = []

    package nonisolated init() {}

    package var isEmpty: Bool { waiting.isEmpty }

    /// - Returns: the value of the next ``resume(_:)``; nil when it has none, or when the calling task is cancelled.
    package func wait() async -> Value? {
        // A stream ends with the task that reads it.
        let (values, continuation) = AsyncStream<Value>.makeStream()
        waiting.append(continuation)
        for await value in values { return value }
        return nil
    }

    /// Resumes all that wait now.
    package func resume(_ value: Value? = nil) {
        let resumed = waiting
        waiting = []
        for continuation in resumed {
            if let value { continuation.yield(value) }
            continuation.finish()
        }
    }
}
