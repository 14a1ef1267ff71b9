/// How much of the past is kept. Open jobs are always kept.
public struct HistoryRetention: Hashable, Sendable {
    /// Jobs that ended longer ago are removed; nil keeps them whatever their age. More than zero.
    public var age: Duration?
    /// Of the ended jobs, so many of the newest are kept; nil keeps them all. At least 0.
    public var jobs: Int?

    /// - Parameters:
    ///   - age: 90 days unless said otherwise.
    ///   - jobs: 100,000 unless said otherwise.
    public init(age: Duration? = .seconds(90 * 86_400), jobs: Int? = 100_000) {
        self.age = age
        self.jobs = jobs
    }
}

/// Removes what is older or more than the retention allows, a small slice at a time.
///
/// It is due after opening, and then after so many jobs have ended or so much time has passed; the time is only looked at when something is written.
struct HistorySweeper {
    /// Jobs removed in one transaction.
    private static let slice = 200
    /// After so many ended jobs, or so long, it is due again.
    private static let jobs = 1_000
    private static let interval = Duration.seconds(3_600)

    private let retention: HistoryRetention
    private var endedSince = 0
    private var dueAt = Timestamp.distantPast

    init(retention: HistoryRetention) { self.retention = retention }

    /// - Parameter ended: so many more jobs that have ended are in the file.
    mutating func wrote(_ ended: Int) { endedSince += ended }

    func isDue(at now: Timestamp) -> Bool { endedSince >= Self.jobs || dueAt <= now }

    /// Not now: it has failed.
    mutating func postpone(at now: Timestamp) {
        endedSince = 0
        dueAt = now + Self.interval
    }

    /// Removes one slice. When there was less to remove, it is not due for a while.
    mutating func slice(of store: HistoryStore, now: Timestamp) throws {
        let border = retention.age.map { now + (.zero - $0) }
        let removed = try store.remove(endedBefore: border, keeping: retention.jobs, atMost: Self.slice)
        if removed < Self.slice { postpone(at: now) }
    }
}
