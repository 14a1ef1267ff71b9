import ArgumentParser
import Daemon
import LDAP
import JobCore
import Provisioning

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show what runs, waits and has failed.")

    @OptionGroup var files: SettingsOptions
    @OptionGroup var output: OutputOptions
    @Flag(help: "Repeat every two seconds, until interrupted.") var watch = false

    func run() async throws {
        while true {
            let overview = try await Overview(asking: files)
            if watch, !output.json { StandardOutput.write("\u{1B}[H\u{1B}[2J") }
            try output.show(overview, overview.text)
            guard watch else { return }
            StandardOutput.flush()
            try await Task.sleep(for: .seconds(2))
        }
    }
}

/// The state of the daemon, and the unfinished accounts on the LDAP server.
struct Overview: Encodable {
    let daemon: DaemonStatus?
    /// The backup that has been running longest.
    let longestBackup: JobLine?
    /// Of the LDAP server. The names in the JSON must not change.
    let directory: UnfinishedAccounts.Counts?
    let directoryError: String?
    let failedUIDs: [String]
    /// With an invalid mode or state.
    let invalidUIDs: [String]
    /// Requests that other daemons have claimed; nil: none is, or they are unknown.
    let othersClaims: [UnfinishedAccounts.OthersClaim]?
    /// `[Backup Jobs] SLOTS`.
    let backupSlots: Int?

    /// Asks the daemon; without one, the LDAP server with the caller's settings.
    init(asking files: SettingsOptions) async throws {
        let control = try files.control()
        daemon = try await control.status()
        longestBackup = Self.longestBackup(daemon?.jobs.map(\.job) ?? []).map(JobLine.init)
        var slots = daemon?.backupSlots
        var accounts: UnfinishedAccounts?
        var error: String?
        do {
            if let daemon {
                // The daemon's status says why the LDAP server is unavailable.
                if daemon.isDirectoryAvailable, daemon.refusedCredentials == nil {
                    accounts = try await control.unfinishedAccounts()
                }
            } else {
                let configuration = try files.load()
                slots = configuration.backupJobs.slots
                accounts = try await UnfinishedAccounts(
                    AccountStore(configuration), configuration.engine.policy)
            }
        } catch let thrown {
            guard let failure = CommandFailure(thrown) else { throw thrown }
            error = failure.description
        }
        (backupSlots, directory, directoryError) = (slots, accounts?.counts, error)
        failedUIDs = accounts?.failedUIDs ?? []
        invalidUIDs = accounts?.invalidUIDs ?? []
        othersClaims = accounts.flatMap { $0.othersClaims.isEmpty ? nil : $0.othersClaims }
    }

    private static func running(_ jobs: [Job]) -> [Job] {
        jobs.filter { $0.type == .backup && $0.status == .running }
    }

    static func longestBackup(_ jobs: [Job]) -> Job? {
        running(jobs).min { ($0.started ?? .distantFuture) < ($1.started ?? .distantFuture) }
    }

    var text: String {
        var rows =
            daemon.map(self.rows) ?? [("daemon", "does not run here; start it: systemctl start prov-backup-rsnapshot")]
        rows += [
            (
                "LDAP",
                directory.map {
                    "\($0.wished) requested, \($0.claimed) claimed, \($0.failed) failed"
                        + ($0.invalid > 0 ? ", \($0.invalid) with an invalid mode or state" : "")
                        + ($0.oldest.map { ", the oldest pending since \(Self.time(ofCSN: $0))" } ?? "")
                }
            ), ("LDAP", directoryError),
        ]
        if let othersClaims,
            let first = othersClaims.min(by: { ($0.since ?? .distantPast) < ($1.since ?? .distantPast) })
        {
            let since = first.since.map { " since \($0.local)" } ?? ""
            rows.append(
                ("claimed", "\(othersClaims.count) by other daemons, such as \(first.uid) by \(first.holder)\(since)"))
            if first.isOld(at: SystemWallClock().now) { rows.append(("to do", AccountCommand.explain.text(first.uid))) }
        }
        for (heading, uids) in [("failed", failedUIDs), ("invalid", invalidUIDs)] where !uids.isEmpty {
            rows.append((heading, uids.prefix(20).joined(separator: " ") + (uids.count > 20 ? " …" : "")))
        }
        rows.append(("to do", (failedUIDs + invalidUIDs).first.map(AccountCommand.explain.text)))
        return fieldLines(rows, width: 11).joined(separator: "\n")
    }

    private static func time(ofCSN csn: String) -> String { Timestamp(ofCSN: csn)?.local ?? csn }

    private func rows(_ daemon: DaemonStatus) -> [(String, String?)] {
        var rows: [(String, String?)] = [
            ("daemon", "runs: process \(daemon.pid), version \(daemon.version), since \(daemon.since.local)"),
            (
                "requests",
                "\(daemon.running.count) running, \(daemon.waiting) waiting, \(daemon.succeeded) done, \(daemon.failed) failed since the start"
            ), ("next due", daemon.nextDue?.local),
        ]
        if let first = daemon.behind.first {
            let accounts = HealthReport.accounts(daemon.behindCount)
            rows += [
                (
                    "behind",
                    "\(accounts) \(daemon.behind.count == 1 ? "waits" : "wait"), such as \(first.dn): the LDAP server shows outdated entries"
                ),
                ("to do", "prov-backup-rsnapshot accounts explain UID"),
            ]
        }
        if let deletes = daemon.deletes {
            rows += [
                (
                    "deletes",
                    "\(HealthReport.accounts(deletes.count)) to be deleted \(deletes.count == 1 ? "waits" : "wait"): \(deletes.reason)"
                ),
                ("to do", HourlyLimit.Summary.hint),
            ]
        }
        let clock = daemon.clockDoubtedUntil.map {
            "may be wrong; requests with a date wait until timedatectl says synchronized, at most until \($0.local)"
        }
        rows.append(("clock", clock))
        // The engine knows the attempts of accounts, the registry the jobs.
        let jobs = daemon.jobs.map(\.job)
        let known = Set(jobs.map(\.id)).subtracting(daemon.retrying.map(\.job))
        rows += jobs.filter { known.contains($0.id) }.map(Self.row)
        rows += daemon.running.filter { !known.contains($0.job) }.map {
            (
                "running",
                "job \($0.job)  \($0.operation)  \($0.dn)  attempt \($0.attempt)  \($0.step ?? "planning")  since \($0.since.local)"
            )
        }
        rows += daemon.retrying.map {
            ("retrying", "job \($0.job)  \($0.dn)  at \($0.next.local)  after attempt \($0.attempt): \($0.failure)")
        }
        let others = daemon.openJobs - Set(jobs.map(\.id)).union(daemon.retrying.map(\.job)).count
        if others > 0 {
            rows.append(
                ("", "and \(others) more jobs that wait or are tried again; see: prov-backup-rsnapshot jobs list"))
        }
        rows += daemon.shortages.map {
            ("delayed", "\(HealthReport.accounts($0.accounts)) since \($0.since.local): \($0.reason)")
        }
        if let waits = daemon.lockWaits {
            rows += waits.map { ("delayed", "\($0.dn) since \($0.since.local): \($0.reason)") }
            rows.append(("to do", LockWait.hint))
        }
        rows += (daemon.delayedJobs ?? []).map { ("delayed", "\($0.work) since \($0.since.local): \($0.reason)") }
        rows += backupRows(daemon)
        if let error = daemon.reloadError {
            rows += [("settings", "were not reloaded: \(error)"), ("to do", "prov-backup-rsnapshot check")]
        }
        rows.append(("handlers", daemon.scriptingError.map { "are not called: \($0)" }))
        rows.append(("history", daemon.historyError.map { "is not recorded: \($0)" }))
        let isAway =
            daemon.isDirectoryAvailable
            ? nil : "not connected; the daemon keeps trying" + (daemon.ldapError.map { ": \($0)" } ?? "")
        rows.append(("LDAP", daemon.refusedCredentials ?? isAway))
        return rows
    }

    /// What a job waits for before an attempt. New media are waited for within one.
    private static let waiting: Set<JobStatus> = [
        .waitingForStartTime, .waitingForClientResource, .waitingForMaximumJobs, .waitingForPriority,
    ]

    static func row(_ job: Job) -> (String, String?) {
        // A job between two attempts has started and waits.
        let since = waiting.contains(job.status) ? nil : job.started
        let parts = [
            "job \(job.id)", job.status.letter, "\(job.type) \(JobText.name(job))", job.client, JobText.doing(job),
            since.map { "since \($0.local)" } ?? job.meaning,
        ]
        return (since == nil ? "waiting" : "running", parts.filter { !$0.isEmpty }.joined(separator: "  "))
    }

    /// Backups: the numbers that `health` shows, the first accounts, and the longest running backup.
    private func backupRows(_ daemon: DaemonStatus) -> [(String, String?)] {
        let backups = daemon.backups
        var rows: [(String, String?)] = [
            ("backups", "failed for \(HealthReport.accounts(backups.failed)), overdue for \(backups.overdue)")
        ]
        rows += backups.problems.prefix(3).map { problem in
            let failure = problem.failure.map { "failed \($0.time.local) in job \($0.job): \($0.message)" }
            let overdue = problem.overdue.map { "overdue since \($0.local)" }
            let reasons = [overdue, failure].compactMap(\.self).joined(separator: ", ")
            return ("", "\(problem.account) \(problem.level): \(reasons)")
        }
        rows.append(("to do", backups.problems.first?.command))
        if let job = longestBackup?.job, let since = job.started {
            let used = Self.running(daemon.jobs.map(\.job)).count
            rows.append(
                (
                    "slots",
                    "\(used) of \(backupSlots.map(String.init) ?? "?") for backups in use, longest by account \(job.client): job \(job.id) since \(since.local)"
                ))
        }
        return rows
    }
}

extension UnfinishedAccounts {
    fileprivate init(_ accounts: AccountStore, _ policy: DecisionPolicy) async throws {
        self.init()
        try await accounts.forEach(accounts.scope.pending) { status, entry in
            add(pending: status, uid: entry.accountReference, policy)
        }
        let scope = accounts.scope
        try await accounts.forEachEntry(.or([scope.failed, scope.invalid].compactMap(\.self))) { entry in
            add(failedOrInvalid: entry, names: scope.names)
        }
    }
}
