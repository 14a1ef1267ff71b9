import Dispatch

/// Calls that may block (a file of /proc, a disk, the system's user database), away from the threads that all tasks share.
enum BlockingWork {
    /// Runs the body on a thread of the system's pool, which exists only while there is such work.
    static func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            DispatchQueue.global(qos: .utility).async { continuation.resume(returning: body()) }
        }
    }
}
