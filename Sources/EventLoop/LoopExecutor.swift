// The one file that uses the executors of Swift 6.3, which are not a public interface yet.
import Glibc
@_spi(ExperimentalCustomExecutors) @_spi(ExperimentalScheduling) import _Concurrency

/// Runs the main actor on the event loop, and by ``EventLoop/run(_:)`` all other Swift code as well.
///
/// Where nothing else is wanted, all other Swift code runs there as well: `Task`, `Task.detached`, task groups, `Task.sleep` and what is isolated to
/// nothing. A process that installs it so has no threads but those that it starts itself.
final class LoopExecutor: MainExecutor, TaskExecutor, SchedulingExecutor {
    let loop: EventLoop

    init(_ loop: EventLoop) { self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) { loop.enqueue(UnownedJob(job)) }

    func enqueue<C: Clock>(
        _ job: consuming ExecutorJob, after delay: C.Duration, tolerance: C.Duration?, clock: C
    ) {
        loop.enqueue(UnownedJob(job), at: .now + Self.duration(delay))
    }

    func enqueue<C: Clock>(_ job: consuming ExecutorJob, at instant: C.Instant, tolerance: C.Duration?, clock: C) {
        loop.enqueue(UnownedJob(job), at: .now + Self.duration(clock.now.duration(to: instant)))
    }

    /// Only clocks of the standard library sleep by an executor, and theirs are `Duration`s.
    private static func duration<D: DurationProtocol>(_ duration: D) -> Duration {
        guard let duration = duration as? Duration else { preconditionFailure("\(D.self) is not a Duration") }
        return duration
    }

    func run() { loop.run(on: asUnownedSerialExecutor()) }
    func stop() { loop.stop() }

    func checkIsolated() { precondition(loop.isCurrent, "not on the event loop's thread") }
    func isIsolatingCurrentContext() -> Bool? { loop.isCurrent }
    func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
    func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }
}

private let executor = LoopExecutor(.shared)

/// Everything runs on the loop.
private struct LoopFactory: ExecutorFactory {
    static var mainExecutor: any MainExecutor { executor }
    static var defaultExecutor: any TaskExecutor { executor }
}

/// The main actor runs on the loop, all else on Swift's own pool.
private struct MainActorFactory: ExecutorFactory {
    static var mainExecutor: any MainExecutor { executor }
    static var defaultExecutor: any TaskExecutor { PlatformExecutorFactory.defaultExecutor }
}

extension EventLoop {
    /// Makes the loop the executor of the main actor and of everything else, runs a program on the calling thread, and returns when it has ended.
    ///
    /// To be called first thing in a synchronous `main`, before any task exists. Signals that were blocked when the process was started are not any
    /// more, and SIGCHLD is not ignored: it must not depend on who starts it whether SIGTERM ends it and how its own programs end.
    public static func run(_ program: @escaping @MainActor @Sendable () async -> Void) {
        var none = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, nil)
        signal(SIGCHLD, SIG_DFL)
        _createExecutors(factory: LoopFactory.self)
        Task { @MainActor in
            await program()
            shared.stop()
        }
        executor.run()
    }

    /// Makes the loop the executor of the main actor alone, for a process with a foreign asynchronous `main`, such as a test runner:
    /// it runs the loop. To be called before `main`.
    package static func installForMainActor() { _createExecutors(factory: MainActorFactory.self) }
}
