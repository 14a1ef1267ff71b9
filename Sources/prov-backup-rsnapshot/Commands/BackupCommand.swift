import ArgumentParser
import BackupService
import Daemon
import Glibc
import JobCore
import Provisioning

struct BackupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup", abstract: "Make snapshots of a level for all accounts that have it, or for some.",
        discussion: """
            The daemon makes them as jobs. Ctrl-C ends only the waiting, and the jobs go on; jobs cancel ends one. Exit status: 0 when \
            all succeeded, 1 when any failed, 69 when no daemon runs or the LDAP server is unavailable.
            """)

    @OptionGroup var files: SettingsOptions
    @Argument(help: "One of \(BackupCommand.levels).") var level: String
    @Option(name: .customLong("account"), help: "An account's uid; may be given more than once.")
    var accounts: [String] = []
    @Flag(help: "Even if the last one is less than half of the level's period old.") var force = false
    @Flag(name: .customLong("no-wait"), help: "Print the jobs' numbers and exit.") var leavesAtOnce = false

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
                "skipped \(HealthReport.accounts(accepted.recent)): the last \(level) snapshot was made less than half a period ago (--force makes another)"
            )
        }
        let ids = accepted.jobs
        if leavesAtOnce { return ids.forEach { print($0) } }
        guard !ids.isEmpty else {
            return accepted.recent > 0 ? () : print("no account of this host has the level \(level)")
        }
        if try await !follow(ids.map { JobID($0) }, control) { throw ExitCode(ProcessExitStatus.failure.rawValue) }
    }

    /// Waits for the jobs, with a progress bar on a terminal, otherwise with a line for each job.
    /// - Returns: whether all succeeded.
    private func follow(_ ids: [JobID], _ control: DaemonControl) async throws -> Bool {
        let isTerminal = isatty(STDOUT_FILENO) == 1 && isatty(STDERR_FILENO) == 1
        var progress = BackupProgress(ids: ids)
        var bar = ProgressBar(title: "backup \(level)", total: progress.total)
        var ended: [Job] = []
        func finish() {
            bar.finish()
            for job in ended where !progress.isPlain(job) { print(JobText.end(of: job)) }
        }
        do {
            while !progress.open.isEmpty {
                let before = progress.done
                try await Task.sleep(for: JobLookup.interval)
                let new = progress.take(try await control.jobs(progress.open))
                bar.advance(by: progress.done - before)
                if isTerminal { ended += new } else { new.forEach { print(JobText.end(of: $0)) } }
                StandardOutput.flush()
            }
        } catch {
            finish()
            throw error
        }
        finish()
        print(progress.summary)
        return progress.isGood
    }
}

/// The progress of jobs that were submitted together.
struct BackupProgress {
    /// Jobs that have not ended.
    private(set) var open: [JobID]
    /// Of `total`; never decreases.
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

    /// - Parameter jobs: the open jobs. A missing one is unknown and counts as failed.
    /// - Returns: the jobs that have ended since the last call.
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

    /// Whether all succeeded, also with warnings.
    var isGood: Bool { open.isEmpty && good * 100 == total }

    /// Whether there is nothing to report.
    func isPlain(_ job: Job) -> Bool { job.result == .success && job.message.isEmpty }

    /// `3 jobs: 2 success, 1 warnings`
    var summary: String {
        var parts = results.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
        if lost > 0 { parts.append("\(lost) without a record: see the daemon's log") }
        return "\(total / 100) \(total == 100 ? "job" : "jobs"): " + parts.joined(separator: ", ")
    }
}

struct SnapshotsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshots", abstract: "Accept that an account contains far less than before.",
        subcommands: [Accept.self])

    struct Accept: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Accept the size of an account's newest copy.",
            discussion: """
                After a copy with less than a tenth of the files or bytes of the last full one, or a partial copy after a whole one, \
                the full one is kept until a copy is full again. If the customer deleted the files on purpose, or the kept snapshot \
                is not needed, this command ends the warning, and the next backup removes the kept snapshot. Run it as root on \
                the backup server.
                """)

        @OptionGroup var account: AccountArgument

        func run() async throws {
            let (settings, name) = (try account.files.load(), account.account)
            let accounts = try await AccountStore(settings)
            let entry = try await accounts.entry(of: name, attributes: BackupJobs.inspectedAttributes)
            guard let found = Account(entry, names: accounts.scope.names) else {
                throw CommandFailure(
                    "\(entry.dn) takes no part in provisioning",
                    hint: "see: \(AccountCommand.explain.text(entry.accountReference))")
            }
            do {
                guard let size = try BackupJobs.acceptNewestCopy(of: found, settings.backup) else {
                    print("\(name): nothing to accept: the newest copy is full")
                    return
                }
                print("\(name): accepted \(size.files) files with \(size.bytes) bytes")
            } catch let failure as ProvisioningFailure {
                throw CommandFailure(
                    "\(name): \(failure.reason)", hint: failure.hint,
                    status: failure.failureClass == .retryable ? .tryAgain : .failure)
            }
        }
    }
}
