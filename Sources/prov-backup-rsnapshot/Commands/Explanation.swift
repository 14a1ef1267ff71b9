import Daemon
import LDAP
import JobCore
import Provisioning

/// The state of an account, why, and what to type.
struct Explanation: Encodable {
    let uid: String
    let dn: String
    /// The phase of the state machine; nil when the entry takes no part.
    let phase: String?
    let mode: String?
    let state: String?
    let returnValue: String?
    let meaning: String
    let daemon: String
    let hint: String
    /// The account's last job; nil when nothing is recorded.
    let lastJob: JobLine?
    /// nil with `TYPE = Script`, and for an entry that takes no part.
    let backup: BackupExplanation?

    private enum CodingKeys: String, CodingKey {
        case uid, dn, phase, mode, state, returnValue, meaning, daemon, lastJob, backup
        // Programs that read it know it by this name.
        case hint = "cure"
    }

    /// What the daemon says.
    enum Daemon {
        case answers(DaemonStatus)
        /// None runs here.
        case absent
        /// It does not tell this user.
        case silent(String)

        var status: DaemonStatus? { if case .answers(let status) = self { status } else { nil } }
        var isAbsent: Bool { if case .absent = self { true } else { false } }

        /// - Throws: `CommandFailure` for everything but an answer that this user may not have.
        init(_ control: DaemonControl) async throws {
            do {
                self = try await control.status().map(Self.answers) ?? .absent
            } catch let failure as CommandFailure where failure.status == .notAllowed {
                self = .silent("\(failure.reason); run this command as root")
            }
        }
    }

    init(
        uid: String, entry: Entry, policy: DecisionPolicy, now: Timestamp, daemon: Daemon,
        lastJob: Job? = nil, backup: BackupExplanation? = nil
    ) {
        self.uid = OneLine.value(uid)
        self.lastJob = lastJob.map(JobLine.init)
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
        let isRunning = !daemon.isAbsent
        let start =
            isRunning ? "nothing; the daemon works on it" : "start the daemon: systemctl start prov-backup-rsnapshot"
        let (doubtedUntil, deletes) = (daemon.status?.clockDoubtedUntil, daemon.status?.deletes)
        if daemon.status?.behind.contains(where: { $0.uuid == status.uuid.description }) == true {
            meaning =
                "asks for \(status.mode.operation), and waits: the LDAP server shows the entry older than it was before; it lags, or was restored from a backup"
            // A request that was claimed was due; another one may have a date, which `provision` would not wait for.
            let again = status.phase == .claimed ? AccountCommand.provision : .retry
            hint = "wait until the server has caught up; if the request is right as it is: \(again.text(uid))"
            return
        }
        let isOneTooMany = deletes?.accounts.contains(status.uuid.description) == true
        switch policy.decide(status, now: now, isClockDoubted: { doubtedUntil != nil }) {
        case .claim(.delete) where isOneTooMany, .resume(.delete) where isOneTooMany:
            meaning = "asks for delete, and waits: \(deletes?.reason ?? "")"
            hint = "\(WaitingDeletes.hint); for this account alone: \(AccountCommand.provision.text(uid))"
        case .claim(let operation):
            meaning = "asks for \(operation), and is due"
            hint = isRunning ? "nothing; it is in the queue" : start
        case .resume(let operation):
            meaning =
                "\(operation) was claimed and has no outcome yet: it is being worked on, waits for its next attempt, or was cut off"
            let isHeldUp = Self.retry(of: status.uuid, by: daemon.status)?.shortageSince != nil
            hint = isHeldUp ? "fix what the machine lacks; the daemon goes on by itself" : start
        case .wait(let time):
            meaning =
                "asks for \(status.mode.operation), on \(OneLine.value(status.date ?? "?")), from \(time.text)"
            hint = "nothing; to have it now: \(AccountCommand.provision.text(uid))"
        case .waitForClock:
            meaning =
                "asks for \(status.mode.operation), on \(OneLine.value(status.date ?? "?")); that day has begun by the machine's clock, which may be wrong"
            hint =
                "have the clock synchronized (timedatectl); it is carried out at \(doubtedUntil ?? "?") at the latest; to have it now: \(AccountCommand.provision.text(uid))"
        case .refuse(let failure):
            (meaning, hint) = ("would be refused: \(failure.reason)", failure.hint)
        case .leave(let reason):
            meaning = reason.description
            hint =
                switch reason {
                case .failed:
                    "fix the cause (\(lastJob.map { "prov-backup-rsnapshot jobs show \($0.id)" } ?? "the daemon's log")), then: \(AccountCommand.retry.text(uid))"
                case .otherHost, .noHost:
                    "if this daemon is to serve it, set \(policy.names.host) of the entry, or HOST of this daemon"
                case .sharedHosts: "name one backup server alone in \(policy.names.host) of the entry"
                case .claimed: "wait for that daemon; if it is gone for good: \(AccountCommand.release.text(uid))"
                case .overdue: "write the request again with today's date or 0, or set OVERDUE = run"
                case .nothingAsked: "write \(policy.names.state): 0 beside the mode"
                case .done: "nothing"
                }
        }
    }

    private static func describe(_ daemon: Daemon, _ uuid: EntryUUID?) -> String {
        let status: DaemonStatus
        switch daemon {
        case .answers(let answer): status = answer
        case .absent: return "does not run here"
        case .silent(let reason): return "is not known: \(reason)"
        }
        return describe(status, uuid)
    }

    private static func describe(_ daemon: DaemonStatus, _ uuid: EntryUUID?) -> String {
        let running = daemon.running.first { $0.uuid == uuid?.description }
        if let running {
            return
                "runs it: job \(running.job), attempt \(running.attempt), step \(running.step ?? "planning"), since \(running.since)"
        }
        if let retry = retry(of: uuid, by: daemon) {
            let shortage = retry.shortageSince.map { "; the machine holds it up since \($0), for 24 hours at most" }
            return "tries it again at \(retry.next): attempt \(retry.attempt) failed: \(retry.failure)\(shortage ?? "")"
        }
        return "runs (process \(daemon.pid)) and does not work on it now"
    }

    private static func retry(of uuid: EntryUUID?, by daemon: DaemonStatus?) -> DaemonStatus.Retrying? {
        daemon?.retrying.first { $0.uuid == uuid?.description }
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
            ("last job", lastJob.map { JobsOfDaemon.end(of: $0.job) }),
            ("to do", hint),
        ]
        return (rows + (backup?.rows ?? [])).compactMap { title, value in
            value.map { title + String(repeating: " ", count: max(1, 13 - title.count)) + OneLine.escaping($0) }
        }.joined(separator: "\n")
    }
}
