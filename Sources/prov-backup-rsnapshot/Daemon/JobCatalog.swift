import JobCore

/// Jobs of the past and of this moment as one: what is open stands as the daemon knows it, everything else as it was recorded.
struct JobCatalog: Sendable {
    /// nil where no daemon runs.
    var desk: (any JobDesk)?
    var history: (any RecordedJobs)?
    var clock: any WallClock = SystemWallClock()

    /// - Returns: the newest that the query includes.
    /// - Throws: when there is neither a daemon nor a history that can be read.
    func list(_ query: JobQuery) async throws -> JobList {
        let open = openLines()
        var (past, missing): ([JobLine], String?) = ([], nil)
        do throws(HistoryError) {
            past = try await history?.jobs(matching: JobFilter(query)).map { asRecorded(JobLine($0)) } ?? []
        } catch {
            guard desk != nil else { throw error }
            missing = "\(error)"
        }
        let numbers = Set(open.map(\.id))
        let all = past.filter { !numbers.contains($0.id) } + open.filter(query.includes)
        return JobList(lines: Array(all.sorted { $0.id < $1.id }.suffix(max(1, query.limit))), missing: missing)
    }

    /// - Returns: those of these jobs that are known.
    func lines(of ids: [JobID]) async throws -> [JobLine] {
        let open = Dictionary(openLines().map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        var lines: [JobLine] = []
        for id in ids {
            if let line = open[id.number] {
                lines.append(line)
            } else if let course = try await history?.job(id) {
                lines.append(JobDetails(course).job)
            }
        }
        return lines
    }

    /// - Returns: nil when nobody knows the job.
    /// - Throws: when it is not open, and the history cannot be read.
    func details(_ id: JobID) async throws -> JobDetails? {
        let output = desk?.output(of: id)
        let before = open(id)
        var (recorded, missing): (JobDetails?, String?) = (nil, nil)
        do throws(HistoryError) {
            recorded = try await history?.job(id).map { JobDetails($0) }
        } catch {
            guard open(id) != nil else { throw error }
            missing = "\(error)"
        }
        guard let live = open(id) else {
            return recorded.map { recorded in
                var recorded = recorded
                recorded.job = asRecorded(recorded.job)
                return recorded
            }
        }
        var details = recorded ?? JobDetails(live)
        details.missing = missing
        details.job = JobLine(live, started: recorded?.job.started, now: clock.now)
        details.priority = live.job.priority
        details.isCanceled = live.isCanceled
        details.reported = live.reported?.rawValue
        details.droppedLines = live.droppedLines
        // The output of a step that has just ended may stand among the steps already.
        if before?.step == live.step, before?.attempt == live.attempt { details.output = output.map(JobOutput.init) }
        return details
    }

    /// Without a daemon nothing runs, whatever was recorded last.
    private func asRecorded(_ line: JobLine) -> JobLine {
        guard desk == nil, line.isOpen else { return line }
        var line = line
        line.meaning = "not ended; no daemon runs"
        return line
    }

    private func open(_ id: JobID) -> LiveJob? { desk?.live().first { $0.job.id == id } }

    private func openLines() -> [JobLine] {
        let now = clock.now
        return desk?.live().map { JobLine($0, now: now) } ?? []
    }
}

extension JobLine {
    /// An open job.
    /// - Parameter started: when its first attempt began, where that is known.
    init(_ live: LiveJob, started: Moment? = nil, now: WallTime) {
        let job = live.job
        let began = started ?? live.began.map(Moment.init)
        self.init(
            id: job.id.number, type: job.type.rawValue, level: job.level, name: job.name, client: job.client,
            status: live.status.letter, meaning: live.status.title, attempt: live.attempt, step: live.step,
            progress: live.progress, created: Moment(job.created), started: began,
            seconds: began.map { (now - $0.time).seconds }, isOpen: true)
    }
}

extension JobDetails {
    /// An open job of which nothing is recorded.
    init(_ live: LiveJob) {
        self.init(
            job: JobLine(live, now: live.job.created), uniqueName: live.job.uniqueName,
            subject: live.job.subject.description, priority: live.job.priority,
            report: live.report.map { Line(source: $0.source.rawValue, text: $0.text) },
            droppedLines: live.droppedLines)
    }
}

extension Duration {
    /// For people and JSON.
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
