import Synchronization

/// Calls that may block (a file of /proc, a disk, the system's user database), away from the threads that all tasks share.
package enum BlockingWork {
    /// What kinds of work have threads of their own, so that a slow kind delays no other.
    package enum Kind: CaseIterable, Sendable {
        /// Looks and changes that are soon done: plans and steps of accounts, settings, the user database.
        case steps
        /// Walks through customers' trees: measuring, inspecting, removing. They take as long as the tree is large.
        case walks
        /// The start of a program, which stops its thread until the program runs.
        case starts
    }

    private static let steps = WorkerPool("steps", limit: 16)
    private static let walks = WorkerPool("walks", limit: 4)
    private static let starts = WorkerPool("starts", limit: 4)

    private static func pool(_ kind: Kind) -> WorkerPool {
        switch kind {
        case .steps: steps
        case .walks: walks
        case .starts: starts
        }
    }

    /// Begins work that nobody waits for.
    package static func begin(on kind: Kind, _ body: @escaping @Sendable () -> Void) { pool(kind).begin(body) }

    /// Work that is soon done.
    package static func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            steps.begin { continuation.resume(returning: body()) }
        }
    }

    /// Work that may be cut off.
    /// - Parameters:
    ///   - deadline: when it is; nil: only with its task.
    ///   - body: gets a question that it asks now and then: whether it has to end, by a `CancellationError`.
    /// - Throws: what the body throws; `Deadline.Passed` where the deadline has cut it off, and not the task.
    package static func run<Value: Sendable>(
        on kind: Kind = .steps, until deadline: Deadline? = nil,
        _ body: @escaping @Sendable (_ isCancelled: @escaping @Sendable () -> Bool) throws -> Value
    ) async throws -> Value {
        let cancelled = Flag()
        let work: @Sendable () throws -> Value = {
            do {
                return try body { cancelled.isSet || deadline?.hasPassed ?? false }
            } catch is CancellationError where !cancelled.isSet && deadline?.hasPassed ?? false {
                throw Deadline.Passed()
            }
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                pool(kind).begin { continuation.resume(with: Result { try work() }) }
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
