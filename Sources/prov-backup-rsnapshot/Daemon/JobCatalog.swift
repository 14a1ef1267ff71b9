import JobCore

/// Jobs as they were recorded: by the daemon that runs, or for a command that reads the file itself.
protocol RecordedJobs: Sendable {
    /// The newest first.
    func jobs(matching filter: JobFilter) async throws(HistoryError) -> [Job]
    /// nil when there is no such job.
    func job(_ id: JobID) async throws(HistoryError) -> Job?
}

extension JobHistory: RecordedJobs {}
extension HistoryReader: RecordedJobs {}

/// Jobs of the past and of this moment as one: what is open stands as the daemon knows it, everything else as it was recorded.
@MainActor struct JobCatalog {
    /// nil where no daemon runs.
    var desk: (any JobDesk)?
    var history: (any RecordedJobs)?
    var clock: any WallClock = SystemWallClock()

    /// - Returns: the newest that the filter includes.
    /// - Throws: when there is neither a daemon nor a history that can be read.
    func list(_ filter: JobFilter) async throws -> JobList {
        let open = open()
        var (past, missing): ([Job], String?) = ([], nil)
        do throws(HistoryError) {
            past = try await history?.jobs(matching: filter).map(asRecorded) ?? []
        } catch {
            guard desk != nil else { throw error }
            missing = "\(error)"
        }
        let numbers = Set(open.map(\.id))
        let all = past.filter { !numbers.contains($0.id) } + open.filter(filter.includes)
        return JobList(Array(all.sorted { $0.id < $1.id }.suffix(max(1, filter.limit))), missing: missing)
    }

    /// - Returns: those of these jobs that are known.
    func jobs(_ ids: [JobID]) async throws -> [Job] {
        let open = Dictionary(open().map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        var jobs: [Job] = []
        for id in ids {
            if let job = open[id] {
                jobs.append(job)
            } else if let job = try await history?.job(id) {
                jobs.append(job)
            }
        }
        return jobs
    }

    /// Everything about a job.
    /// - Returns: nil when nobody knows it.
    /// - Throws: when it is not open, and the history cannot be read.
    func job(_ id: JobID) async throws -> Job? {
        let output = desk?.output(of: id)
        let before = open(id)
        var (recorded, missing): (Job?, String?) = (nil, nil)
        do throws(HistoryError) {
            recorded = try await history?.job(id)
        } catch {
            guard open(id) != nil else { throw error }
            missing = "\(error)"
        }
        guard var job = open(id) else { return recorded.map(asRecorded) }
        job.missing = missing
        if let recorded {
            // With the long parts, which are recorded alone.
            (job.attempts, job.steps, job.statuses) = (recorded.attempts, recorded.steps, recorded.statuses)
            job.report = recorded.report
        }
        // The output of a step that has just ended may stand among the steps already.
        if before?.step == job.step, before?.attempt == job.attempt { job.output = output }
        return job
    }

    /// Without a daemon nothing runs, whatever was recorded last.
    private func asRecorded(_ job: Job) -> Job {
        guard desk == nil, job.isOpen else { return job }
        var job = job
        job.meaning = "not ended; no daemon runs"
        return job
    }

    private func open(_ id: JobID) -> Job? { open().first { $0.id == id } }

    /// What is open, as it stands now.
    private func open() -> [Job] { desk?.live().map { $0.seen(at: clock.now) } ?? [] }
}

extension Job {
    /// An open one with the time that it has taken so far.
    func seen(at now: Timestamp) -> Job {
        var job = self
        job.seconds = started.map { (now - $0).seconds }
        return job
    }
}
