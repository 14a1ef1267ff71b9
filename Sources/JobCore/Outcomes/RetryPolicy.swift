/// How often something is tried, and how long to wait in between: exponential backoff with equal jitter (specification: rows.md R7).
///
/// The wait doubles with every attempt up to a maximum. Of it, one half is fixed and the other is drawn anew each time ("equal jitter"):
/// many that failed together do not come back together, and yet none comes back at once, as it may with full jitter.
public struct RetryPolicy: Hashable, Sendable {
    /// Attempts in all, the first included; at least 1. `Int.max` does not give up.
    public var maximumAttempts: Int
    /// The wait after the first attempt, before jitter.
    public var delay: Duration
    /// The longest wait.
    public var maximumDelay: Duration

    /// Values out of range are brought to the nearest in range: at least one attempt, no negative wait, and a maximum not below the first wait.
    public init(maximumAttempts: Int, delay: Duration, maximumDelay: Duration) {
        self.maximumAttempts = max(1, maximumAttempts)
        self.delay = max(.zero, delay)
        self.maximumDelay = max(self.delay, maximumDelay)
    }

    /// How long to wait before the next attempt.
    /// - Parameters:
    ///   - attempt: the number of the attempt that failed; the first is 1.
    ///   - generator: where the jitter comes from.
    /// - Returns: between half of the backoff and the whole, never more than the maximum; nil when the last attempt has been made.
    public func delay(afterAttempt attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration? {
        guard attempt < maximumAttempts else { return nil }
        let whole = backoff(afterAttempt: attempt)
        return min(whole / 2 + whole * Double.random(in: 0...0.5, using: &generator), whole)
    }

    /// The wait before jitter.
    func backoff(afterAttempt attempt: Int) -> Duration {
        var wait = delay
        // A Duration has fewer bits than steps of doubling lead from its smallest value to its largest, so this ends soon; and it ends before
        // the doubling could overflow.
        var step = 1
        while wait > .zero, step < attempt {
            if wait >= maximumDelay - wait { return maximumDelay }
            wait += wait
            step += 1
        }
        return wait
    }
}
