import Glibc

/// The clock by which schedules, due dates and time stamps go; tests have one of their own.
public protocol WallClock: Sendable {
    /// What it shows.
    var now: WallTime { get }
    /// Returns when it shows the deadline, also where it is set meanwhile.
    /// - Throws: `CancellationError` when the task is cancelled before.
    func sleep(until deadline: WallTime) async throws
    /// Returns when so much time has passed, whatever it is set to meanwhile.
    /// - Throws: `CancellationError` when the task is cancelled before.
    func sleep(for duration: Duration) async throws
    /// By how much it is set, each time that it is set while somebody listens; negative: back.
    func steps() async -> AsyncStream<Duration>
}

extension WallClock {
    /// For a clock that nobody sets.
    public func sleep(for duration: Duration) async throws { try await sleep(until: now + duration) }

    /// For a clock that nobody sets.
    public func steps() -> AsyncStream<Duration> { AsyncStream { _ in } }
}

/// The machine's clock.
public struct SystemWallClock: WallClock {
    /// The one clock of the machine.
    public init() {}

    /// As the kernel has it (CLOCK_REALTIME).
    public var now: WallTime { Self.reading(CLOCK_REALTIME) }

    /// Sleeps by the kernel's clock, so that setting it wakes whoever it makes late.
    public func sleep(until deadline: WallTime) async throws { try await WallTimer.shared.sleep(until: deadline) }

    /// Time in which the machine is suspended passes as well.
    public func sleep(for duration: Duration) async throws {
        try await Task.sleep(for: max(duration, Duration.zero), clock: .continuous)
    }

    /// Those of a tenth of a second and more.
    public func steps() async -> AsyncStream<Duration> { await WallTimer.shared.steps() }

    /// What a clock of the kernel's shows.
    static func reading(_ clock: clockid_t) -> WallTime {
        var time = timespec()
        clock_gettime(clock, &time)
        return WallTime(nanosecondsSince1970: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}
