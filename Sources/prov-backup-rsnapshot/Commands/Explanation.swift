import BackupService
import Daemon
import JobCore
import LDAP
import Provisioning

/// The state of an account, the reason, and the next command.
struct Explanation: Encodable {
    let uid: String
    let dn: String
    /// nil: the entry takes no part in provisioning.
    let phase: String?
    let mode: String?
    let state: String?
    let returnValue: String?
    let meaning: String
    let daemon: String
    let hint: String
    /// nil: none is recorded.
    let lastJob: JobLine?
    private let unknownJobs: String?
    /// nil with `TYPE = Script`, and for an entry that takes no part.
    let backup: BackupExplanation?

    private enum CodingKeys: String, CodingKey {
        case uid, dn, phase, mode, state, returnValue, meaning, daemon, lastJob, backup
        // The name in the JSON must not change.
        case hint = "cure"
    }

    /// - Parameters:
    ///   - window: in which requests are carried out; nil: at any time.
    ///   - daemon: its status, nil: none runs here; or why it cannot be asked.
    init(
        entry: Entry, policy: DecisionPolicy, window: TimeWindow?, now: Timestamp,
        daemon: Result<DaemonStatus?, CommandFailure>,
        last: JobLookup.LastJobs, backup: BackupExplanation?
    ) {
        let (name, reference) = (entry.accountName, entry.accountReference)
        uid = OneLine.value(name)
        lastJob = last.jobs[.provisioning].map(JobLine.init)
        unknownJobs = last.unknown
        self.backup = backup
        dn = entry.dn.description
        guard let status = AccountStatus(entry, names: policy.names) else {
            (phase, mode, state, returnValue) = (nil, nil, nil, nil)
            let absence = AccountStatus.absence(from: entry, names: policy.names)
            meaning = "takes no part in provisioning: \(absence.reason)"
            self.daemon = Self.describe(daemon, nil)
            hint = absence.hint
            return
        }
        (phase, mode, state) = (
            status.phase.rawValue, OneLine.value(status.mode.description), OneLine.value(status.state)
        )
        returnValue = status.returnValue.map(OneLine.value)
        self.daemon = Self.describe(daemon, status.uuid)
        let daemonStatus = try? daemon.get()
        let isRunning = !daemon.isAbsent
        // What to do where the daemon alone does the rest.
        let nothing = isRunning ? "nothing" : "start the daemon: systemctl start prov-backup-rsnapshot"
        let start = isRunning ? "nothing; the daemon processes it" : nothing
        let (doubtedUntil, deletes) = (daemonStatus?.clockDoubtedUntil, daemonStatus?.deletes)
        if daemonStatus?.behind.contains(where: { $0.uuid == status.uuid }) == true {
            meaning =
                "requests \(status.mode.operation), and waits: the LDAP server has an older version of the entry than before; it lags, or was restored from a backup"
            // A claimed request is due. Another request may have a date, which `provision` would ignore.
            let again = status.phase == .claimed ? AccountCommand.provision : .retry
            hint = "wait until the server is up to date; if the request is correct: \(again.text(reference))"
            return
        }
        let isDeleteDelayed = deletes?.subjects.contains(status.uuid.description) == true
        switch policy.decide(status, now: now, start: daemonStatus?.since, isClockDoubted: { doubtedUntil != nil }) {
        case .claim(.delete) where isDeleteDelayed, .resume(.delete) where isDeleteDelayed:
            meaning = "requests delete, and waits: \(deletes?.reason ?? "")"
            hint = "\(HourlyLimit.Summary.hint); for this account alone: \(AccountCommand.provision.text(reference))"
        case .claim(let operation) where !(window?.contains(now) ?? true):
            let opening = window?.opening(after: now).local ?? "?"
            meaning = "requests \(operation), is due, and waits for the WINDOW of its hooks, which opens at \(opening)"
            hint = "\(nothing); to process it now: \(AccountCommand.provision.text(reference))"
        case .claim(let operation):
            meaning = "requests \(operation), and is due"
            hint = Self.delay(daemonStatus) ?? (isRunning ? "nothing; it is in the queue" : start)
        case .resume(let operation):
            meaning =
                "\(operation) was claimed and has no result yet: it is being processed, waits for its next attempt, or was interrupted"
            let isBusy = daemonStatus?.running.contains { $0.uuid == status.uuid } == true
            hint = isBusy ? start : Self.delay(daemonStatus) ?? start
        case .wait(let time):
            meaning =
                "requests \(status.mode.operation), on \(OneLine.value(status.date ?? "?")), from \(time.local)"
            hint = "\(nothing); to process it now: \(AccountCommand.provision.text(reference))"
        case .waitForClock:
            meaning =
                "requests \(status.mode.operation), on \(OneLine.value(status.date ?? "?")); that day has begun according to the machine's clock, which may be wrong"
            hint =
                "synchronize the clock (timedatectl); the request is processed at \(doubtedUntil?.local ?? "?") at the latest; to process it now: \(AccountCommand.provision.text(reference))"
        case .refuse(let failure):
            (meaning, hint) = ("would be refused: \(failure.reason)", failure.hint)
        case .leave(.failed(let value)):
            let failed = LeaveReason.failed(returnValue: value).description
            // A request that is refused has no job.
            if case .refuse(let refusal) = policy.decide(status.requestedAgain, now: now) {
                (meaning, hint) = ("\(failed): \(refusal.reason)", refusal.hint)
            } else {
                meaning = failed
                let cause = lastJob.map { "prov-backup-rsnapshot jobs show \($0.job.id)" } ?? "the daemon's log"
                hint = "fix the cause (\(cause)), then: \(AccountCommand.retry.text(reference))"
            }
        case .leave(let reason):
            meaning = reason.description
            hint =
                switch reason {
                case .otherHost, .noHost:
                    "if this daemon should serve it, set \(policy.names.host) of the entry, or HOST of this daemon"
                case .sharedHosts: "name exactly one backup server in \(policy.names.host) of the entry"
                case .claimed: "wait for that daemon; if it no longer exists: \(AccountCommand.release.text(reference))"
                case .overdue: "write the request again with today's date or 0, or set OVERDUE = run"
                case .nothingAsked: "write \(policy.names.state): 0 together with the mode"
                case .done where status.isActive != false && status.mode.operation != .delete:
                    backup?.failedAttempt.map { Self.hint(for: $0, name) } ?? backup?.hint ?? nothing
                case .done, .failed: nothing
                }
        }
    }

    /// What the account waits for; nil: for nothing outside of it.
    private static func delay(_ daemon: DaemonStatus?) -> String? {
        daemon?.shortages.first.map { "fix what delays provisioning; the daemon continues by itself: \($0.reason)" }
            ?? daemon?.lockWaits.map { _ in LockWait.hint }
    }

    private static func hint(for failed: BackupExplanation.Attempt, _ uid: String) -> String {
        "fix the cause (prov-backup-rsnapshot jobs show \(failed.job)), then: "
            + "prov-backup-rsnapshot backup \(failed.level) --account \(uid.shellWord) --force"
    }

    private static func describe(_ asked: Result<DaemonStatus?, CommandFailure>, _ uuid: EntryUUID?) -> String {
        let daemon: DaemonStatus
        switch asked {
        case .success(let status?): daemon = status
        case .success(nil): return "does not run here"
        case .failure(let failure): return "unknown: \(failure)"
        }
        let running = daemon.running.first { $0.uuid == uuid }
        if let running {
            return
                "runs it: job \(running.job), attempt \(running.attempt), step \(running.step ?? "planning"), since \(running.since.local)"
        }
        if let retry = daemon.retrying.first(where: { $0.uuid == uuid }) {
            let shortage = retry.shortageSince.map {
                "; a shortage of the machine delays it since \($0.local), for 24 hours at most"
            }
            return
                "retries it at \(retry.next.local): attempt \(retry.attempt) failed: \(retry.failure)\(shortage ?? "")"
        }
        if let wait = daemon.lockWaits?.first(where: { $0.uuid == uuid }) {
            return "waits since \(wait.since.local): \(wait.reason)"
        }
        return "runs (process \(daemon.pid)) and does not process it now"
    }

    var text: String {
        let returned = returnValue.map { value in
            let name = Int32(value).flatMap(ProvisioningExitCode.init)?.name
            return "\(value)" + (name.map { " (\($0))" } ?? "")
        }
        let rows: [(String, String?)] = [
            ("account", "\(uid)  \(dn)"),
            ("state", mode.map { "\($0) / \(state ?? "")" }),
            ("returned", returned),
            ("meaning", meaning),
            ("the daemon", daemon),
            // What is unknown is otherwise in the rows of the backup.
            ("last job", lastJob.map { JobText.end(of: $0.job) } ?? (backup == nil ? unknownJobs : nil)),
            ("to do", hint),
        ]
        return fieldLines(rows + (backup?.rows ?? []), width: 13).joined(separator: "\n")
    }
}

extension Result<DaemonStatus?, CommandFailure> {
    /// - Throws: `CommandFailure` if the daemon cannot be asked, unless the user is not permitted or it does not answer.
    /// - Parameter account: nil: its entry takes no part in provisioning.
    init(asking control: DaemonControl, of account: EntryUUID?) async throws {
        do {
            self = .success(try await control.status(of: account))
        } catch let refusal as CommandFailure where [.notAllowed, .tryAgain].contains(refusal.status) {
            self = .failure(refusal)
        }
    }

    var isAbsent: Bool { if case .success(nil) = self { true } else { false } }
}

/// The backups of an account: snapshots, next runs, and problems.
struct BackupExplanation: Encodable {
    struct Level: Encodable {
        let level: String
        /// The number of snapshots to keep: from the entry, or from `UID.conf` until a modify is done.
        let retain: Int
        let snapshots: Int
        let newest: Timestamp?
        /// The last job of the level with a complete snapshot.
        let lastGood: Timestamp?
        /// The schedule, in cron notation.
        let schedule: String?
        /// The next run, within WINDOW.
        let next: Timestamp?
        /// Since when a success is missing.
        let overdue: Timestamp?
    }

    struct Attempt: Encodable {
        let job: UInt64
        let level: String
        let began: Timestamp?
        /// nil: it runs, waits, or was interrupted.
        let result: String?
        let message: String
    }

    /// The last copy by this host, from the entry.
    let lastGood: Timestamp?
    let lastTry: Attempt?
    /// Bytes, from the entry.
    let size: UInt64?
    let increment: UInt64?
    let levels: [Level]
    /// Reasons why no backups are made, with hints.
    let inTheWay: [String]
    /// How to fix the first of them that can be fixed; nil: there is none.
    let hint: String?
    /// Differences from the settings that do not prevent backups, with hints.
    let notices: [String]
    /// Facts that could not be determined, with the reason.
    let unknown: [String]

    private enum CodingKeys: String, CodingKey {
        case lastGood, lastTry, size, increment, levels, inTheWay, notices, unknown
    }

    /// Reads the snapshots' directories.
    /// - Parameter last: the newest jobs of the account in the history.
    /// - Returns: nil with `TYPE = Script`, and for an entry that takes no part in provisioning.
    init?(
        _ entry: Entry, _ settings: DaemonConfiguration, now: Timestamp, hasDaemon: Bool, last: JobLookup.LastJobs
    ) {
        guard settings.script == nil, let account = Account(entry, names: settings.engine.scope.names) else {
            return nil
        }
        let inspection = BackupJobs.inspection(
            of: account, configuration: settings.backup, host: settings.backupJobs.host)
        let provisioned = Timestamp(text: account.status.state)
        let lastJob = last.jobs[.backup]
        let window = settings.policies[.backup]?.window
        lastGood = inspection.lastCopy
        size = inspection.size
        increment = inspection.increment
        lastTry = Self.lastTry(inspection.lastAttempt, lastJob)
        let isEligible = inspection.isProvisioned && account.status.isActive == true
        let first = inspection.levels.first { $0.retain > 0 }?.level
        levels = inspection.levels.map { found in
            let schedule = found.retain > 0 ? settings.backupJobs.schedules[found.level] : nil
            let run = isEligible ? schedule?.next(after: now) : nil
            // An unreadable state does not count as overdue.
            let due =
                !inspection.isStateKnown || run == nil
                ? nil
                : LevelTiming(found.level, settings.backupJobs).deadline(
                    lastSuccess: found.lastSuccess, lastCompletion: found.lastCompletion,
                    copies: found.level == first, provisioned: provisioned, window: window, now: now)
            return Level(
                level: found.level.rawValue, retain: found.retain, snapshots: found.snapshots.count,
                newest: found.snapshots.first.map(\.time), lastGood: found.lastSuccess, schedule: schedule?.description,
                next: run.map { window?.opening(after: $0) ?? $0 }, overdue: due.flatMap { $0 < now ? $0 : nil })
        }
        var (obstacles, hint) = (inspection.obstacles, inspection.hint)
        if let lastJob, lastJob.isOpen {
            obstacles.append("job \(lastJob.id) (\(lastJob.level)) has not ended: \(lastJob.meaning)")
        }
        let unscheduled = levels.filter { $0.retain > 0 && $0.schedule == nil }.map(\.level)
        if isEligible, !unscheduled.isEmpty {
            let keys = unscheduled.map { $0.uppercased() }.joined(separator: ", ")
            let setting = "set \(keys) in [Backup Jobs]"
            obstacles.append("no schedule makes \(unscheduled.joined(separator: ", ")) snapshots; \(setting)")
            hint = hint ?? setting
        }
        if isEligible, let opening = window?.opening(after: now), opening > now {
            obstacles.append("outside WINDOW until \(opening.local)")
        }
        if !hasDaemon { obstacles.append("no daemon runs here; start it: systemctl start prov-backup-rsnapshot") }
        (inTheWay, self.hint) = (obstacles, hint)
        notices = inspection.notices
        unknown = inspection.unknown + [last.unknown].compactMap(\.self)
    }

    /// The newest attempt, if it has failed and was not cancelled.
    var failedAttempt: Attempt? {
        guard let lastTry, let result = lastTry.result.flatMap(JobResult.init), !result.isSuccess, result != .aborted
        else { return nil }
        return lastTry
    }

    /// The attempt that is recorded with the snapshots, or a newer job of the history.
    static func lastTry(_ attempt: SnapshotState.Attempt?, _ job: Job?) -> Attempt? {
        // Of two jobs the numbers do not tell which is newer: they begin again when the daemon's state is lost. The end of a job that was cancelled,
        // or that was not resumed after a crash, is not recorded with the snapshots.
        if let attempt,
            attempt.job == job?.id.number
                ? attempt.result != nil || job?.isOpen == true : attempt.beganAt > job?.started ?? .distantPast
        {
            return Attempt(
                job: attempt.job, level: attempt.level, began: attempt.beganAt, result: attempt.result,
                message: attempt.message)
        }
        return job.map {
            Attempt(
                job: $0.id.number, level: $0.level, began: $0.started, result: $0.result?.rawValue, message: $0.message)
        }
    }

    var rows: [(String, String?)] {
        let sizes = [
            size.map { "\($0) bytes in total" }, increment.map { "\($0) bytes only in the newest" },
        ].compactMap(\.self).joined(separator: ", ")
        var rows: [(String, String?)] = [
            ("last backup", lastGood?.local ?? "never, according to the entry"),
            ("last attempt", lastTry.map(Self.text) ?? "none is recorded"),
            ("sizes", sizes.isEmpty ? nil : sizes),
        ]
        rows += levels.map { ($0.level, Self.text($0)) }
        rows += inTheWay.map { ("problem", $0) }
        rows += notices.map { ("notice", $0) }
        rows += unknown.map { ("unknown", $0) }
        return rows
    }

    private static func text(_ last: Attempt) -> String {
        "job \(last.job) \(last.level)" + (last.began.map { ", \($0.local)" } ?? "")
            + ": \(last.result ?? "not ended")" + (last.message.isEmpty ? "" : ": \(last.message)")
    }

    private static func text(_ level: Level) -> String {
        let parts = [
            "\(level.snapshots) of \(level.retain) snapshots", level.newest.map { "newest \($0.local)" },
            level.lastGood.map { "last success \($0.local)" },
            level.retain == 0
                ? "disabled, kept"
                : level.next.map { "next \($0.local)" } ?? (level.schedule == nil ? "no schedule" : "no next backup"),
            level.overdue.map { "overdue since \($0.local)" },
        ]
        return parts.compactMap(\.self).joined(separator: ", ")
    }
}
