import CLinux
import DequeModule
import Dispatch
import Glibc
import Synchronization
import SystemPackage

/// A bounded number of threads for calls that block. They are started when there is work and end after some idle time.
///
/// Work starts in the order in which it was added. A full pool delays its own work and no other pool.
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
    ///   - isLasting: its threads never end. A program that asks the kernel for a signal at its parent's death
    ///     (PR_SET_PDEATHSIG) gets it when the thread that started it ends.
    package convenience init(_ name: String, limit: Int, isLasting: Bool = false) {
        self.init(limit: limit, idleTime: isLasting ? .never : .seconds(10)) { body throws(Errno) in
            try startDetachedThread(name, body)
        }
    }

    init(limit: Int, idleTime: DispatchTimeInterval = .seconds(10), start: @escaping Start) {
        self.limit = limit
        self.idleTime = idleTime
        self.start = start
    }

    /// Starts work as soon as a thread is free. If not even the first thread can be started, because threads have run out, the caller's is one
    /// until nothing waits: of a pool of one thread still no two pieces of work run at once.
    /// - Returns: false if the work waits for a thread.
    @discardableResult
    package func begin(_ body: @escaping @Sendable () -> Void) -> Bool {
        let (isCallersTurn, hasThread) = state.withLock { state in
            if state.waiting.count >= state.idle, state.threads < limit, startThread() { state.join() }
            let isCallersTurn = state.threads == 0
            if isCallersTurn { state.join() }
            state.waiting.append(body)
            return (isCallersTurn, state.waiting.count <= state.idle)
        }
        work.signal()
        if isCallersTurn { run(idleTime: .seconds(0)) }
        return hasThread
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
                // Work that was added at this moment is signalled at once.
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

/// Runs an actor on a thread of its own, so that the actor may block.
package final class ThreadExecutor: SerialExecutor {
    private let pool: WorkerPool

    /// - Parameter name: of its thread, at most 15 bytes.
    package init(_ name: String) { pool = WorkerPool(name, limit: 1) }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        pool.begin { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}

/// Starts the body on a new, detached thread.
/// - Parameter name: at most 15 bytes are shown by the system.
private func startDetachedThread(_ name: String, _ body: @escaping @Sendable () -> Void) throws(Errno) {
    final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
    let box = Unmanaged.passRetained(
        Body {
            clinux_name_thread(name)
            body()
        })
    var thread = pthread_t()
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    let code = pthread_create(
        &thread, &attributes,
        { argument in
            guard let argument else { return nil }
            Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
            return nil
        }, box.toOpaque())
    guard code == 0 else {
        box.release()
        throw Errno(rawValue: code)
    }
}
