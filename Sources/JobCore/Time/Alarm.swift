/// The one time at which a scheduler is to be woken. Set to another time it forgets the one before.
public struct Alarm: Sendable {
    private var current: (time: WallTime, task: Task<Void, any Error>)?

    /// One that is not set.
    public init() {}

    /// When it rings; nil: never.
    public var time: WallTime? { current?.time }

    /// Sets it; to the same time as before changes nothing.
    /// - Parameters:
    ///   - time: nil: it does not ring.
    ///   - ring: is told the time that has come, which holds even if the clock was set back meanwhile. It calls ``rang(_:)`` first.
    public mutating func set(
        to time: WallTime?, by clock: any WallClock, ring: @escaping @Sendable (WallTime) async -> Void
    ) {
        guard time != current?.time else { return }
        current?.task.cancel()
        current = time.map { time in
            (
                time,
                Task {
                    try await clock.sleep(until: time)
                    await ring(time)
                }
            )
        }
    }

    /// It has rung, and can be set to the same time again.
    public mutating func rang(_ time: WallTime) {
        // It may have been set to another time just when it rang.
        if current?.time == time { current = nil }
    }

    /// It does not ring any more.
    public mutating func stop() {
        current?.task.cancel()
        current = nil
    }
}
