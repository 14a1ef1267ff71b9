/// Ends work when the daemon stops: the work has a grace period, then it is cancelled, and after the cancel timeout it is not waited for any more.
public struct GracefulStop: Sendable {
    /// How long work may continue.
    public var grace: Duration
    /// How long cancelled work may take to end.
    public var cancelTimeout: Duration

    /// - Parameters: as the properties.
    public init(grace: Duration, cancelTimeout: Duration) {
        self.grace = grace
        self.cancelTimeout = cancelTimeout
    }

    /// Returns when the work has ended, or after both times.
    /// - Parameters:
    ///   - ended: returns when the work has ended. Its task is left alone when that takes too long.
    ///   - cancel: called once, when the grace period is over.
    public func run(
        by clock: any WallClock, ended: @escaping @Sendable () async -> Void,
        cancel: @escaping @Sendable () async -> Void
    ) async {
        let (over, isOver) = AsyncStream<Never>.makeStream()
        Task {
            await ended()
            isOver.finish()
        }
        let timer = Task {
            try await clock.sleep(for: grace)
            await cancel()
            try await clock.sleep(for: cancelTimeout)
            isOver.finish()
        }
        // A task of its own, since cancelling the caller must not shorten the stop.
        await Task { for await _ in over {} }.value
        timer.cancel()
    }

    /// The message about a job that did not end.
    public static func notEnded(_ name: String, job: JobID) -> CoreNotice {
        CoreNotice(
            .error, "stopping: \(name) did not end after it was canceled; it continues at the next start", job: job)
    }
}
