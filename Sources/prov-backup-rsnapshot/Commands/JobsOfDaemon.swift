import Daemon
import Glibc
import JobCore
import SystemPackage

/// Jobs as commands see them: by the daemon where it runs, else as they were recorded.
struct JobsOfDaemon {
    /// Between two looks of a command that follows.
    static let interval = Duration.seconds(1)

    private let files: SettingsOptions
    let control: DaemonControl

    /// - Throws: `CommandFailure` when it cannot be told from the settings where the daemon listens.
    init(_ files: SettingsOptions) throws {
        self.files = files
        control = try files.control()
        // A wrong time zone is no reason to show nothing.
        if let zone = try? files.value(of: \ServiceSettings.timeZone), !zone.isEmpty { setenv("TZ", zone, 1) }
    }

    /// - Returns: the jobs, the oldest first, and whether a daemon said so.
    func list(_ query: JobFilter) async throws -> (list: JobList, isLive: Bool) {
        if let list = try await control.jobs(query) { return (list, true) }
        return (try await recorded().list(query), false)
    }

    /// - Returns: nil when there is no such job.
    func job(_ id: UInt64) async throws -> Job? {
        if let answer = try await control.job(id) { return answer }
        return try await recorded().job(JobID(id))
    }

    /// The account's newest job of a type; nil when nothing is recorded, or what is recorded cannot be read.
    func last(_ type: JobType, ofAccount uid: String) async -> Job? {
        do {
            let query = JobFilter(client: uid, type: type.rawValue, limit: 1)
            return try await list(query).list.jobs.last
        } catch {
            return nil
        }
    }

    /// Prints what is new of a job until it has ended, or no daemon runs any more.
    /// - Parameter known: what has been printed.
    /// - Returns: how it ended.
    /// - Throws: `CommandFailure` when that is not known.
    @discardableResult
    func follow(_ id: UInt64, after known: Job? = nil) async throws -> Job {
        var follower = JobFollower(known: known)
        var last = known
        while true {
            if let job = last, !job.isOpen {
                print(Self.end(of: job))
                return job
            }
            StandardOutput.flush()
            if last != nil { try await Task.sleep(for: Self.interval) }
            guard let answer = try await control.job(id) else {
                throw noDaemon("the job goes on when it starts again")
            }
            guard let job = answer else {
                throw CommandFailure(
                    "job \(id) has ended, and nothing of it is recorded",
                    hint: "how it ended stands in the daemon's log")
            }
            follower.news(job).forEach { print($0) }
            last = job
        }
    }

    /// `job 7 server_backup: failed after 12 s: why`
    static func end(of job: Job) -> String {
        "job \(job.id) \(JobText.name(job)) \(job.client): \(job.result?.rawValue ?? job.meaning)"
            + (job.seconds.map { " after \(JobText.span($0))" } ?? "") + (job.message.isEmpty ? "" : ": \(job.message)")
    }

    func unknown(_ id: UInt64) -> CommandFailure {
        CommandFailure("there is no job \(id)", hint: "look it up with: prov-backup-rsnapshot jobs list")
    }

    func noDaemon(_ remark: String) -> CommandFailure {
        control.noDaemon(", so there is nothing to follow; \(remark)")
    }

    /// The daemon has shown what is open, and cannot look up the rest.
    func incomplete(_ missing: String) -> CommandFailure {
        CommandFailure(
            "what is not of this moment is missing: \(missing)", hint: "the daemon's log says what becomes of it")
    }

    private func recorded() throws -> JobCatalog {
        let file =
            try files.value(of: \HistorySettings.file)
            ?? HistorySettings().file(in: try files.value(of: \ServiceSettings.stateDirectory))
        do throws(HistoryError) {
            return JobCatalog(history: try HistoryReader(file: file))
        } catch {
            throw control.noDaemon(", and \(error)")
        }
    }
}

extension AcceptedJobs {
    /// Says on standard error what is not as it should be.
    func warn() {
        guard let unrecorded else { return }
        printError(
            "warning: the \(jobs.count == 1 ? "job runs" : "jobs run") but cannot be recorded, and would be lost if the daemon were killed: \(unrecorded)"
        )
    }
}
