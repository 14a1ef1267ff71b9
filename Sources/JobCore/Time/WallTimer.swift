import CLinux
import EventLoop
import Glibc
import Synchronization
import SystemPackage

/// Wakes those who sleep until the machine's clock shows a time, and notices when the clock is set.
///
/// One timerfd on CLOCK_REALTIME is always armed for the earliest of them, absolutely and with TFD_TIMER_CANCEL_ON_SET: a thread that reads
/// from it goes on when that time has come and when somebody has set the clock. By how much is the change of its distance from the time since
/// boot, which nobody can set. Without descriptor and thread, when those have run out, sleepers sleep as long as their deadline is away.
final class WallTimer: Sendable {
    /// The one of this process.
    static let shared: WallTimer = {
        let timer = WallTimer(descriptor: timerfd_create(CLOCK_REALTIME, Int32(TFD_CLOEXEC)))
        timer.start()
        return timer
    }()

    /// Smaller steps are none: readings of two clocks are never of the same moment.
    private static let smallestStep = Duration.milliseconds(100)

    private struct State {
        var sleepers: [UInt64: (deadline: WallTime, continuation: CheckedContinuation<Void, any Error>)] = [:]
        /// Those who were cancelled before they slept.
        var cancelled: Set<UInt64> = []
        var listeners: [UInt64: AsyncStream<Duration>.Continuation] = [:]
        var lastNumber: UInt64 = 0
        /// From the time since boot to what the clock shows.
        var distance: Duration
    }

    private let state: Mutex<State>
    private let now: @Sendable () -> WallTime
    private let sinceBoot: @Sendable () -> WallTime
    /// -1: somebody else calls ``check()``.
    private let descriptor: Int32
    private let isWatched = Mutex(true)

    /// - Parameters:
    ///   - now: what the clock shows.
    ///   - sinceBoot: a clock that nobody sets.
    init(
        descriptor: Int32 = -1, now: @escaping @Sendable () -> WallTime = { SystemWallClock().now },
        sinceBoot: @escaping @Sendable () -> WallTime = { SystemWallClock.reading(CLOCK_BOOTTIME) }
    ) {
        self.descriptor = descriptor
        self.now = now
        self.sinceBoot = sinceBoot
        state = Mutex(State(distance: now() - sinceBoot()))
    }

    private func start() {
        check()
        do throws(Errno) {
            guard descriptor >= 0 else { throw .badFileDescriptor }
            try DedicatedThread.start("wall timer") { [self] in watch() }
        } catch {
            isWatched.withLock { $0 = false }
        }
    }

    private func watch() {
        while true {
            // How often the time has come, or ECANCELED: the clock was set. Either way everything is looked at anew.
            var count: UInt64 = 0
            if read(descriptor, &count, MemoryLayout<UInt64>.size) >= 0 || errno == ECANCELED { check() }
        }
    }

    // MARK: - Sleeping

    /// - Throws: `CancellationError` when the task is cancelled before the clock shows the deadline.
    func sleep(until deadline: WallTime) async throws {
        guard isWatched.withLock(\.self) else {
            return try await Task.sleep(for: max(deadline - now(), Duration.zero), clock: .continuous)
        }
        let number = state.withLock { state in
            state.lastNumber += 1
            return state.lastNumber
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let isCancelled = state.withLock { state in
                    if state.cancelled.remove(number) != nil { return true }
                    state.sleepers[number] = (deadline, continuation)
                    return false
                }
                if isCancelled { continuation.resume(throwing: CancellationError()) } else { check() }
            }
        } onCancel: {
            let continuation = state.withLock { state in
                if let sleeper = state.sleepers.removeValue(forKey: number) {
                    return sleeper.continuation as CheckedContinuation?
                }
                state.cancelled.insert(number)
                return nil
            }
            continuation?.resume(throwing: CancellationError())
        }
        // Whoever was cancelled after the time had come has left a trace.
        state.withLock { _ = $0.cancelled.remove(number) }
    }

    /// How many sleep just now; for tests.
    var sleeperCount: Int { state.withLock { $0.sleepers.count } }

    // MARK: - Steps

    /// By how much the clock is set from now on.
    func steps() -> AsyncStream<Duration> {
        let (stream, continuation) = AsyncStream<Duration>.makeStream()
        let number = state.withLock { state in
            state.lastNumber += 1
            state.listeners[state.lastNumber] = continuation
            return state.lastNumber
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { _ = $0.listeners.removeValue(forKey: number) }
        }
        return stream
    }

    // MARK: - The clock

    /// Looks at the clock: tells of a step, wakes those whose time has come, and arms the timer for the next.
    func check() {
        var woken: [CheckedContinuation<Void, any Error>] = []
        var steps: [Duration] = []
        let listeners = state.withLock { state in
            repeat {
                let now = now()
                let distance = now - sinceBoot()
                if (distance - state.distance).magnitude >= Self.smallestStep {
                    steps.append(distance - state.distance)
                    state.distance = distance
                }
                for (number, sleeper) in state.sleepers where sleeper.deadline <= now {
                    woken.append(sleeper.continuation)
                    state.sleepers[number] = nil
                }
            } while !arm(state.sleepers.values.map(\.deadline).min() ?? .distantFuture)
            return Array(state.listeners.values)
        }
        for step in steps { listeners.forEach { $0.yield(step) } }
        woken.forEach { $0.resume() }
    }

    /// - Returns: false when the clock was set since it was looked at; then the timer does not tell of that any more.
    private func arm(_ time: WallTime) -> Bool {
        guard descriptor >= 0 else { return true }
        var setting = itimerspec()
        // Zero would mean never.
        let nanoseconds = max(time.nanosecondsSince1970, 1)
        setting.it_value = timespec(
            tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        let flags = Int32(TFD_TIMER_ABSTIME) | Int32(TFD_TIMER_CANCEL_ON_SET)
        return timerfd_settime(descriptor, flags, &setting, nil) == 0 || errno != ECANCELED
    }
}

extension Duration {
    fileprivate var magnitude: Duration { self < .zero ? .zero - self : self }
}
