public import DirectoryModel
public import JobCore

/// The settings of `[Backup Jobs]`, as values.
public struct BackupJobsConfiguration: Hashable, Sendable {
    /// SLOTS: backups at once, 1 or more.
    public var slots: Int
    /// TIMEOUT: how long one attempt may work on the files of an account, the copy included.
    public var timeLimit: Duration
    /// How long rsnapshot may take to leave before it is killed.
    public var grace: Duration
    /// MEMORY: the most address space of each process of a copy, in bytes; 0: no limit.
    public var memory: UInt64
    /// WINDOW: when a backup may begin; nil: at any time.
    public var window: TimeWindow?
    /// When snapshots of a level are made; a level that is missing has no schedule.
    public var schedules: [SnapshotLevel: CronSchedule]
    /// How often a backup is tried again whose failure may pass, such as one that found rsnapshot's lock taken.
    public var retry: RetryPolicy
    /// What this server calls itself in `sstBackupLastSuccessfulBackup`.
    public var host: String
    /// Whether `sstBackupSize` is written after a backup.
    public var writesSize: Bool
    /// Whether `sstIncrementSize` is written after a backup.
    public var writesIncrement: Bool
    /// Whether `sstBackupLastSuccessfulBackup` is written after a backup.
    public var writesLastSuccess: Bool

    /// The defaults are those of the settings.
    /// - Parameter host: without a colon.
    public init(
        slots: Int = 2, timeLimit: Duration = .seconds(12 * 3600), grace: Duration = .seconds(30),
        memory: UInt64 = 2 << 30, window: TimeWindow? = nil, schedules: [SnapshotLevel: CronSchedule] = [:],
        retry: RetryPolicy = RetryPolicy(
            maximumAttempts: 5, delay: .seconds(60), maximumDelay: .seconds(3600)), host: String,
        writesSize: Bool = true, writesIncrement: Bool = true, writesLastSuccess: Bool = true
    ) {
        self.slots = slots
        self.timeLimit = timeLimit
        self.grace = grace
        self.memory = memory
        self.window = window
        self.schedules = schedules
        self.retry = retry
        self.host = host
        self.writesSize = writesSize
        self.writesIncrement = writesIncrement
        self.writesLastSuccess = writesLastSuccess
    }
    /// What is read of an account's entry for its backup.
    public var readAttributes: [AttributeName] { BackupAttribute.all }

    /// What is written into an account's entry after its backup.
    public var writtenAttributes: [AttributeName] {
        [
            (BackupAttribute.size, writesSize), (BackupAttribute.increment, writesIncrement),
            (BackupAttribute.lastSuccess, writesLastSuccess),
        ].filter(\.1).map(\.0)
    }
}
