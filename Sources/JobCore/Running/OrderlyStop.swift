/// How work is brought to its end when the daemon stops: it has a grace, then it is cut off, and in the end it is left behind.
public struct OrderlyStop: Sendable {
    /// How long work may go on.
    public var grace: Duration
    /// How long what was cut off may take to end.
    public var killTimeout: Duration

    /// A stop.
    public init(grace: Duration, killTimeout: Duration) {
        self.grace = grace
        self.killTimeout = killTimeout
    }

    /// Returns when the work has ended, or the kill timeout is over.
    /// - Parameters:
    ///   - ended: returns when the work has ended; it is left waiting when that does not come.
    ///   - cutOff: is called once when the grace is over.
    public func run(
        by clock: any WallClock, ended: @escaping @Sendable () async -> Void,
        cutOff: @escaping @Sendable () async -> Void
    ) async {
        let (over, isOver) = AsyncStream<Never>.makeStream()
        Task {
            await ended()
            isOver.finish()
        }
        let timer = Task {
            try await clock.sleep(for: grace)
            await cutOff()
            try await clock.sleep(for: killTimeout)
            isOver.finish()
        }
        // Whoever stops is not stopped.
        await Task { for await _ in over {} }.value
        timer.cancel()
    }

    /// What is to be said of a job that was left behind.
    public static func left(_ name: String, job: JobID) -> CoreNotice {
        CoreNotice(
            .error,
            "stopping: \(name) does not end although it was cut off, and is left; it goes on at the next start",
            job: job)
    }
}
