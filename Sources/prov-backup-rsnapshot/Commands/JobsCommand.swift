import ArgumentParser
import Daemon
import JobCore

struct JobsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "jobs", abstract: "List jobs, look at one, cancel one, or run a script of the settings as a job.",
        discussion: "List and show work without a daemon too, from what has been recorded.",
        subcommands: [List.self, Show.self, Cancel.self, Run.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List jobs of the past and of this moment, the newest last.",
            discussion: "Exit status: 0, or 1 when the history cannot be read and only what is open could be listed.")

        @OptionGroup var files: SettingsOptions
        @Option(help: "Only those of this account's uid, or of this script's name.") var account: String?
        @Option(help: "Only those of this type: Provisioning, Backup, Admin, Purge.") var type: String?
        @Option(help: ArgumentHelp("Only those with one of these status letters.", valueName: "letters"))
        var status: String?
        @Option(help: ArgumentHelp("Only those asked for since \(TimeArgument.forms).", valueName: "time"))
        var since: String?
        @Option(help: ArgumentHelp("Only those asked for until then.", valueName: "time")) var until: String?
        @Option(help: "The newest so many.") var limit = 50
        @OptionGroup var output: OutputOptions
        @Flag(help: "Go on with every change, until interrupted.") var follow = false

        func validate() throws {
            guard (1...100_000).contains(limit) else {
                throw ValidationError("--limit: \(limit) is not possible; give a number from 1 to 100000.")
            }
            _ = try query(now: SystemWallClock().now)
        }

        func run() async throws {
            let jobs = try JobsOfDaemon(files)
            let query = try query(now: SystemWallClock().now)
            var (list, isLive) = try await jobs.list(query)
            var table = TextTable(JobText.headings)
            if output.json {
                for line in list.lines { try printJSON(line) }
            } else {
                table.lines(list.jobs.map(JobText.row)).forEach { print($0) }
            }
            if let missing = list.missing {
                guard follow else { throw jobs.incomplete(missing) }
                printError(jobs.incomplete(missing).description)
            }
            guard follow else { return }
            var known = Dictionary(list.jobs.map { ($0.id, $0.news) }, uniquingKeysWith: { _, last in last })
            while true {
                guard isLive else { throw jobs.noDaemon("what is recorded stands above") }
                StandardOutput.flush()
                try await Task.sleep(for: JobsOfDaemon.interval)
                (list, isLive) = try await jobs.list(query)
                for job in list.jobs where known[job.id] != job.news {
                    known[job.id] = job.news
                    try output.show(JobLine(job), table.line(JobText.row(job)))
                }
            }
        }

        func query(now: Timestamp) throws -> JobFilter {
            var query = JobFilter(client: account, limit: limit)
            query.type = type.map { type in
                [JobType.provisioning, .backup, .admin, .purge].map(\.rawValue).first {
                    $0.lowercased() == type.lowercased()
                }
                    ?? type
            }
            if let status {
                try JobLetters.check(status)
                query.statuses = status
            }
            query.since = try since.map { try TimeArgument.parse($0, option: "--since", now: now) }
            query.until = try until.map { try TimeArgument.parse($0, option: "--until", now: now, meansEnd: true) }
            return query
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show everything of a job: its attempts, steps, scripts, output and report.",
            discussion: "Exit status: 0, or 1 when there is no such job or the history cannot be read.")

        @OptionGroup var job: JobArgument
        @OptionGroup var output: OutputOptions
        @Flag(help: "Go on with what is new, until the job ends.") var follow = false

        func validate() throws {
            if output.json && follow { throw ValidationError("--json and --follow exclude each other; leave one out.") }
        }

        func run() async throws {
            let jobs = try JobsOfDaemon(job.files)
            guard let found = try await jobs.job(job.id) else { throw jobs.unknown(job.id) }
            try output.show(found, JobText.lines(found).joined(separator: "\n"))
            if follow { try await jobs.follow(job.id, after: found) }
            if let missing = found.missing { throw jobs.incomplete(missing) }
        }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Ask a job to end.",
            discussion: "A pre or post script that runs just now is let finish; then the job ends as canceled.")

        @OptionGroup var job: JobArgument

        func run() async throws {
            let (jobs, id) = (try JobsOfDaemon(job.files), job.id)
            if try await jobs.control.cancel(id) {
                return print("job \(id) is asked to end; to see it end: prov-backup-rsnapshot jobs show \(id) --follow")
            }
            guard let job = try await jobs.job(id) else { throw jobs.unknown(id) }
            throw CommandFailure(
                "job \(id) has ended already: \(job.result?.rawValue ?? "how is not recorded")",
                hint: "there is nothing to cancel")
        }
    }

    struct Run: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Run a script of the settings, section [Job NAME], as a job now.",
            discussion: "Prints the job's number. With --wait the exit status is 0 when the job did well, else 1.")

        @OptionGroup var files: SettingsOptions
        @Argument(help: "The name in [Job NAME].") var name: String
        @Flag(help: "Show what it does until it has ended.") var wait = false

        func run() async throws {
            let jobs = try JobsOfDaemon(files)
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
    /// Itself, without what changes with every look.
    fileprivate var news: Job {
        var job = self
        if isOpen { job.seconds = nil }
        return job
    }
}
