/// Runs an actor's work on one thread of a pool of its own, so that it may block: the cooperative pool never waits for a disk.
final class ThreadExecutor: SerialExecutor {
    private let pool: WorkerPool

    /// - Parameter name: of its thread, at most 15 bytes.
    init(_ name: String) { pool = WorkerPool(name, limit: 1) }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        pool.begin { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}
