import Glibc

/// The clock by which schedules, due dates and time stamps go; tests have one of their own.
public protocol WallClock: Sendable {
    /// What it shows.
    var now: WallTime { get }
    /// - Throws: `CancellationError` when the task is cancelled before.
    func sleep(until deadline: WallTime) async throws
}

/// The machine's clock.
public struct SystemWallClock: WallClock {
    /// The one clock of the machine.
    public init() {}

    /// As the kernel has it (CLOCK_REALTIME).
    public var now: WallTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return WallTime(nanosecondsSince1970: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    /// Sleeps as long as the deadline is away now; a clock that is set meanwhile does not move the awakening.
    public func sleep(until deadline: WallTime) async throws {
        try await Task.sleep(for: max(deadline - now, Duration.zero), clock: .continuous)
    }
}
