import DequeModule
import Dispatch
import Synchronization
import SystemPackage

/// A few threads for calls that block. They are made when there is work and end when there has been none for a while: an idle pool costs nothing.
///
/// Work begins in the order in which it came. A pool that is full makes others of its own wait and nobody else.
package final class WorkerPool: Sendable {
    private struct State {
        var waiting: Deque<@Sendable () -> Void> = []
        var threads = 0
        /// Threads that wait for work.
        var idle = 0

        mutating func join() {
            threads += 1
            idle += 1
        }
    }

    /// Starts a thread.
    typealias Start = @Sendable (_ body: @escaping @Sendable () -> Void) throws(Errno) -> Void

    private let limit: Int
    private let start: Start
    private let state = Mutex(State())
    /// Counts the pieces of work that wait.
    private let work = DispatchSemaphore(value: 0)
    private let idleTime: DispatchTimeInterval

    /// - Parameters:
    ///   - name: of its threads, at most 15 bytes.
    ///   - limit: threads at most; at least 1.
    ///   - isLasting: whether its threads live as long as this process. A program that asks the kernel for a signal at its parent's death
    ///     (PR_SET_PDEATHSIG) gets it when the thread that started it ends.
    package convenience init(_ name: String, limit: Int, isLasting: Bool = false) {
        self.init(limit: limit, idleTime: isLasting ? .never : .seconds(10)) { body throws(Errno) in
            try DedicatedThread.start(name, body)
        }
    }

    init(limit: Int, idleTime: DispatchTimeInterval = .seconds(10), start: @escaping Start) {
        self.limit = limit
        self.idleTime = idleTime
        self.start = start
    }

    /// Begins work as soon as a thread is free. Where not even the first thread can be made, for threads have run out, the caller's is one
    /// until nothing waits: of a pool of one thread still no two pieces of work run at once.
    package func begin(_ body: @escaping @Sendable () -> Void) {
        let isCallersTurn = state.withLock { state in
            if state.waiting.count >= state.idle, state.threads < limit, startThread() { state.join() }
            state.waiting.append(body)
            guard state.threads == 0 else { return false }
            state.join()
            return true
        }
        work.signal()
        if isCallersTurn { run(idleTime: .seconds(0)) }
    }

    private func startThread() -> Bool {
        do throws(Errno) {
            try start { [self] in run(idleTime: idleTime) }
            return true
        } catch {
            return false
        }
    }

    private func run(idleTime: DispatchTimeInterval) {
        while true {
            guard work.wait(timeout: idleTime == .never ? .distantFuture : .now() + idleTime) == .success else {
                // Work that has come in this moment is signalled at once.
                let isOver = state.withLock { state in
                    guard state.waiting.isEmpty else { return false }
                    state.idle -= 1
                    state.threads -= 1
                    return true
                }
                if isOver { return }
                continue
            }
            let body = state.withLock { state in
                state.idle -= 1
                return state.waiting.popFirst()
            }
            body?()
            state.withLock { $0.idle += 1 }
        }
    }
}

/// Runs an actor's work on one thread of a pool of its own, so that it may block: the cooperative pool never waits for a disk.
package final class ThreadExecutor: SerialExecutor {
    private let pool: WorkerPool

    /// - Parameter name: of its thread, at most 15 bytes.
    package init(_ name: String) { pool = WorkerPool(name, limit: 1) }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        pool.begin { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}
