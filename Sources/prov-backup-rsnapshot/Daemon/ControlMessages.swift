import Daemon
import JobCore
import LDAP
import Provisioning
import SystemPackage

/// The requests of commands to the running daemon, each with the type of its reply.
enum DaemonRequest: Codable {
    /// With an account, its details instead of those of all: `DaemonStatus`
    case status(of: EntryUUID?)
    /// `DaemonHealth`
    case health
    /// The accounts with a pending or failed request, or with an invalid mode or state, from the LDAP server: `UnfinishedAccounts`
    case unfinishedAccounts
    /// Reload the settings: `ReloadOutcome`
    case reload
    /// `Int32?`: the exit code of the job; nil: there was nothing to do.
    case provision(AccountKey)
    /// `JobList`
    case jobs(JobFilter)
    /// The known ones of these jobs: `JobList`
    case theseJobs([UInt64])
    /// `Job?`; nil: unknown.
    case job(UInt64)
    /// `CanceledJob`
    case cancel(UInt64)
    /// A job of `[Job NAME]`: `AcceptedJobs`
    case run(String)
    /// Empty accounts: all that have the level. Forced: even if the last snapshot is recent. `AcceptedJobs`
    case backup(level: String, accounts: [String], isForced: Bool)
    /// `[ScriptLine]`
    case scripts
    /// Reload the event handlers: `String`, the result for the operator.
    case restartScripts
}

/// The result of a reload.
struct ReloadOutcome: Codable, Sendable {
    /// Problems of the settings, with places and hints.
    var problems: [String] = []
    /// `[Section] KEY` of each changed setting.
    var changed: [String] = []
    /// Changed settings that need a restart.
    var restartNeeded: [String] = []
    /// Why the daemon keeps its settings; nil: the new ones are in force.
    var refusal: CommandFailure?
}

/// The accounts with a pending or failed request, or with an invalid mode or state.
struct UnfinishedAccounts: Codable {
    struct Counts: Codable {
        /// Pending requests. The name is in the JSON of `status` and must not change.
        var wished = 0
        var claimed = 0
        var failed = 0
        /// Neither requested, claimed nor done, because mode or state is invalid.
        var invalid = 0
        /// The entryCSN of the oldest pending request.
        var oldest: String?
    }

    /// A request that another daemon has claimed.
    struct OthersClaim: Codable {
        var uid: String
        /// The claim, which names the daemon.
        var holder: String
        /// When the entry was last changed; nil: unknown.
        var since: Timestamp?

        /// Whether the request has waited for so long that the daemon may be gone.
        func isOld(at now: Timestamp) -> Bool { since.map { now - $0 > HealthReport.longestWait } ?? false }
    }

    private(set) var counts = Counts()
    private(set) var failedUIDs: [String] = []
    private(set) var invalidUIDs: [String] = []
    private(set) var othersClaims: [OthersClaim] = []

    /// - Parameter uid: what to call the account in commands.
    mutating func add(pending status: AccountStatus, uid: String, _ policy: DecisionPolicy) {
        if let holder = policy.othersClaim(of: status) {
            let since = status.csn.text.flatMap(Timestamp.init(ofCSN:))
            othersClaims.append(OthersClaim(uid: OneLine.value(uid), holder: OneLine.value(holder), since: since))
        }
        if status.phase == .requested { counts.wished += 1 } else { counts.claimed += 1 }
        let csn = status.csn.text ?? ""
        counts.oldest = counts.oldest.map { min($0, csn) } ?? csn
    }

    /// - Parameter entry: of an account that has failed, or whose mode or state is invalid.
    mutating func add(failedOrInvalid entry: Entry, names: AttributeNames) {
        let uid = OneLine.value(entry.accountReference)
        if AccountStatus.isInvalid(entry, names: names) {
            counts.invalid += 1
            invalidUIDs.append(uid)
        } else {
            counts.failed += 1
            failedUIDs.append(uid)
        }
    }
}

/// Jobs that the daemon has accepted. They are in the history's file and survive a crash, unless `unrecorded` is set.
struct AcceptedJobs: Codable {
    var jobs: [UInt64]
    /// Why they are not in the history's file; nil: they are.
    var unrecorded: String?
    /// Accounts that were skipped because their last snapshot is recent.
    var recent = 0
}

/// The answer to the cancellation of a job.
struct CanceledJob: Codable {
    var isOpen: Bool
    /// Why the cancellation is not in the history's file; nil: it is.
    var unrecorded: String?
}

/// Scheduled work that waits because its jobs get no numbers.
struct JobDelay: Codable {
    /// `backup daily`, `run NAME` or `purge`.
    var work: String
    var since: Timestamp
    /// What failed, where, and how to fix it.
    var reason: String

    /// A part of a line.
    var text: String { "\(work) is delayed: \(reason)" }
}

/// The state of the daemon.
struct DaemonStatus: Codable {
    var pid: Int32
    var version: String
    var since: Timestamp
    var isDirectoryAvailable: Bool
    /// The error and the next attempt if the LDAP server refuses the credentials.
    var refusedCredentials: String?
    /// Why a connection to the LDAP server is lost or cannot be made, with the hint; nil: all are made.
    var ldapError: String?
    var running: [JobSummary]
    /// The next ones.
    var retrying: [RetrySummary]
    /// What delays accounts.
    var shortages: [ProvisioningDelay]
    /// Accounts that wait because another daemon holds a lock; nil: none does.
    var lockWaits: [LockWait]?
    /// What scheduled work waits for; nil: none waits.
    var delayedJobs: [JobDelay]?
    /// Open jobs of all types, first those that run.
    var jobs: [JobLine]
    var openJobs: Int
    var waiting: Int
    var nextDue: Timestamp?
    /// The first accounts whose entries are older on the LDAP server than before.
    var behind: [AccountKey]
    var behindCount: Int
    /// Deletes that wait because of MAX_DELETES_PER_HOUR; nil: none does.
    var deletes: HourlyLimit.Summary?
    /// Until when at most requests with a date wait, because the machine's clock may be wrong; nil: they do not.
    var clockDoubtedUntil: Timestamp?
    /// Since the daemon started.
    var succeeded: Int
    var failed: Int
    /// Accounts with backup problems.
    var backups: BackupHealth.Summary
    /// `[Backup Jobs] SLOTS`.
    var backupSlots: Int?
    /// Why no history of jobs is recorded at the moment; nil: it is.
    var historyError: String?
    /// Why no event handlers are called; nil: they are, or there are none.
    var scriptingError: String?
    /// Why the last reload was refused; nil: it was not.
    var reloadError: String?
}

/// The problems for monitoring.
struct DaemonHealth: Codable {
    /// Without lists of jobs and accounts.
    var status: DaemonStatus
    /// Accounts whose last request failed; nil: RETURN_VALUE is empty, or the LDAP server could not be asked.
    var failedAccounts: Int?
    /// The first of them.
    var failedUIDs: [String] = []
    /// Accounts whose mode or state is invalid; nil: the LDAP server could not be asked.
    var invalidAccounts: Int?
    /// The first of them.
    var invalidUIDs: [String] = []
    /// Requests that have waited long for other daemons that have claimed them; nil: none has.
    var othersClaims: [UnfinishedAccounts.OthersClaim]?
    /// Why the LDAP server could not be asked for them.
    var searchError: String?
}

extension Timestamp {
    /// An entryCSN begins with its time in UTC, as `YYYYMMDDhhmmss`.
    init?(ofCSN csn: String) { self.init(text: "\(csn.prefix(8))T\(csn.dropFirst(8).prefix(6))Z") }
}

/// Deletes that wait because of MAX_DELETES_PER_HOUR: the texts for the log, mails and commands.
extension HourlyLimit.Summary {
    /// The reason, as a part of a sentence.
    var reason: String { "MAX_DELETES_PER_HOUR = \(limit) is reached; the next delete is at \(next.local)" }

    /// The hint.
    static let hint =
        "if all deletes are intended, raise MAX_DELETES_PER_HOUR in [Service] and reload (systemctl reload prov-backup-rsnapshot)"
}

/// Sends requests to the daemon with the same settings.
struct DaemonControl {
    let runtimeDirectory: FilePath
    /// nil: its setting is wrong.
    let stateDirectory: FilePath?
    let configFile: String
    /// nil: the usual one, if it exists.
    let globalFile: String?

    /// - Parameter account: whose details are to be listed; nil: those of all accounts.
    /// - Returns: nil: no daemon runs here.
    func status(of account: EntryUUID? = nil) async throws -> DaemonStatus? { try await ask(.status(of: account)) }

    /// - Returns: nil: no daemon runs here.
    func health() async throws -> DaemonHealth? {
        // Monitoring gives up after ten seconds.
        try await ask(.health, timeout: .seconds(8))
    }

    func unfinishedAccounts() async throws -> UnfinishedAccounts { try await need(.unfinishedAccounts) }

    func reload() async throws -> ReloadOutcome {
        // systemd gives up after 90 seconds.
        try await need(.reload, timeout: .seconds(80))
    }

    /// - Returns: nil: no daemon runs here; an inner nil: there was nothing to do.
    func provision(_ key: AccountKey) async throws -> ProvisioningExitCode?? {
        let code: Int32?? = try await askWork(.provision(key))
        return code.map { $0.flatMap(ProvisioningExitCode.init) }
    }

    /// - Returns: nil: no daemon runs here.
    func jobs(_ filter: JobFilter) async throws -> JobList? { try await ask(.jobs(filter)) }

    /// - Returns: the known ones of these jobs.
    func jobs(_ ids: [JobID]) async throws -> [Job] {
        var jobs: [Job] = []
        var rest = ids[...]
        // This many fit into a request.
        while !rest.isEmpty {
            let list: JobList = try await need(.theseJobs(rest.prefix(1_000).map(\.number)))
            jobs += list.jobs
            rest = rest.dropFirst(1_000)
        }
        return jobs
    }

    /// - Returns: nil: no daemon runs here; an inner nil: there is no such job.
    func job(_ id: UInt64) async throws -> Job?? { try await ask(.job(id)) }

    func cancel(_ id: UInt64) async throws -> CanceledJob { try await need(.cancel(id)) }

    func run(_ name: String) async throws -> AcceptedJobs { try await needWork(.run(name)) }

    func backup(_ level: String, accounts: [String], isForced: Bool) async throws -> AcceptedJobs {
        try await needWork(.backup(level: level, accounts: accounts, isForced: isForced))
    }

    /// For requests whose work has its own time limits, such as one for the event handlers of each job: a client that gave up first would end the
    /// submission in the middle, and would not learn the numbers of its jobs. A daemon that hangs is found by a question before it.
    private func needWork<Value: Codable & Sendable>(_ request: DaemonRequest) async throws -> Value {
        guard let value: Value = try await askWork(request) else { throw noDaemon() }
        return value
    }

    private func askWork<Value: Codable & Sendable>(_ request: DaemonRequest) async throws -> Value? {
        guard try await health() != nil else { return nil }
        return try await ask(request, timeout: .seconds(24 * 3600))
    }

    func scripts() async throws -> [ScriptLine] { try await need(.scripts) }

    func restartScripts() async throws -> String { try await need(.restartScripts) }

    /// Like ``ask(_:timeout:)``, but throws if no daemon runs.
    /// - Parameter timeout: loading event handlers or searching accounts may take long.
    private func need<Value: Codable & Sendable>(
        _ request: DaemonRequest, timeout: Duration = .seconds(120)
    ) async throws -> Value {
        guard let value: Value = try await ask(request, timeout: timeout) else { throw noDaemon() }
        return value
    }

    /// The error if no daemon runs.
    /// - Parameter consequence: a continuation of the sentence.
    func noDaemon(_ consequence: String = "") -> CommandFailure {
        CommandFailure(
            "no daemon runs here (\(runtimeDirectory))\(consequence)",
            hint: "start it: systemctl start prov-backup-rsnapshot, or in the foreground: "
                + "prov-backup-rsnapshot run -d -c \(configFile.shellWord)"
                + (globalFile.map { " -g \($0.shellWord)" } ?? ""), status: .unavailable)
    }

    /// The error if nothing listens, and a process has the daemon's state nevertheless; nil: none has.
    private var unheard: CommandFailure? {
        guard let stateDirectory,
            let process = InstanceLock.holder(in: stateDirectory, name: InstanceLock.stateName)
        else { return nil }
        return CommandFailure(
            "process \(process) holds the lock of STATE_DIRECTORY (\(stateDirectory)) and does not listen at "
                + "\(ControlServer.socketPath(in: runtimeDirectory)): it starts or ends, or its socket is gone",
            hint: "try again; if that does not help: systemctl restart prov-backup-rsnapshot", status: .tryAgain)
    }

    /// - Returns: nil: no daemon runs here.
    private func ask<Value: Codable & Sendable>(
        _ request: DaemonRequest, timeout: Duration = .seconds(30)
    ) async throws -> Value? {
        let client = ControlClient(socket: ControlServer.socketPath(in: runtimeDirectory), timeout: timeout)
        do throws(ControlClientError) { return try await client.ask(request, for: Value.self) } catch {
            guard case .notListening = error else { throw error.failure }
            if let unheard { throw unheard }
            return nil
        }
    }
}

extension DaemonControl {
    init(_ configuration: DaemonConfiguration) {
        self.init(
            runtimeDirectory: configuration.service.runtimeDirectory,
            stateDirectory: configuration.service.stateDirectory, configFile: configuration.configFile,
            globalFile: configuration.globalFile)
    }
}
