import CLinux
import EventLoop
import Glibc

/// The clock of schedules, due times and timestamps; tests have their own.
public protocol WallClock: Sendable {
    /// The current time.
    var now: Timestamp { get }
    /// Returns when the clock shows the deadline, even if the clock is set meanwhile.
    /// - Throws: `CancellationError` if the task is cancelled.
    func sleep(until deadline: Timestamp) async throws
    /// Returns when the duration has passed, even if the clock is set meanwhile.
    /// - Throws: `CancellationError` if the task is cancelled.
    func sleep(for duration: Duration) async throws
    /// The steps by which the clock is set from now on; negative: back.
    func steps() async -> AsyncStream<Duration>
}

extension WallClock {
    /// For a clock that is never set.
    public func sleep(for duration: Duration) async throws { try await sleep(until: now + duration) }

    /// For a clock that is never set.
    public func steps() -> AsyncStream<Duration> { AsyncStream { _ in } }
}

/// The machine's clock.
public struct SystemWallClock: WallClock {
    /// The clock of the machine.
    public init() {}

    /// CLOCK_REALTIME.
    public var now: Timestamp { Self.reading(CLOCK_REALTIME) }

    /// Uses a kernel timer, so that setting the clock wakes tasks whose time has come.
    public func sleep(until deadline: Timestamp) async throws { try await WallTimer.shared.sleep(until: deadline) }

    /// Includes time in which the machine is suspended.
    public func sleep(for duration: Duration) async throws {
        try await Task.sleep(for: max(duration, Duration.zero), clock: .continuous)
    }

    /// Steps of a tenth of a second or more.
    public func steps() async -> AsyncStream<Duration> { await WallTimer.shared.steps() }

    /// The time of a kernel clock.
    static func reading(_ clock: clockid_t) -> Timestamp {
        var time = timespec()
        clock_gettime(clock, &time)
        return Timestamp(nanosecondsSince1970: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}

/// The wake-up time of a scheduler. Setting another time replaces the previous one.
///
/// An alarm that is not needed at the moment is not cancelled: it may be needed again at once, and a new one would be
/// late if the clock was set back meanwhile. An unneeded ring costs little.
package struct Alarm: Sendable {
    // Two properties and not one optional tuple: reading the time of that from another module crashes Swift 6.3.1 in
    // a release build.
    private var task: Task<Void, any Error>?

    /// An alarm that is not set.
    package init() {}

    /// When it rings; nil: not set.
    package private(set) var time: Timestamp?

    /// Sets the alarm. Setting the same time again changes nothing.
    /// - Parameters:
    ///   - time: nil: no wake-up is needed; the alarm is left as it is.
    ///   - ring: receives the time that was reached, which counts even if the clock was set back meanwhile. It calls
    ///     ``rang(_:)`` first.
    package mutating func set(
        to time: Timestamp?, by clock: any WallClock, ring: @escaping @Sendable (Timestamp) async -> Void
    ) {
        guard let time, time != self.time else { return }
        task?.cancel()
        // Immediately, so that the sleep is computed from the current clock, which may be set later.
        task = Task.immediate {
            try await clock.sleep(until: time)
            await ring(time)
        }
        self.time = time
    }

    /// The alarm has rung and can be set to the same time again.
    package mutating func rang(_ time: Timestamp) {
        // It may have been set to another time when it rang.
        if self.time == time { forget() }
    }

    /// Cancels the alarm.
    package mutating func stop() {
        task?.cancel()
        forget()
    }

    private mutating func forget() {
        task = nil
        time = nil
    }
}

/// Wakes tasks that sleep until a time of the wall clock, and notices when the clock is set.
///
/// One timerfd on CLOCK_REALTIME is always armed for the earliest deadline, absolutely and with
/// TFD_TIMER_CANCEL_ON_SET: it becomes readable when that time has come and when the clock is set. The size of a step
/// is the change of the difference to the time since boot, which cannot be set. Without a descriptor, tasks sleep for
/// the remaining time.
@MainActor final class WallTimer {
    /// The one of this process.
    static let shared: WallTimer = {
        let timer = WallTimer(
            descriptor: timerfd_create(CLOCK_REALTIME, Int32(TFD_CLOEXEC | TFD_NONBLOCK)))
        timer.watch()
        return timer
    }()

    /// Smaller differences are not steps, because two clocks are never read at the same instant.
    private static let smallestStep = Duration.milliseconds(100)

    private var sleepers: [UInt64: (deadline: Timestamp, continuation: CheckedContinuation<Void, any Error>)] = [:]
    private var listeners: [UInt64: AsyncStream<Duration>.Continuation] = [:]
    private var lastNumber: UInt64 = 0
    /// The difference between the wall clock and the time since boot.
    private var distance: Duration
    private let now: @Sendable () -> Timestamp
    private let sinceBoot: @Sendable () -> Timestamp
    /// -1: the caller calls ``check()``.
    private let descriptor: Int32
    private var isWatched = true

    /// - Parameters:
    ///   - now: the wall clock.
    ///   - sinceBoot: the time since boot, which cannot be set.
    nonisolated init(
        descriptor: Int32 = -1, now: @escaping @Sendable () -> Timestamp = { SystemWallClock().now },
        sinceBoot: @escaping @Sendable () -> Timestamp = { SystemWallClock.reading(CLOCK_BOOTTIME) }
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
                // The number of expirations, or ECANCELED: the clock was set. In both cases everything is checked.
                var count: UInt64 = 0
                if read(self.descriptor, &count, MemoryLayout<UInt64>.size) >= 0 || errno == ECANCELED { self.check() }
            }
        } catch {
            isWatched = false
        }
    }

    // MARK: - Sleeping

    /// - Throws: `CancellationError` if the task is cancelled before the deadline.
    func sleep(until deadline: Timestamp) async throws {
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

    /// The number of sleeping tasks, for tests.
    var sleeperCount: Int { sleepers.count }

    // MARK: - Steps

    /// The steps of the clock from now on.
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

    /// Reads the clock: reports a step, wakes tasks whose time has come, and arms the timer for the next.
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

    /// - Returns: false if the clock was set since it was read; the timer does not report that any more.
    private func arm(_ time: Timestamp) -> Bool {
        guard descriptor >= 0 else { return true }
        var setting = itimerspec()
        // Zero would disarm the timer.
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
