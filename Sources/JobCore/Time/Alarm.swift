/// The one time at which a scheduler is to be woken. Set to another time it forgets the one before.
///
/// One that is not needed just now is left asleep: it may be needed again at once, and were it set anew, a clock that was set back in between
/// would make it late. A ring for nothing costs a look.
public struct Alarm: Sendable {
    // Beside each other and not in one optional: reading the time of that from another module crashes Swift 6.3.1 in a release build.
    private var task: Task<Void, any Error>?

    /// One that is not set.
    public init() {}

    /// When it rings; nil: it is not set.
    public private(set) var time: WallTime?

    /// Sets it; to the same time as before changes nothing.
    /// - Parameters:
    ///   - time: nil: none is needed; it is left as it is.
    ///   - ring: is told the time that has come, which holds even if the clock was set back meanwhile. It calls ``rang(_:)`` first.
    public mutating func set(
        to time: WallTime?, by clock: any WallClock, ring: @escaping @Sendable (WallTime) async -> Void
    ) {
        guard let time, time != self.time else { return }
        task?.cancel()
        // At once: how long it sleeps goes by the clock as it stands now, and not as somebody may have set it by then.
        task = Task.immediate {
            try await clock.sleep(until: time)
            await ring(time)
        }
        self.time = time
    }

    /// It has rung, and can be set to the same time again.
    public mutating func rang(_ time: WallTime) {
        // It may have been set to another time just when it rang.
        if self.time == time { forget() }
    }

    /// It does not ring any more.
    public mutating func stop() {
        task?.cancel()
        forget()
    }

    private mutating func forget() {
        task = nil
        time = nil
    }
}
