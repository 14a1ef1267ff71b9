import CLinux
import EventLoop
import Glibc

/// Wakes those who sleep until the machine's clock shows a time, and notices when the clock is set.
///
/// One timerfd on CLOCK_REALTIME is always armed for the earliest of them, absolutely and with TFD_TIMER_CANCEL_ON_SET: it becomes readable when that
/// time has come and when somebody has set the clock. By how much is the change of its distance from the time since boot, which nobody can set.
/// Without a descriptor, when those have run out, sleepers sleep as long as their deadline is away.
@MainActor final class WallTimer {
    /// The one of this process.
    static let shared: WallTimer = {
        let timer = WallTimer(
            descriptor: timerfd_create(CLOCK_REALTIME, Int32(TFD_CLOEXEC | TFD_NONBLOCK)))
        timer.watch()
        return timer
    }()

    /// Smaller steps are none: readings of two clocks are never of the same moment.
    private static let smallestStep = Duration.milliseconds(100)

    private var sleepers: [UInt64: (deadline: WallTime, continuation: CheckedContinuation<Void, any Error>)] = [:]
    private var listeners: [UInt64: AsyncStream<Duration>.Continuation] = [:]
    private var lastNumber: UInt64 = 0
    /// From the time since boot to what the clock shows.
    private var distance: Duration
    private let now: @Sendable () -> WallTime
    private let sinceBoot: @Sendable () -> WallTime
    /// -1: somebody else calls ``check()``.
    private let descriptor: Int32
    private var isWatched = true

    /// - Parameters:
    ///   - now: what the clock shows.
    ///   - sinceBoot: a clock that nobody sets.
    nonisolated init(
        descriptor: Int32 = -1, now: @escaping @Sendable () -> WallTime = { SystemWallClock().now },
        sinceBoot: @escaping @Sendable () -> WallTime = { SystemWallClock.reading(CLOCK_BOOTTIME) }
    ) {
        self.descriptor = descriptor
        self.now = now
        self.sinceBoot = sinceBoot
        distance = now() - sinceBoot()
    }

    private func watch() {
        check()
        do {
            try EventLoop.shared.watch(descriptor, for: .readable) { _ in
                // How often the time has come, or ECANCELED: the clock was set. Either way everything is looked at again.
                var count: UInt64 = 0
                if read(self.descriptor, &count, MemoryLayout<UInt64>.size) >= 0 || errno == ECANCELED { self.check() }
            }
        } catch {
            isWatched = false
        }
    }

    // MARK: - Sleeping

    /// - Throws: `CancellationError` when the task is cancelled before the clock shows the deadline.
    func sleep(until deadline: WallTime) async throws {
        guard isWatched else {
            return try await Task.sleep(for: max(deadline - now(), Duration.zero), clock: .continuous)
        }
        lastNumber += 1
        let number = lastNumber
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                guard !Task.isCancelled else { return continuation.resume(throwing: CancellationError()) }
                sleepers[number] = (deadline, continuation)
                check()
            }
        } onCancel: {
            EventLoop.shared.post {
                self.sleepers.removeValue(forKey: number)?.continuation.resume(throwing: CancellationError())
            }
        }
    }

    /// How many sleep just now; for tests.
    var sleeperCount: Int { sleepers.count }

    // MARK: - Steps

    /// By how much the clock is set from now on.
    func steps() -> AsyncStream<Duration> {
        let (stream, continuation) = AsyncStream<Duration>.makeStream()
        lastNumber += 1
        let number = lastNumber
        listeners[number] = continuation
        continuation.onTermination = { [weak self] _ in
            EventLoop.shared.post { self?.listeners[number] = nil }
        }
        return stream
    }

    // MARK: - The clock

    /// Looks at the clock: tells of a step, wakes those whose time has come, and arms the timer for the next.
    func check() {
        repeat {
            let now = now()
            let step = now - sinceBoot() - distance
            if step.magnitude >= Self.smallestStep {
                distance += step
                for listener in listeners.values { listener.yield(step) }
            }
            for (number, sleeper) in sleepers where sleeper.deadline <= now {
                sleepers[number] = nil
                sleeper.continuation.resume()
            }
        } while !arm(sleepers.values.map(\.deadline).min() ?? .distantFuture)
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
