/// A job as its handlers see it at the moment of an event (specification: rows.md B6 and B7).
public struct EventJob: Hashable, Sendable {
    /// Number, type, level, name, client and priority.
    public var job: Job
    /// Where it stands now (specification: rows.md B9).
    public var status: JobStatus
    /// What a handler may set as level; the job's type decides.
    public var levels: [String]
    /// The pool that its volume is taken from; empty where there is none.
    public var pool: String
    /// How many volumes the pool has.
    public var volumes: Int
    /// The name of this server.
    public var storage: String
    /// The name of the directory.
    public var catalog: String
    /// The type of the file system that the job writes to; empty where it is not known.
    public var mediaType: String
    /// Where the directory is reached.
    public var catalogResource: CatalogResource
    /// The volume that was purged; nil but for ``EventHandlers/volumePurged(_:)``.
    public var volumeName: String?

    /// A job at the moment of an event.
    public init(
        _ job: Job, status: JobStatus, levels: [String] = [], pool: String = "", volumes: Int = 0, storage: String,
        catalog: String, mediaType: String = "", catalogResource: CatalogResource, volumeName: String? = nil
    ) {
        self.job = job
        self.status = status
        self.levels = levels
        self.pool = pool
        self.volumes = volumes
        self.storage = storage
        self.catalog = catalog
        self.mediaType = mediaType
        self.catalogResource = catalogResource
        self.volumeName = volumeName
    }

    /// The job's number.
    public var id: JobID { job.id }
}
