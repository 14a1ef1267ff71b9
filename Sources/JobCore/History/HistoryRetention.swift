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
