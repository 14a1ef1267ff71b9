/// How many ended jobs are kept, and how long. Open jobs are always kept.
public struct HistoryRetention: Hashable, Sendable {
    /// Jobs that ended longer ago are removed; nil: no limit. More than zero.
    public var age: Duration?
    /// The number of ended jobs that are kept, the newest; nil: no limit. At least 0.
    public var jobs: Int?

    /// - Parameters:
    ///   - age: 90 days by default.
    ///   - jobs: 100,000 by default.
    public init(age: Duration? = .seconds(90 * 86_400), jobs: Int? = 100_000) {
        self.age = age
        self.jobs = jobs
    }
}

/// Removes jobs beyond the retention, a small slice at a time.
///
/// It is due after opening, and then after a number of ended jobs or a time, which is only checked when something is written.
struct HistorySweeper {
    /// Jobs removed in one transaction.
    private static let slice = 200
    /// The number of ended jobs, and the time, after which it is due again.
    private static let jobs = 1_000
    private static let interval = Duration.seconds(3_600)

    private let retention: HistoryRetention
    private var endedSince = 0
    private var dueAt = Timestamp.distantPast

    init(retention: HistoryRetention) { self.retention = retention }

    /// - Parameter ended: the number of ended jobs that were written.
    mutating func wrote(_ ended: Int) { endedSince += ended }

    func isDue(at now: Timestamp) -> Bool { endedSince >= Self.jobs || dueAt <= now }

    /// Waits for the whole interval; called after a failure, or when nothing is left to remove.
    mutating func postpone(at now: Timestamp) {
        endedSince = 0
        dueAt = now + Self.interval
    }

    /// Removes one slice.
    /// - Parameter byAge: false: only jobs beyond the number that is kept.
    /// - Returns: the number of jobs.
    mutating func slice(of store: HistoryStore, now: Timestamp, byAge: Bool) throws -> Int {
        let border = byAge ? retention.age.map { now + (.zero - $0) } : nil
        let removed = try store.remove(endedBefore: border, keeping: retention.jobs, atMost: Self.slice)
        if removed < Self.slice { postpone(at: now) }
        return removed
    }
}
