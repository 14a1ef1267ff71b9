import ArgumentParser
import Daemon
import Glibc
import JobCore
import SystemPackage

struct JobsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "jobs", abstract: "List jobs, show one, cancel one, or run a script of the settings as a job.",
        discussion: "Without a daemon that answers, list and show use the job history.",
        subcommands: [List.self, Show.self, Cancel.self, Run.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List past and open jobs, the newest last.",
            discussion: "Exit status: 0, or 1 when the history cannot be read and only open jobs are listed.")

        @OptionGroup var files: SettingsOptions
        @Option(help: "Only jobs of the account or the script of this name.") var account: String?
        @Option(help: "Only jobs of this type: Provisioning, Backup, Admin, Purge.") var type: String?
        @Option(help: ArgumentHelp("Only jobs with one of these status letters.", valueName: "letters"))
        var status: String?
        @Option(help: ArgumentHelp("Only jobs submitted since \(TimeArgument.forms).", valueName: "time"))
        var since: String?
        @Option(help: ArgumentHelp("Only jobs submitted until then.", valueName: "time")) var until: String?
        @Option(help: "The maximum number of jobs; the newest are listed.") var limit = 50
        @OptionGroup var output: OutputOptions
        @Flag(help: "Print every change, until interrupted.") var follow = false

        func validate() throws {
            guard (1...100_000).contains(limit) else {
                throw ValidationError("--limit: \(limit) is not possible; give a number from 1 to 100000.")
            }
            _ = try query(now: SystemWallClock().now)
        }

        func run() async throws {
            let jobs = try JobLookup(files)
            let query = try query(now: SystemWallClock().now)
            var (list, isLive) = try await jobs.list(query)
            var table = TextTable(JobText.headings)
            if output.json {
                for line in list.lines { try printJSON(line) }
            } else {
                table.lines(list.jobs.map(JobText.row)).forEach { print($0) }
                if list.jobs.count == limit { printError("the newest \(limit) jobs; --limit lists more") }
            }
            if let missing = list.missing {
                guard follow else { throw jobs.incomplete(missing) }
                printError(jobs.incomplete(missing).description)
            }
            guard follow else { return }
            var known = Dictionary(list.jobs.map { ($0.id, $0.withoutDuration) }, uniquingKeysWith: { _, last in last })
            while true {
                guard isLive else { throw jobs.nothingToFollow("the recorded jobs are listed above") }
                StandardOutput.flush()
                try await Task.sleep(for: JobLookup.interval)
                (list, isLive) = try await jobs.list(query)
                for job in list.jobs where known[job.id] != job.withoutDuration {
                    known[job.id] = job.withoutDuration
                    try output.show(JobLine(job), table.line(JobText.row(job)))
                }
            }
        }

        func query(now: Timestamp) throws -> JobFilter {
            var query = JobFilter(client: account, limit: limit)
            query.type = try type.map { type in
                let all = [JobType.provisioning, .backup, .admin, .purge].map(\.rawValue)
                guard let known = all.first(where: { $0.lowercased() == type.lowercased() }) else {
                    throw ValidationError(
                        "--type: there is no type \(OneLine.escaping(type)); there are: \(all.joined(separator: ", "))."
                    )
                }
                return known
            }
            if let status {
                if let wrong = status.first(where: { JobStatus(rawValue: String($0)) == nil }) {
                    let all = JobStatus.allCases.map { "\($0.letter) \($0.title)" }.joined(separator: ", ")
                    throw ValidationError(
                        "--status: no status has the letter \(OneLine.escaping(String(wrong))); there are: \(all).")
                }
                query.statuses = status
            }
            query.since = try since.map { try TimeArgument.parse($0, option: "--since", now: now) }
            query.until = try until.map { try TimeArgument.parse($0, option: "--until", now: now, meansEnd: true) }
            return query
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show a job with its attempts, steps, scripts, output and report.",
            discussion: "Exit status: 0, or 1 when there is no such job or the history cannot be read.")

        @OptionGroup var files: SettingsOptions
        @Argument(help: "The job's number.") var id: UInt64
        @OptionGroup var output: OutputOptions
        @Flag(help: "Print new output and changes, until the job ends.") var follow = false

        func validate() throws {
            if output.json && follow { throw ValidationError("--json and --follow exclude each other; leave one out.") }
        }

        func run() async throws {
            let jobs = try JobLookup(files)
            guard let found = try await jobs.job(id) else { throw jobs.unknown(id) }
            try output.show(found, JobText.lines(found).joined(separator: "\n"))
            if follow { try await jobs.follow(id, after: found) }
            if let missing = found.missing { throw jobs.incomplete(missing) }
        }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Cancel a job.",
            discussion: "A running pre or post script may finish; then the job ends as canceled.")

        @OptionGroup var files: SettingsOptions
        @Argument(help: "The job's number.") var id: UInt64

        func run() async throws {
            let jobs = try JobLookup(files)
            let canceled = try await jobs.control.cancel(id)
            if canceled.isOpen {
                print("job \(id) is being canceled; to follow it: prov-backup-rsnapshot jobs show \(id) --follow")
                if let reason = canceled.unrecorded {
                    printError(
                        "warning: this cannot be recorded, and the job continues if the daemon is killed before it ends: \(reason)"
                    )
                }
                return
            }
            guard let job = try await jobs.job(id) else { throw jobs.unknown(id) }
            guard !job.isOpen else {
                throw CommandFailure(
                    "job \(id) was interrupted, and the daemon has not resumed it yet",
                    hint: "try again; if that does not help, see the log: it may be resumed at the next start",
                    status: .tryAgain)
            }
            throw CommandFailure(
                "job \(id) has ended already: \(job.result?.rawValue ?? "how is not recorded")",
                hint: "there is nothing to cancel")
        }
    }

    struct Run: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Run a script of the settings, section [Job NAME], as a job now.",
            discussion: """
                Prints the job's number. With --wait the exit status is 0 if the job succeeded, otherwise 1; Ctrl-C ends only the waiting, and \
                the job goes on (jobs cancel ends it).
                """)

        @OptionGroup var files: SettingsOptions
        @Argument(help: "The name in [Job NAME].") var name: String
        @Flag(help: "Show its output and changes until it has ended.") var wait = false

        func run() async throws {
            let jobs = try JobLookup(files)
            let accepted = try await jobs.control.run(name)
            accepted.warn()
            guard let id = accepted.jobs.first else { return }
            print(id)
            guard wait else { return }
            let ended = try await jobs.follow(id)
            if !ended.isGood { throw ExitCode(ProcessExitStatus.failure.rawValue) }
        }
    }
}

extension Job {
    /// Without the duration of an open job, which always changes.
    fileprivate var withoutDuration: Job {
        var job = self
        if isOpen { job.seconds = nil }
        return job
    }
}

/// Looks up jobs for commands: in the daemon, or in the history if none runs or it does not answer.
final class JobLookup {
    /// The interval of commands that follow jobs.
    static let interval = Duration.seconds(1)

    private let files: SettingsOptions
    let control: DaemonControl
    /// Why the daemon does not answer, which was printed and is not tried again; nil: it answers, or none runs.
    private var silence: CommandFailure?

    /// - Throws: `CommandFailure` if RUNTIME_DIRECTORY is unknown.
    init(_ files: SettingsOptions) throws {
        self.files = files
        control = try files.control()
    }

    /// - Returns: the jobs sorted by number, and whether they are the daemon's answer.
    func list(_ query: JobFilter) async throws -> (list: JobList, isLive: Bool) {
        if let list = try await ask({ try await $0.jobs(query) }) { return (list, true) }
        let jobs = try recorded().jobs(matching: query).map { $0.asRecorded(absence) }
        return (JobList(jobs.sorted { $0.id < $1.id }), false)
    }

    func job(_ id: UInt64) async throws -> Job? {
        if let answer = try await ask({ try await $0.job(id) }) { return answer }
        return try recorded().job(JobID(id))?.asRecorded(absence)
    }

    /// - Returns: nil: no daemon runs, or it does not answer.
    private func ask<Answer>(_ question: (DaemonControl) async throws -> Answer?) async throws -> Answer? {
        guard silence == nil else { return nil }
        do { return try await question(control) } catch let failure as CommandFailure where failure.status == .tryAgain
        {
            printError("warning: \(failure.reason); what follows is from the job history")
            silence = failure
            return nil
        }
    }

    /// Why an open job of the history is not known to run.
    private var absence: String { silence == nil ? "no daemon runs" : "the daemon does not answer" }

    /// An account's newest job of each type.
    struct LastJobs {
        var jobs: [JobType: Job] = [:]
        /// Why some are unknown; nil: they are known.
        var unknown: String?
    }

    func last(_ types: [JobType], ofAccount uid: String) async -> LastJobs {
        var last = LastJobs()
        do {
            for type in types {
                let list = try await list(JobFilter(client: uid, type: type.rawValue, limit: 1)).list
                last.jobs[type] = list.jobs.last
                if let missing = list.missing { throw incomplete(missing) }
            }
        } catch {
            // Before the daemon has run for the first time there is no history.
            let isMissing = (try? historyFile()).map { access($0.string, F_OK) != 0 && errno == ENOENT } ?? false
            if !isMissing { last.unknown = "the last jobs: \(error)" }
        }
        return last
    }

    /// Prints the changes of a job until it has ended.
    /// - Parameter known: the state that was already printed.
    /// - Returns: the job after its end.
    /// - Throws: `CommandFailure` if the daemon ends first or the job is not recorded.
    @discardableResult
    func follow(_ id: UInt64, after known: Job? = nil) async throws -> Job {
        var follower = JobFollower(known: known)
        var last = known
        while true {
            if let job = last, !job.isOpen {
                print(JobText.end(of: job))
                return job
            }
            StandardOutput.flush()
            if last != nil { try await Task.sleep(for: Self.interval) }
            guard let answer = try await control.job(id) else {
                throw nothingToFollow("the job continues when the daemon starts")
            }
            guard let job = answer else {
                throw CommandFailure(
                    "job \(id) has ended and is not recorded",
                    hint: "see the daemon's log")
            }
            // An answer without the history lacks lines that were printed already.
            if job.missing == nil { follower.lines(job).forEach { print($0) } }
            last = job
        }
    }

    func unknown(_ id: UInt64) -> CommandFailure {
        CommandFailure("there is no job \(id)", hint: "look it up with: prov-backup-rsnapshot jobs list")
    }

    func nothingToFollow(_ remark: String) -> CommandFailure {
        silence ?? control.noDaemon(", so there is nothing to follow; \(remark)")
    }

    /// The daemon cannot read its history, so only open jobs are shown.
    func incomplete(_ missing: String) -> CommandFailure {
        CommandFailure(
            "only open jobs are shown: \(missing)", hint: "see the daemon's log")
    }

    private func historyFile() throws -> FilePath {
        try files.value(of: \HistorySettings.file)
            ?? HistorySettings().file(in: try files.value(of: \ServiceSettings.stateDirectory))
    }

    private func recorded() throws -> HistoryReader {
        let file = try historyFile()
        do throws(HistoryError) {
            return try HistoryReader(file: file) { printError("warning: \($0.text)") }
        } catch {
            throw silence ?? control.noDaemon(", and \(error)")
        }
    }
}

extension AcceptedJobs {
    /// Prints a warning if the jobs are not recorded.
    func warn() {
        guard let unrecorded else { return }
        printError(
            "warning: the \(jobs.count == 1 ? "job runs" : "jobs run") but cannot be recorded, and will be lost if the daemon is killed: \(unrecorded)"
        )
    }
}
