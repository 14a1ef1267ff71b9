public import JobCore

/// The attempts of a job that failed, by which is decided whether there is another one.
///
/// A shortage of the machine is nothing that the account could change: such attempts do not count, and are repeated for a day.
public struct FailedAttempts: Hashable, Sendable {
    /// Those that count for MAX_ATTEMPTS; attempts that a stop or a crash cut off are none of them.
    public private(set) var counted = 0
    /// When the first of those ended that failed because of a shortage, one after the other up to the last; nil: the last had another cause.
    public private(set) var shortageBegan: Timestamp?
    private var shortages = 0

    /// How long a shortage may last.
    public static let longestShortage = Duration.seconds(24 * 3_600)

    /// None has failed.
    public init() {}

    /// Another one has failed.
    /// - Returns: when the next may begin; nil: the failure is the job's outcome.
    public mutating func add(
        _ failureClass: FailureClass, at now: Timestamp, _ retry: RetryPolicy,
        using generator: inout some RandomNumberGenerator
    ) -> Timestamp? {
        guard failureClass == .shortage else {
            counted += 1
            (shortageBegan, shortages) = (nil, 0)
            guard failureClass == .retryable else { return nil }
            return retry.delay(afterAttempt: counted, using: &generator).map { now + $0 }
        }
        shortages += 1
        let began = shortageBegan ?? now
        shortageBegan = began
        let end = began + Self.longestShortage
        guard now < end else { return nil }
        var backoff = retry
        backoff.maximumAttempts = .max
        let delay = backoff.delay(afterAttempt: shortages, using: &generator) ?? backoff.maximumDelay
        return min(now + delay, end)
    }

    /// The machine's clock was set, and the shortage lasts as long as before.
    mutating func clockWasSet(by step: Duration) { shortageBegan = shortageBegan.map { $0 + step } }
}

/// What is remembered of a claim between two attempts. It is lost with the process, and nothing is lost by that: a claim
/// without an outcome is resumed at once by the next start.
public struct AttemptRecord: Hashable, Sendable {
    /// The job that the attempts belong to.
    public var job: JobID
    /// The attempt that has ended.
    public var attempt: Int
    /// How often and since when it has failed.
    public var failures: FailedAttempts
    /// When the next attempt may begin.
    public var notBefore: Timestamp
    /// Why the last attempt failed.
    public var failure: ProvisioningFailure
}
