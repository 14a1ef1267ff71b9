import CLinux
import DequeModule
import Glibc
import HeapModule
import Synchronization
public import SystemPackage

/// The event loop of this process: one thread that waits for descriptors and timers, and runs everything that is isolated to the main actor.
///
/// Code on it must not block: no disk, no name service, no start of a program, no lock that another thread holds for long. Slow work
/// runs on a ``WorkerPool``. The loop must be installed as the executor before it is used: ``run(_:)``.
///
/// Each turn runs, in this order: jobs that are ready (at most ``burst`` of them), timers that are due, handlers of descriptors.
public final class EventLoop: @unchecked Sendable {
    // Safe to share: state for other threads is behind `remote`; all other state belongs to the thread of the loop, and its users are
    // isolated to the main actor or check the thread first.

    /// The one of this process.
    public static let shared = EventLoop()

    /// Events of a descriptor, as in epoll_ctl(2).
    public struct Events: OptionSet, Hashable, Sendable {
        /// The kernel's value.
        public let rawValue: UInt32

        /// The kernel's value.
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// Data or the end of the data can be read (EPOLLIN).
        public static let readable = Events(rawValue: EPOLLIN.rawValue)
        /// Data can be written (EPOLLOUT).
        public static let writable = Events(rawValue: EPOLLOUT.rawValue)
        /// The other end is closed, or there is an error (EPOLLHUP, EPOLLERR). Always reported.
        public static let broken = Events(rawValue: EPOLLHUP.rawValue | EPOLLERR.rawValue)
    }

    /// Called when a descriptor is ready.
    public typealias Handler = @MainActor (Events) -> Void

    private struct Remote {
        var jobs: [UnownedJob] = []
        var sleepers: [(job: UnownedJob, time: ContinuousClock.Instant)] = []
        var isStopping = false
        /// The loop has been woken and has not taken the contents yet.
        var isSignalled = false
    }

    private struct Watched {
        let generation: UInt32
        let handler: Handler
    }

    /// How many jobs may run between two calls of epoll_wait(2).
    private static let burst = 256

    private let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
    private let wakeUp = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    private let remote = Mutex(Remote())
    private var thread: pthread_t?

    private var ready: Deque<UnownedJob> = []
    private var timers = Heap<TimerEntry>()
    private var lastTimer: UInt64 = 0
    /// Timers that have been set and have neither fired nor been cancelled.
    private var actions: [UInt64: TimerAction] = [:]
    /// By descriptor. A reused number has another generation, so that events of the old descriptor are dropped.
    private var watched: [Int32: Watched] = [:]
    private var lastGeneration: UInt32 = 0

    /// Called after a job or a handler that ran longer than ``longestSlice``.
    @MainActor package var onSlowSlice: (Duration) -> Void = { _ in }
    /// How long a job or handler may run without a report.
    package static let longestSlice = Duration.milliseconds(20)

    private init() {
        guard epoll >= 0, wakeUp >= 0 else {
            preconditionFailure("no event loop: \(Errno(rawValue: errno)). Raise the limit on open files (ulimit -n).")
        }
        // Edge-triggered, so that each write wakes the loop and nothing has to be read.
        var event = epoll_event(events: EPOLLIN.rawValue | EPOLLET.rawValue, data: epoll_data(u64: Self.wakeUpToken))
        epoll_ctl(epoll, EPOLL_CTL_ADD, wakeUp, &event)
    }

    // MARK: - Descriptors

    /// Calls a handler whenever a descriptor is ready, until ``forget(_:)``.
    /// - Parameter events: nothing: only that it is broken.
    /// - Throws: the error of epoll_ctl(2), such as EPERM for a regular file, or ENOSPC.
    @MainActor public func watch(
        _ descriptor: Int32, for events: Events, _ handler: @escaping Handler
    ) throws(Errno) {
        requireRunning()
        lastGeneration &+= 1
        try control(EPOLL_CTL_ADD, descriptor, events, lastGeneration)
        watched[descriptor] = Watched(generation: lastGeneration, handler: handler)
    }

    /// Changes the events of a watched descriptor.
    @MainActor public func change(_ descriptor: Int32, to events: Events) {
        guard let generation = watched[descriptor]?.generation else { return }
        // The kernel refuses no change of a watched descriptor.
        try? control(EPOLL_CTL_MOD, descriptor, events, generation)
    }

    /// Ends watching, before the descriptor is closed. Ignored for one that is not watched.
    @MainActor public func forget(_ descriptor: Int32) {
        guard watched.removeValue(forKey: descriptor) != nil else { return }
        epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, nil)
    }

    /// Waits until a descriptor that is not watched is ready, or broken.
    /// - Throws: `timedOut` at the deadline, `canceled` with the task, or the error of epoll_ctl(2).
    @MainActor package func wait(
        for events: Events, at descriptor: Int32, until deadline: ContinuousClock.Instant
    ) async throws(Errno) {
        let wait = DescriptorWait()
        let failure = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let timer = call(at: deadline) { wait.end(.timedOut) }
                wait.begin {
                    self.forget(descriptor)
                    self.cancel(timer)
                    continuation.resume(returning: $0)
                }
                guard !Task.isCancelled else { return wait.end(.canceled) }
                do throws(Errno) {
                    try watch(descriptor, for: events) { _ in wait.end(nil) }
                } catch {
                    wait.end(error)
                }
            }
        } onCancel: {
            post { wait.end(.canceled) }
        }
        if let failure { throw failure }
    }

    private func control(
        _ operation: Int32, _ descriptor: Int32, _ events: Events, _ generation: UInt32
    ) throws(Errno) {
        let token = UInt64(generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
        var event = epoll_event(events: events.rawValue, data: epoll_data(u64: token))
        guard epoll_ctl(epoll, operation, descriptor, &event) == 0 else { throw Errno(rawValue: errno) }
    }

    // MARK: - Timers

    /// A timer.
    public struct Timer: Hashable, Sendable {
        fileprivate let number: UInt64
    }

    private enum TimerAction {
        case call(@MainActor () -> Void)
        case run(UnownedJob)
    }

    private struct TimerEntry: Comparable {
        let time: ContinuousClock.Instant
        let number: UInt64

        static func < (one: Self, other: Self) -> Bool { (one.time, one.number) < (other.time, other.number) }
    }

    /// Calls a function once at a time, or at the next turn of the loop if that has passed. Timers are up to a millisecond late.
    @MainActor @discardableResult
    public func call(at time: ContinuousClock.Instant, _ body: @escaping @MainActor () -> Void) -> Timer {
        requireRunning()
        return Timer(number: setTimer(time, .call(body)))
    }

    /// Cancels a timer. Ignored when it has fired.
    @MainActor public func cancel(_ timer: Timer) {
        guard actions.removeValue(forKey: timer.number) != nil else { return }
        // Cancelled timers are removed from the heap when they are first in it, or here when they are most of it.
        guard timers.count > 64, timers.count > 2 * actions.count else { return }
        timers = Heap(timers.unordered.filter { actions[$0.number] != nil })
    }

    private func setTimer(_ time: ContinuousClock.Instant, _ action: TimerAction) -> UInt64 {
        lastTimer += 1
        actions[lastTimer] = action
        timers.insert(TimerEntry(time: time, number: lastTimer))
        return lastTimer
    }

    // MARK: - From any thread

    /// Whether the caller runs on the loop.
    public var isCurrent: Bool { thread.map { pthread_equal($0, pthread_self()) != 0 } ?? false }

    /// Calls a function on the loop, after the jobs that are ready.
    public func post(_ body: @escaping @MainActor @Sendable () -> Void) { Task { @MainActor in body() } }

    /// Otherwise timers and descriptors would be waited for in vain.
    private func requireRunning() {
        guard !isCurrent else { return }
        fatalError("nothing runs the event loop: the program's main must be EventLoop.run { … }")
    }

    func enqueue(_ job: UnownedJob) {
        if isCurrent { ready.append(job) } else { tell { $0.jobs.append(job) } }
    }

    func enqueue(_ job: UnownedJob, at time: ContinuousClock.Instant) {
        if isCurrent { _ = setTimer(time, .run(job)) } else { tell { $0.sleepers.append((job, time)) } }
    }

    /// Ends ``run(on:)`` after the job that runs now.
    func stop() { tell { $0.isStopping = true } }

    private func tell(_ change: (inout sending Remote) -> Void) {
        let mustSignal = remote.withLock { remote in
            change(&remote)
            defer { remote.isSignalled = true }
            return !remote.isSignalled
        }
        if mustSignal { eventfd_write(wakeUp, 1) }
    }

    // MARK: - The thread

    private static let wakeUpToken = UInt64.max

    /// Runs until ``stop()``. Jobs that are not done by then are dropped.
    func run(on executor: UnownedSerialExecutor) {
        thread = pthread_self()
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        var isStopping = false
        while !isStopping {
            runReady(on: executor)
            fireTimers()
            let count = epoll_wait(epoll, &events, Int32(events.count), waitingTime)
            for event in events.prefix(max(0, Int(count))) {
                if event.data.u64 == Self.wakeUpToken { isStopping = takeRemote() } else { handle(event) }
            }
        }
    }

    private func runReady(on executor: UnownedSerialExecutor) {
        for _ in 0..<Self.burst {
            guard let job = ready.popFirst() else { return }
            measured { job.runSynchronously(on: executor) }
        }
    }

    private func handle(_ event: epoll_event) {
        let descriptor = Int32(bitPattern: UInt32(truncatingIfNeeded: event.data.u64))
        guard let watch = watched[descriptor], watch.generation == UInt32(event.data.u64 >> 32) else { return }
        measured { MainActor.assumeIsolated { watch.handler(Events(rawValue: event.events)) } }
    }

    private func fireTimers() {
        guard let first = timers.min, case let now = ContinuousClock.now, first.time <= now else { return }
        while let next = timers.min, next.time <= now {
            timers.removeMin()
            switch actions.removeValue(forKey: next.number) {
            case .call(let body): measured { MainActor.assumeIsolated { body() } }
            case .run(let job): ready.append(job)
            case nil: break
            }
        }
    }

    /// - Returns: whether the loop is to end.
    private func takeRemote() -> Bool {
        let taken = remote.withLock { remote in
            let taken = remote
            remote = Remote(isStopping: remote.isStopping)
            return taken
        }
        taken.jobs.forEach { ready.append($0) }
        for (job, time) in taken.sleepers { _ = setTimer(time, .run(job)) }
        return taken.isStopping
    }

    /// For epoll_wait(2), in milliseconds, rounded up so that it does not return just before the time; -1: for ever.
    private var waitingTime: Int32 {
        guard ready.isEmpty else { return 0 }
        while let first = timers.min, actions[first.number] == nil { timers.removeMin() }
        guard let first = timers.min else { return -1 }
        let (seconds, attoseconds) = (first.time - .now).components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        guard seconds < Self.longestWait else { return Int32(Self.longestWait * 1000) }
        return Int32(seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }

    /// A day, in seconds, so that no number overflows.
    private static let longestWait: Int64 = 86_400

    private func measured(_ slice: () -> Void) {
        let start = ContinuousClock.now
        slice()
        let time = ContinuousClock.now - start
        if time > Self.longestSlice { MainActor.assumeIsolated { onSlowSlice(time) } }
    }
}

/// One task that waits for a descriptor.
@MainActor private final class DescriptorWait {
    private var resume: ((Errno?) -> Void)?

    nonisolated init() {}

    func begin(_ resume: @escaping (Errno?) -> Void) { self.resume = resume }

    /// The first end counts.
    func end(_ failure: Errno?) {
        resume?(failure)
        resume = nil
    }
}
