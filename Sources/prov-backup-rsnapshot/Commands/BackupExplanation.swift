import BackupService
import LDAP
import JobCore
import Provisioning

/// How an account's backups are: what there is, what comes next, and what keeps it from being made.
struct BackupExplanation: Encodable {
    struct Level: Encodable {
        let level: String
        /// How many snapshots are to be kept, by the entry.
        let retain: Int
        /// How many there are.
        let snapshots: Int
        let newest: Timestamp?
        /// When a job of the level last ended with a whole snapshot.
        let lastGood: Timestamp?
        /// In cron notation.
        let schedule: String?
        /// When it runs next, within WINDOW.
        let next: Timestamp?
        /// Since when a success is missing.
        let overdue: Timestamp?
    }

    struct Try: Encodable {
        let job: UInt64
        let level: String
        let began: Timestamp?
        /// nil: it runs, waits, or was cut off.
        let result: String?
        let message: String
    }

    /// When this host last made a copy, by the entry.
    let lastGood: Timestamp?
    let lastTry: Try?
    /// Bytes, by the entry.
    let size: UInt64?
    let increment: UInt64?
    let levels: [Level]
    /// What keeps backups from being made, with the hint.
    let inTheWay: [String]
    /// What is not as the settings say and keeps no backup from being made, with the hint.
    let notices: [String]
    /// What could not be found out, and why.
    let unknown: [String]

    /// Looks at the disk.
    /// - Parameter lastJob: the newest backup job of the account in the history.
    /// - Returns: nil with `TYPE = Script`, and for an entry that takes no part in provisioning.
    init?(
        _ entry: Entry, _ settings: DaemonConfiguration, now: Timestamp, hasDaemon: Bool, lastJob: Job?
    ) {
        guard settings.script == nil, let account = Account(entry, names: settings.engine.scope.names)
        else {
            return nil
        }
        self.init(
            BackupJobs.inspection(
                of: account, configuration: settings.backup, host: settings.backupJobs.host),
            settings, provisioned: Timestamp(text: account.status.state), now: now,
            hasDaemon: hasDaemon, lastJob: lastJob)
    }

    private init(
        _ inspection: BackupInspection, _ settings: DaemonConfiguration, provisioned: Timestamp?, now: Timestamp,
        hasDaemon: Bool, lastJob: Job?
    ) {
        let window = settings.policies[.backup]?.window
        lastGood = inspection.lastCopy
        size = inspection.size
        increment = inspection.increment
        lastTry = Self.lastTry(inspection.lastAttempt, lastJob)
        let first = inspection.levels.first { $0.retain > 0 }?.level
        levels = inspection.levels.map { found in
            let schedule = found.retain > 0 ? settings.backupJobs.schedules[found.level] : nil
            let run = schedule?.next(after: now)
            // What cannot be read is no missing success.
            let due =
                !inspection.isStateKnown
                ? nil
                : BackupHealth.due(
                    .init(
                        copies: found.level == first, lastSuccess: found.lastSuccess,
                        lastCompletion: found.lastCompletion),
                    provisioned: provisioned, schedule: schedule, timeLimit: settings.backupJobs.timeLimit, now: now)
            return Level(
                level: found.level.rawValue, retain: found.retain, snapshots: found.snapshots.count,
                newest: found.snapshots.first.map(\.time), lastGood: found.lastSuccess, schedule: schedule?.description,
                next: run.map { window?.opening(after: $0) ?? $0 }, overdue: due.flatMap { $0 < now ? $0 : nil })
        }
        var obstacles = inspection.obstacles
        if let lastJob, lastJob.isOpen {
            obstacles.append("job \(lastJob.id) (\(lastJob.level)) has not ended: \(lastJob.meaning)")
        }
        let unscheduled = levels.filter { $0.retain > 0 && $0.schedule == nil }.map(\.level)
        if !unscheduled.isEmpty {
            let keys = unscheduled.map { $0.uppercased() }.joined(separator: ", ")
            obstacles.append(
                "no schedule makes \(unscheduled.joined(separator: ", ")) snapshots; set \(keys) in [Backup Jobs]")
        }
        if let opening = window?.opening(after: now), opening > now {
            obstacles.append("it is outside WINDOW until \(opening.local)")
        }
        if !hasDaemon { obstacles.append("no daemon runs here; start it: systemctl start prov-backup-rsnapshot") }
        inTheWay = obstacles
        notices = inspection.notices
        unknown = inspection.unknown
    }

    /// What is recorded beside the snapshots counts, unless the history has a newer job.
    private static func lastTry(_ attempt: SnapshotState.Attempt?, _ job: Job?) -> Try? {
        if let attempt, attempt.job >= job?.id.number ?? 0 {
            return Try(
                job: attempt.job, level: attempt.level, began: attempt.beganAt, result: attempt.result,
                message: attempt.message)
        }
        return job.map {
            Try(job: $0.id.number, level: $0.level, began: $0.started, result: $0.result?.rawValue, message: $0.message)
        }
    }

    /// As rows of a title and a text.
    var rows: [(String, String?)] {
        let sizes = [
            size.map { "\($0) bytes in all" }, increment.map { "\($0) bytes of the newest alone" },
        ].compactMap(\.self).joined(separator: ", ")
        var rows: [(String, String?)] = [
            ("last backup", lastGood?.local ?? "never, according to the entry"),
            ("last attempt", lastTry.map(Self.text) ?? "none is recorded"),
            ("sizes", sizes.isEmpty ? nil : sizes),
        ]
        rows += levels.map { ($0.level, Self.text($0)) }
        rows += inTheWay.map { ("problem", $0) }
        rows += notices.map { ("notice", $0) }
        rows += unknown.map { ("not known", $0) }
        return rows
    }

    private static func text(_ last: Try) -> String {
        "job \(last.job) \(last.level)" + (last.began.map { ", \($0.local)" } ?? "")
            + ": \(last.result ?? "not ended")" + (last.message.isEmpty ? "" : ": \(last.message)")
    }

    private static func text(_ level: Level) -> String {
        let parts = [
            "\(level.snapshots) of \(level.retain) snapshots", level.newest.map { "newest \($0.local)" },
            level.lastGood.map { "last success \($0.local)" },
            level.retain == 0 ? "switched off, kept" : level.next.map { "next \($0.local)" } ?? "no schedule",
            level.overdue.map { "overdue since \($0.local)" },
        ]
        return parts.compactMap(\.self).joined(separator: ", ")
    }
}
