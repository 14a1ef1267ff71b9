/// The one time at which a scheduler is to be woken. Set to another time it forgets the one before.
///
/// One that is not needed just now is left asleep: it may be needed again at once, and were it set anew, a clock that was set back in between
/// would make it late. A ring for nothing costs a look.
public struct Alarm: Sendable {
    private var current: (time: WallTime, task: Task<Void, any Error>)?

    /// One that is not set.
    public init() {}

    /// When it rings; nil: it is not set.
    public var time: WallTime? { current?.time }

    /// Sets it; to the same time as before changes nothing.
    /// - Parameters:
    ///   - time: nil: none is needed; it is left as it is.
    ///   - ring: is told the time that has come, which holds even if the clock was set back meanwhile. It calls ``rang(_:)`` first.
    public mutating func set(
        to time: WallTime?, by clock: any WallClock, ring: @escaping @Sendable (WallTime) async -> Void
    ) {
        guard let time, time != current?.time else { return }
        current?.task.cancel()
        // At once: how long it sleeps goes by the clock as it stands now, and not as somebody may have set it by then.
        let task = Task.immediate {
            try await clock.sleep(until: time)
            await ring(time)
        }
        current = (time, task)
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
