import ArgumentParser
import BackupService
import Daemon
import Glibc
import JobCore

struct BackupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup", abstract: "Make snapshots of a level, of every account that has it or of some.",
        discussion: """
            The daemon makes them, as jobs. Exit status: 0 when all did well, 1 when any failed, 69 when no daemon runs or the \
            directory is away.
            """)

    @OptionGroup var files: SettingsOptions
    @Argument(help: "One of \(BackupCommand.levels).") var level: String
    @Option(name: .customLong("account"), help: "An account's uid; may be given more than once.")
    var accounts: [String] = []
    @Flag(help: "Also where the last one is less than half of the level's period old.") var force = false
    @Flag(name: .customLong("no-wait"), help: "Print the jobs' numbers and leave.") var leavesAtOnce = false

    private static let levels = SnapshotLevel.allCases.map(\.rawValue).joined(separator: ", ")

    func validate() throws {
        guard SnapshotLevel(rawValue: level) != nil else {
            throw ValidationError(
                "There is no level \(OneLine.escaping(String(level.prefix(40)))); there are \(Self.levels).")
        }
    }

    func run() async throws {
        let control = try files.control()
        let accepted = try await control.backup(level, accounts: accounts, isForced: force)
        accepted.warn()
        if accepted.recent > 0 {
            printError(
                "left out since their last \(level) snapshot is less than half of a period old: \(accepted.recent) accounts (--force)"
            )
        }
        let ids = accepted.jobs
        if leavesAtOnce { return ids.forEach { print($0) } }
        guard !ids.isEmpty else {
            return accepted.recent > 0 ? () : print("no account of this host has the level \(level)")
        }
        let outcome = try await BackupWatch(level: level, ids: ids.map { JobID($0) }).untilAllEnd { ids in
            try await Task.sleep(for: JobsOfDaemon.interval)
            return try await control.jobs(ids)
        }
        if !outcome { throw ExitCode(ProcessExitStatus.failure.rawValue) }
    }
}

/// Jobs that are waited for, with a bar on a terminal and a line for each elsewhere.
struct BackupWatch {
    private let level: String
    private var progress: BackupProgress
    private let isTerminal = isatty(STDOUT_FILENO) == 1 && isatty(STDERR_FILENO) == 1

    init(level: String, ids: [JobID]) {
        self.level = level
        progress = BackupProgress(ids: ids)
    }

    /// - Parameter look: how the jobs with these numbers stand after a while; those that it leaves out are known to nobody.
    /// - Returns: whether all did well.
    func untilAllEnd(_ look: ([JobID]) async throws -> [Job]) async throws -> Bool {
        var progress = progress
        var bar = ProgressBar(title: "backup \(level)", total: progress.total)
        var told: [Job] = []
        do {
            while !progress.open.isEmpty {
                let before = progress.done
                let ended = progress.take(try await look(progress.open))
                bar.advance(by: progress.done - before)
                if isTerminal { told += ended } else { ended.forEach(tell) }
                StandardOutput.flush()
            }
        } catch {
            bar.finish()
            told.filter { !progress.isPlain($0) }.forEach(tell)
            throw error
        }
        bar.finish()
        told.filter { !progress.isPlain($0) }.forEach(tell)
        print(progress.summary)
        return progress.isGood
    }

    private func tell(_ job: Job) { print(JobsOfDaemon.end(of: job)) }
}

/// How far jobs are that were asked for together.
struct BackupProgress {
    /// Those that have not ended.
    private(set) var open: [JobID]
    /// Of `total`; it never falls.
    private(set) var done = 0
    /// A hundred for each job.
    let total: Int
    private var results: [String: Int] = [:]
    private var good = 0
    private var lost = 0

    init(ids: [JobID]) {
        open = ids
        total = ids.count * 100
    }

    /// - Parameter jobs: how the open jobs stand. One that is missing is known to nobody, and cannot have done well.
    /// - Returns: those that have ended since.
    mutating func take(_ jobs: [Job]) -> [Job] {
        let known = Dictionary(jobs.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        let ended = open.compactMap { known[$0] }.filter { !$0.isOpen }
        lost += open.count { known[$0] == nil }
        open = open.filter { known[$0]?.isOpen ?? false }
        for job in ended {
            results[job.result?.rawValue ?? job.meaning, default: 0] += 1
            if job.isGood { good += 1 }
        }
        let under = open.compactMap { known[$0]?.progress }.reduce(0, +)
        done = max(done, total - open.count * 100 + under)
        return ended
    }

    /// Whether all did well; warnings are well.
    var isGood: Bool { open.isEmpty && good * 100 == total }

    /// Nothing is to be said of it.
    func isPlain(_ job: Job) -> Bool { job.result == .success && job.message.isEmpty }

    /// `3 jobs: 2 success, 1 warnings`
    var summary: String {
        var parts = results.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
        if lost > 0 { parts.append("\(lost) without a record: see the daemon's log") }
        return "\(total / 100) \(total == 100 ? "job" : "jobs"): " + parts.joined(separator: ", ")
    }
}
