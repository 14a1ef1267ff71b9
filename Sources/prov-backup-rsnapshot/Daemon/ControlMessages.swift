import Daemon
import JobCore
import Provisioning

/// What a command asks the running daemon over its control socket.
enum DaemonRequest: Codable {
    case status
    case health
    /// The accounts that are pending or have failed, as the directory has them.
    case unfinishedAccounts
    /// Read the settings anew.
    case reload
    case provision(uuid: String, dn: String)
    case jobs(JobFilter)
    /// Those of these jobs that are known.
    case theseJobs([UInt64])
    case job(UInt64)
    case cancel(UInt64)
    /// A job of `[Job NAME]`.
    case run(String)
    /// Snapshots; no accounts: all that have the level. Forced: also where the last one is recent.
    case backup(level: String, accounts: [String], isForced: Bool)
    case scripts
    case restartScripts
}

/// What the daemon answers.
enum DaemonReply: Codable {
    case status(DaemonStatus)
    case health(DaemonHealth)
    case unfinishedAccounts(UnfinishedAccounts)
    case reloaded(ReloadOutcome)
    /// The exit code of the job; nil when there was nothing to do.
    case provisioned(Int32?)
    case jobs(JobList)
    /// nil when there is no such job.
    case job(Job?)
    /// Whether the job was open.
    case cancelled(Bool)
    /// The jobs that were asked for.
    case asked(AcceptedJobs)
    case scripts([ScriptLine])
    /// What came of it.
    case restarted(String)
    case refused(Refusal)

    /// A ``CommandFailure`` of the daemon's.
    struct Refusal: Codable {
        let reason: String
        let hint: String
        /// What the command ends with.
        let status: Int32

        init(_ failure: CommandFailure) {
            (reason, hint, status) = (failure.reason, failure.hint, failure.status.rawValue)
        }

        var failure: CommandFailure {
            CommandFailure(reason, hint: hint, status: ProcessExitStatus(rawValue: status) ?? .failure)
        }
    }
}

/// What came of reading the settings anew.
struct ReloadOutcome: Codable, Sendable {
    /// What is odd or wrong with them, each with its place and hint.
    var problems: [String] = []
    /// `[Section] KEY` of each setting that has another value now.
    var changed: [String] = []
    /// Settings that have changed and take effect at the next start.
    var restartNeeded: [String] = []
    /// Why the daemon goes on with the settings that it has; nil: the new ones hold.
    var refusal: DaemonReply.Refusal?
}

/// The accounts that are pending or have failed.
struct UnfinishedAccounts: Codable {
    struct Counts: Codable {
        var wished = 0
        var claimed = 0
        var failed = 0
        /// The oldest wish that waits, by its entryCSN.
        var oldest: String?
    }

    private(set) var counts = Counts()
    private(set) var failedUIDs: [String] = []

    mutating func add(pending status: AccountStatus) {
        if status.phase == .wished { counts.wished += 1 } else { counts.claimed += 1 }
        let csn = status.csn.text ?? ""
        counts.oldest = counts.oldest.map { min($0, csn) } ?? csn
    }

    mutating func add(failed uid: String) {
        counts.failed += 1
        failedUIDs.append(OneLine.value(uid))
    }
}

/// Jobs that the daemon has accepted. They are in the history's file, so they outlast a crash, unless `unrecorded` says otherwise.
struct AcceptedJobs: Codable {
    /// Their numbers.
    var jobs: [UInt64]
    /// Why they are not in the history's file; nil: they are.
    var unrecorded: String?
    /// How many accounts were left out because their last snapshot is recent.
    var recent = 0
}

/// What the daemon does at this moment.
struct DaemonStatus: Codable {
    struct Running: Codable {
        let job: UInt64
        let uuid: String
        let dn: String
        let operation: String
        let attempt: Int
        let step: String?
        /// As `YYYYMMDDThhmmssZ`, like all times here.
        let since: String
    }

    struct Behind: Codable {
        let uuid: String
        let dn: String
    }

    struct Retrying: Codable {
        let job: UInt64
        let uuid: String
        let dn: String
        let attempt: Int
        let next: String
        let failure: String
        /// Since when a shortage of the machine holds it up; nil: none does.
        let shortageSince: String?
    }

    let pid: Int32
    let version: String
    let since: String
    let isDirectoryAvailable: Bool
    /// The LDAP server refuses the credentials: how it does, and when they are tried again.
    var refusedCredentials: String?
    let running: [Running]
    let retrying: [Retrying]
    /// What the machine lacks, for which accounts wait.
    let shortages: [ShortageLine]
    /// Open jobs of all types, where they are known.
    let jobs: [JobLine]
    let waiting: Int
    let nextDue: String?
    /// Accounts whose entries the LDAP server shows older than they were before; the first of them.
    let behind: [Behind]
    /// Deletes that wait because of MAX_DELETES_PER_HOUR; nil: none does.
    let deletes: WaitingDeletes?
    /// Until when at most requests with a date wait because the machine's clock may be wrong; nil: they do not.
    let clockDoubtedUntil: String?
    /// Since the daemon started.
    let succeeded: Int
    let failed: Int
    /// Accounts whose backups are not in order.
    let backups: BackupHealth.Summary
    /// `[Backup Jobs] SLOTS`.
    let backupSlots: Int?
}

/// What the machine lacks for the requests of all accounts alike.
struct ShortageLine: Codable {
    /// How many wait for it.
    let accounts: Int
    /// As `YYYYMMDDThhmmssZ`.
    let since: String
    /// What failed first, where, and how to fix it.
    let reason: String
}

/// What is not in order, for monitoring.
struct DaemonHealth: Codable {
    /// Whether the LDAP server answers.
    var isDirectoryAvailable: Bool
    /// Accounts whose last provisioning request failed; nil: the directory has no place to say so, or `ldapError` says why.
    var failedAccounts: Int?
    /// The first of them.
    var failedUIDs: [String] = []
    /// Why the directory could not be asked.
    var ldapError: String?
    /// What the machine lacks, for which accounts wait.
    var shortages: [ShortageLine] = []
    var backups: BackupHealth.Summary
    /// Open jobs of all types.
    var openJobs: Int
    /// Deletes that wait because of MAX_DELETES_PER_HOUR; nil: none does.
    var deletes: WaitingDeletes?
    /// Accounts whose entries the LDAP server shows older than they were before.
    var behind = 0
}
