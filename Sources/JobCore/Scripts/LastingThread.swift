import Dispatch
import EventLoop
import Synchronization
import SystemPackage

/// One thread that lives as long as this process and does one piece of work after the other.
///
/// The threads of `BlockingWork` end when they are idle, and with them, by the kernel's PR_SET_PDEATHSIG, what they have started.
enum LastingThread {
    private struct State {
        var isRunning = false
        var waiting: [@Sendable () -> Void] = []
    }

    private static let state = Mutex(State())
    private static let wakeUp = DispatchSemaphore(value: 0)

    /// Begins work that nobody waits for. Where the thread cannot be made, which is when threads have run out, another one does it.
    static func begin(_ work: @escaping @Sendable () -> Void) {
        let isRunning = state.withLock { state in
            if !state.isRunning { state.isRunning = start() }
            if state.isRunning { state.waiting.append(work) }
            return state.isRunning
        }
        if isRunning { wakeUp.signal() } else { BlockingWork.begin(on: .starts, work) }
    }

    private static func start() -> Bool {
        do throws(Errno) {
            try DedicatedThread.start("program start") {
                while true {
                    wakeUp.wait()
                    state.withLock { $0.waiting.removeFirst() }()
                }
            }
            return true
        } catch {
            return false
        }
    }
}
