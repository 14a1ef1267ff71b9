import Dispatch
import Synchronization

/// Calls that may block (a file of /proc, a disk, the system's user database), away from the threads that all tasks share.
///
/// They run on a thread of the system's pool, which exists only while there is such work.
package enum BlockingWork {
    /// Begins work that nobody waits for.
    package static func begin(_ body: @escaping @Sendable () -> Void) {
        DispatchQueue.global(qos: .utility).async(execute: body)
    }

    /// Work that is soon done.
    package static func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            DispatchQueue.global(qos: .utility).async { continuation.resume(returning: body()) }
        }
    }

    /// Work that may take long.
    /// - Parameter body: gets a question that it asks now and then: whether the task was cancelled meanwhile.
    package static func run<Value: Sendable>(
        _ body: @escaping @Sendable (_ isCancelled: @escaping @Sendable () -> Bool) throws -> Value
    ) async throws -> Value {
        let cancelled = Flag()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                DispatchQueue.global(qos: .utility).async {
                    continuation.resume(with: Result { try body { cancelled.isSet } })
                }
            }
        } onCancel: {
            cancelled.set()
        }
    }

    private final class Flag: Sendable {
        private let value = Atomic(false)
        var isSet: Bool { value.load(ordering: .relaxed) }
        func set() { value.store(true, ordering: .relaxed) }
    }
}
