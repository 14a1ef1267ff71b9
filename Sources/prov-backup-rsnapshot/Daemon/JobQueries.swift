import Glibc
import JobCore

/// Looks up jobs: open ones in the registry, others in the history.
extension DaemonJobs {
    /// - Returns: the newest jobs that the filter includes.
    func list(_ filter: JobFilter) async -> JobList {
        let open = registry.live().map { $0.seen(at: clock.now) }
        var (past, missing): ([Job], String?) = ([], nil)
        do throws(HistoryError) {
            past = try await history.jobs(matching: filter).map(asRecorded)
        } catch {
            missing = "\(error)"
        }
        let numbers = Set(open.map(\.id))
        let all = past.filter { !numbers.contains($0.id) } + open.filter(filter.includes)
        return JobList(Array(all.sorted { $0.id < $1.id }.suffix(max(1, filter.limit))), missing: missing)
    }

    /// - Returns: the known ones of these jobs.
    func jobs(_ ids: [JobID]) async throws -> [Job] {
        var found: [Job] = []
        for id in ids {
            if let job = open(id) {
                found.append(job)
            } else if let job = try await history.job(id) {
                found.append(job)
            }
        }
        return found
    }

    /// - Returns: a job with its long parts; nil: unknown.
    /// - Throws: if it is not open and the history cannot be read.
    func job(_ id: JobID) async throws -> Job? {
        let output = registry.output(of: id)
        let before = open(id)
        var (recorded, missing): (Job?, String?) = (nil, nil)
        do throws(HistoryError) {
            recorded = try await history.job(id)
        } catch {
            guard open(id) != nil else { throw error }
            missing = "\(error)"
        }
        guard var job = open(id) else { return recorded.map(asRecorded) }
        job.missing = missing
        if let recorded {
            // Only the history has the long parts.
            (job.attempts, job.steps, job.statuses) = (recorded.attempts, recorded.steps, recorded.statuses)
            job.report = recorded.report
        }
        // The output of a step that has just ended may already be part of the steps.
        if before?.step == job.step, before?.attempt == job.attempt { job.output = output }
        return job
    }

    /// An open job runs only if it is in the registry: not before the daemon has resumed it.
    private func asRecorded(_ job: Job) -> Job {
        registry.live(job.id) == nil ? job.asRecorded("not resumed yet") : job
    }

    private func open(_ id: JobID) -> Job? { registry.live(id)?.seen(at: clock.now) }
}

extension Job {
    /// An open job with its duration so far.
    func seen(at now: Timestamp) -> Job {
        var job = self
        job.seconds = started.map { (now - $0).seconds }
        return job
    }

    /// A job of the history. An open one does not run.
    /// - Parameter reason: why it does not run.
    func asRecorded(_ reason: String) -> Job {
        guard isOpen else { return self }
        var job = self
        job.meaning = "not ended; \(reason)"
        return job
    }
}

/// Jobs without details, sorted by number.
struct JobList: Codable, Hashable, Sendable {
    var lines: [JobLine]
    /// Why jobs that have ended are missing, with the hint; nil: they are not missing.
    var missing: String?

    init(_ jobs: [Job], missing: String? = nil) {
        lines = jobs.map(JobLine.init)
        self.missing = missing
    }

    var jobs: [Job] { lines.map(\.job) }
}

extension Job { var isGood: Bool { result?.isSuccess ?? false } }

extension Timestamp {
    /// In local time: `YYYY-MM-DD hh:mm:ss`.
    var local: String {
        var seconds = time_t(secondsSince1970)
        var broken = tm()
        guard localtime_r(&seconds, &broken) != nil else { return "?" }
        var buffer = [CChar](repeating: 0, count: 32)
        let count = strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M:%S", &broken)
        return String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension CapturedOutput {
    /// The number of all bytes, also of dropped ones.
    var count: Int { head.count + dropped + tail.count }

    /// The output after the first `seen` bytes: kept bytes, the number of dropped bytes, and the kept bytes after them.
    func since(_ seen: Int) -> (before: [UInt8], dropped: Int, after: [UInt8]) {
        let before = head.dropFirst(seen)
        let beyond = max(0, seen - head.count)
        return (Array(before), max(0, dropped - beyond), Array(tail.dropFirst(max(0, beyond - dropped))))
    }
}
