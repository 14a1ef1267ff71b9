/// Sends the events of jobs to the handlers (specification: rows.md B2), and applies their changes.
public struct JobEvents: Sendable {
    private let handlers: EventHandlers
    /// Makes the description of a job for handlers.
    /// - Parameter volume: of the event: the first of those that can be chosen, or the one that was purged; nil: the job's own.
    public typealias Description = @Sendable (_ job: Job, _ status: JobStatus, _ volume: String?) async -> EventJob

    private let describe: Description

    /// - Parameter describe: called only when there are handlers.
    public init(_ handlers: EventHandlers, describe: @escaping Description) {
        self.handlers = handlers
        self.describe = describe
    }

    /// The job was created and scheduled.
    /// - Returns: the job with the priority and level that the handlers set.
    func opened(_ job: Job) async -> Job {
        guard handlers.isActive else { return job }
        let started = job.applying(await handlers.jobStart(await describe(job, .created, nil)))
        return started.applying(await handlers.jobInit(await describe(started, .created, nil)))
    }

    /// An attempt is about to start. Its priority no longer affects the order of jobs.
    func aboutToRun(_ job: Job) async -> Job {
        guard handlers.isActive else { return job }
        return job.applying(await handlers.jobRun(await describe(job, .created, nil)))
    }

    /// The job has ended.
    func ended(_ job: Job, _ status: JobStatus) async {
        guard handlers.isActive else { return }
        await handlers.jobEnd(await describe(job, status, nil))
    }

    /// A new home needs a volume.
    /// - Parameters:
    ///   - pool: of the volumes.
    ///   - volumes: that with the most free space first.
    /// - Returns: one of the volumes; nil: the daemon chooses.
    public func newVolume(for job: Job, of pool: String, among volumes: [String]) async -> String? {
        guard handlers.isActive else { return nil }
        var needing = await describe(job, .waitingForNewMedia, volumes.first)
        needing.pool = pool
        needing.volumes = volumes.count
        return await handlers.newVolume(needing, volumes: volumes).volumeName
    }

    /// An archived home has been purged from a volume.
    public func volumePurged(_ volume: String, of job: Job) async {
        guard handlers.isActive else { return }
        var purged = await describe(job, .running, volume)
        purged.volumeName = volume
        await handlers.volumePurged(purged)
    }
}

extension Job {
    fileprivate func applying(_ effect: EventEffect) -> Job {
        var job = self
        job.priority = effect.priority ?? priority
        job.level = effect.level ?? level
        return job
    }
}
