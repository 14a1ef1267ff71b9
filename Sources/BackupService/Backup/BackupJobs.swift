import LDAP
import EventLoop
package import JobCore
package import Provisioning

/// Backups as jobs: which accounts get one of a level, and for each what a queue of jobs needs.
///
/// The subject of each job is the account's entryUUID, as that of its provisioning, so the two never meet.
package struct BackupJobs: Sendable {
    /// What becomes of an account when all get a backup.
    package enum Selected: Sendable {
        /// It gets one.
        case job(JobRequest)
        /// It should get one and cannot.
        case refused(BackupRefusal)
        /// It has one that is too new for another.
        case recent
    }

    let engine: Engine
    let configuration: BackupConfiguration
    let jobs: BackupJobsConfiguration
    let clock: any WallClock
    /// By which TIMEOUT goes.
    var steadyClock: any SteadyClock = ContinuousClock()

    /// Backups of the engine's accounts; a reload of the settings makes another of these.
    package init(
        engine: Engine, configuration: BackupConfiguration, jobs: BackupJobsConfiguration,
        clock: any WallClock = SystemWallClock()
    ) {
        self.engine = engine
        self.configuration = configuration
        self.jobs = jobs
        self.clock = clock
    }

    /// Hands over every account that gets a backup of the level; however many there are, few are in memory.
    ///
    /// Accounts whose entries say that they get none are passed over. Where the directory does not let them be listed, the last that is handed
    /// over is a job that fails for that reason, so that it is seen like any other backup that failed.
    /// - Parameter isForced: whether those get one as well that have a recent one.
    /// - Throws: what the body throws, or `CancellationError`.
    package func all(
        of level: SnapshotLevel, isForced: Bool = false, isolation: isolated (any Actor)? = #isolation,
        _ body: (Selected) async throws -> Void
    ) async throws {
        var isOfBody = false
        do {
            try await listed(of: level, isForced: isForced, isolation: isolation) { selected in
                do {
                    try await body(selected)
                } catch {
                    isOfBody = true
                    throw error
                }
            }
        } catch let error where !isOfBody && !(error is CancellationError) {
            try await body(.job(unlisted(level, error)))
        }
    }

    private func unlisted(_ level: SnapshotLevel, _ error: any Error) -> JobRequest {
        let outcome = JobOutcome(
            .failed, failureClass: .configuration,
            message: "the accounts cannot be listed, and accounts after this point get no backup: \(error)")
        return JobRequest(
            type: .backup, name: level.rawValue, level: level.rawValue,
            subject: JobSubject("backup \(level) of all accounts"), client: "all accounts",
            retry: RetryPolicy(maximumAttempts: 1, delay: .zero, maximumDelay: .zero), work: { _ in outcome })
    }

    private func listed(
        of level: SnapshotLevel, isForced: Bool, isolation: isolated (any Actor)?,
        _ body: (Selected) async throws -> Void
    ) async throws {
        try await accounts(of: [level]) { account in
            if !isForced, await recentSuccess(level, account) != nil {
                try await body(.recent)
            } else {
                try await body(select(level, account))
            }
        }
    }

    /// Hands over every account that gets backups of any of these levels; however many there are, few are in memory.
    /// - Throws: what the body throws, `CancellationError`, or the directory's refusal as a `LDAPError`.
    package func accounts(
        of levels: [SnapshotLevel], isolation: isolated (any Actor)? = #isolation,
        _ body: (Account) async throws -> Void
    ) async throws {
        let filter = Filter.or(levels.map { BackupQualification(level: $0).filter })
        for try await account in await engine.accounts(where: filter, attributes: BackupAttribute.all)
        where !Set(Self.levels(of: account)).isDisjoint(with: levels) {
            try await body(account)
        }
    }

    /// An account as it stands now; nil when it is gone, or no longer this daemon's.
    /// - Throws: `CancellationError`, or the directory's refusal as a `LDAPError`.
    package func account(_ key: AccountKey) async throws -> Account? {
        try await engine.account(key, attributes: BackupAttribute.all)
    }

    /// The levels that an account gets backups of, by its entry; the most frequent first, which is the one that copies.
    package static func levels(of account: Account) -> [SnapshotLevel] { BackupQualification.levels(of: account) }

    /// What becomes of a level of an account by its schedule; nil: nothing, since it is not due.
    /// - Parameters:
    ///   - failed: when the newest job of the level that failed was asked for; nil: none did.
    ///   - since: an account of which nothing is recorded is due when a time of the schedule lies after it; nil: in any case.
    package func due(
        _ level: SnapshotLevel, _ account: Account, failed: Timestamp?, since: Timestamp?
    ) async throws -> Selected? {
        let state = await state(of: account) ?? SnapshotState()
        let isDue = LevelTiming(level, jobs).isDue(
            state, failed: failed, provisioned: Timestamp(text: account.status.state),
            since: since,
            now: clock.now)
        return isDue ? try await select(level, account) : nil
    }

    private func select(_ level: SnapshotLevel, _ account: Account) async throws -> Selected {
        if let refusal = try await missingConfiguration(of: account) { return .refused(refusal) }
        return .job(request(level, account))
    }

    /// A backup of each of the accounts that are named.
    /// - Parameters:
    ///   - uids: as an operator wrote them; one that is named twice counts once.
    ///   - isForced: whether those get one as well that have a recent one.
    /// - Throws: ``BackupRefusals`` when any of them gets none, `CancellationError`, or the directory's refusal as a `LDAPError`.
    package func requests(
        of level: SnapshotLevel, accounts uids: [String], isForced: Bool = false
    ) async throws -> [JobRequest] {
        var requests: [JobRequest] = []
        var refusals: [BackupRefusal] = []
        var named: Set<String> = []
        for uid in uids where named.insert(uid).inserted {
            do {
                let account = try await account(uid, for: level)
                if !isForced, let success = await recentSuccess(level, account) {
                    throw refusal(level, account, success)
                }
                requests.append(request(level, account))
            } catch let refusal as BackupRefusal {
                refusals.append(refusal)
            }
        }
        guard refusals.isEmpty else { throw BackupRefusals(refusals: refusals) }
        return requests
    }

    private func request(_ level: SnapshotLevel, _ account: Account) -> JobRequest {
        let backup = RsnapshotBackup(
            engine: engine, configuration: configuration, jobs: jobs, key: account.key, clock: clock,
            steadyClock: steadyClock)
        return JobRequest(
            type: .backup, name: level.rawValue, level: level.rawValue,
            subject: JobSubject(account.key.uuid), client: account.entry.text(BackupAttribute.uid) ?? "",
            retry: jobs.retry, work: { try await backup.run($0) })
    }

    /// When the level last succeeded, where that is less than half its period ago.
    private func recentSuccess(_ level: SnapshotLevel, _ account: Account) async -> Timestamp? {
        guard let state = await state(of: account) else { return nil }
        return LevelTiming(level, jobs).recentSuccess(state, now: clock.now)
    }

    /// What is recorded of an account's snapshots; nil where that cannot be read: the job itself says why.
    package func state(of account: Account) async -> SnapshotState? {
        let configuration = configuration
        return await BlockingWork.run {
            do { return try Self.state(of: account, configuration) ?? SnapshotState() } catch { return nil }
        }
    }

    /// The account's uid, by its entry.
    package static func uid(of account: Account) -> String { account.entry.text(BackupAttribute.uid) ?? "" }

    private func refusal(_ level: SnapshotLevel, _ account: Account, _ success: Timestamp) -> BackupRefusal {
        BackupRefusal(
            account: account.entry.text(BackupAttribute.uid) ?? "", dn: account.key.dn,
            reason: "its last \(level) snapshot was made at \(success.text), less than half a period ago",
            hint: "give --force to make another one all the same")
    }

    private func account(_ uid: String, for level: SnapshotLevel) async throws -> Account {
        func refuse(_ reason: String, _ hint: String) -> BackupRefusal {
            BackupRefusal(account: EntryReader.quote(uid), reason: reason, hint: hint)
        }
        guard let number = EntryReader.decimal(uid), BackupAccount.uidRange.contains(number) else {
            throw refuse("this is not a uid", "name the account's uid, seven digits or more")
        }
        let condition = Filter.equal(BackupAttribute.uid, AttributeValue(uid))
        var found: [Account] = []
        for try await account in await engine.accounts(where: condition, attributes: BackupAttribute.all) {
            found.append(account)
        }
        found.sort { "\($0.key.uuid)" < "\($1.key.uuid)" }
        // Of several with one uid the job warns.
        let account = found.first { BackupQualification(level: level).objection(to: $0) == nil } ?? found.first
        guard let account else {
            let others = await engine.accounts(where: condition, attributes: [BackupAttribute.uid], ofAllHosts: true)
            for try await account in others {
                let hosts = account.status.hosts
                throw refuse(
                    hosts.isEmpty
                        ? "it names no host, and this daemon serves those of certain hosts"
                        : "it belongs to \(hosts.map { EntryReader.quote($0) }.joined(separator: ", "))",
                    "run the backup there, or correct \(BackupAttribute.host) of \(account.key.dn) or HOST")
            }
            throw refuse(
                "LDAP has no such account", "see accounts list, and SERVICE_SUBTREE and SEARCH_FILTER")
        }
        if let refusal = BackupQualification(level: level).objection(to: account) { throw refusal }
        if let refusal = try await missingConfiguration(of: account) { throw refusal }
        return account
    }

    /// Whether the account's rsnapshot configuration is absent. What it says and who can write it is looked at by the job itself.
    private func missingConfiguration(of account: Account) async throws -> BackupRefusal? {
        let uid = account.entry.text(BackupAttribute.uid) ?? ""
        func refuse(_ reason: String, _ hint: String) -> BackupRefusal {
            BackupRefusal(account: uid, dn: account.key.dn, reason: reason, hint: hint)
        }
        guard EntryReader.decimal(uid) != nil else {
            return refuse("uid is \(EntryReader.quote(uid)), which is no number", "correct the entry")
        }
        let file = ConfigurationFile(
            directory: configuration.configurationDirectory, uid: uid, ownership: configuration.ownership)
        do {
            return try await BlockingWork.run { _ in try file.exists() }
                ? nil : refuse("\(file.path) does not exist", ConfiguredSnapshots.provisionAgain)
        } catch let failure as ProvisioningFailure {
            return refuse(failure.reason, failure.hint)
        }
    }
}
