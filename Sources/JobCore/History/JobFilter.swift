/// Which jobs of the history are asked for: those that meet all that is given.
public struct JobFilter: Hashable, Sendable {
    /// For whom they were done: an account's uid, or the name of a script.
    public var client: String?
    /// Their type.
    public var type: JobType?
    /// Their name, which many jobs share.
    public var name: String?
    /// Any of these letters; empty asks for no letter.
    public var statuses: Set<JobStatus>
    /// Any of these results; open jobs have none. Empty asks for no result.
    public var results: Set<JobResult>
    /// Asked for at this time or later.
    public var since: WallTime?
    /// Asked for before this time.
    public var until: WallTime?
    /// Older ones than this job: the next page is what comes before the last job of this page.
    public var before: JobID?
    /// Newer ones than this job. Then the limit keeps those next to it, so whoever follows the history misses none.
    public var after: JobID?
    /// At most so many; at least 1.
    public var limit: Int

    /// Without arguments: the newest 100.
    public init(
        client: String? = nil, type: JobType? = nil, name: String? = nil, statuses: Set<JobStatus> = [],
        results: Set<JobResult> = [], since: WallTime? = nil, until: WallTime? = nil, before: JobID? = nil,
        after: JobID? = nil, limit: Int = 100
    ) {
        self.client = client
        self.type = type
        self.name = name
        self.statuses = statuses
        self.results = results
        self.since = since
        self.until = until
        self.before = before
        self.after = after
        self.limit = limit
    }
}
