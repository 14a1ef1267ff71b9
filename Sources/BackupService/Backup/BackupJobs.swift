package import LDAP
import EventLoop
package import JobCore
package import Provisioning

/// Backups as jobs: selects the accounts for a level and makes the jobs.
///
/// The subject of a job is the account's entryUUID, as for provisioning, so that the two never run together.
package struct BackupJobs: Sendable {
    let engine: Engine
    private let currentConfiguration: @Sendable () -> BackupConfiguration
    private let currentJobs: @Sendable () -> BackupJobsConfiguration
    let clock: any WallClock
    /// The clock of TIMEOUT.
    var steadyClock: any SteadyClock = ContinuousClock()

    /// - Parameters:
    ///   - configuration, jobs: called each time, so that an attempt begins with the current settings.
    package init(
        engine: Engine, configuration: @escaping @Sendable () -> BackupConfiguration,
        jobs: @escaping @Sendable () -> BackupJobsConfiguration, clock: any WallClock = SystemWallClock()
    ) {
        self.engine = engine
        currentConfiguration = configuration
        currentJobs = jobs
        self.clock = clock
    }

    private var configuration: BackupConfiguration { currentConfiguration() }
    private var jobs: BackupJobsConfiguration { currentJobs() }

    // MARK: - All accounts

    /// Calls a body for every account that gets a backup of the level, with the job; few accounts are in memory at a time.
    ///
    /// For an account that should get a backup and cannot, and last if LDAP refuses to list the accounts, the job fails with the reason, so that
    /// it is reported like any failed backup.
    /// - Parameters:
    ///   - isForced: whether accounts with a recent snapshot get a backup as well.
    ///   - body: gets nil for an account whose last snapshot is too new.
    /// - Throws: the error of the body, or `CancellationError`.
    package func all(
        of level: SnapshotLevel, isForced: Bool = false, isolation: isolated (any Actor)? = #isolation,
        _ body: (JobRequest?) async throws -> Void
    ) async throws {
        var isFromBody = false
        do {
            try await accounts(of: [level]) { account, state in
                let success = isForced ? nil : recentSuccess(level, state)
                let request = success == nil ? try await select(level, account, isForced: isForced) : nil
                do {
                    try await body(request)
                } catch {
                    isFromBody = true
                    throw error
                }
            }
        } catch let error where !isFromBody && !(error is CancellationError) {
            try await body(
                Self.failing(
                    level, "backup \(level) of all accounts", client: "all accounts", .failed,
                    "the accounts cannot be listed, and accounts after this point get no backup: \(error)"))
        }
    }

    /// A job that fails.
    private static func failing(
        _ level: SnapshotLevel, _ subject: String, client: String, _ result: JobResult, _ message: String
    ) -> JobRequest {
        let outcome = JobOutcome(result, failureClass: .configuration, message: message)
        return JobRequest(
            type: .backup, name: level.rawValue, level: level.rawValue, subject: JobSubject(subject), client: client,
            retry: RetryPolicy(maximumAttempts: 1, delay: .zero, maximumDelay: .zero), work: { _ in outcome })
    }

    /// Calls a body for every account that gets backups of any of the levels, with the recorded state of its snapshots (nil if that cannot be
    /// read); few accounts are in memory at a time.
    /// - Throws: the error of the body, `CancellationError`, or `LDAPError`.
    package func accounts(
        of levels: [SnapshotLevel], isolation: isolated (any Actor)? = #isolation,
        _ body: (Account, SnapshotState?) async throws -> Void
    ) async throws {
        let filter = Filter.or(
            levels.map { .and([.present($0.intervalAttribute), .not(.equal($0.intervalAttribute, "0"))]) }
                + [await engine.openModify])
        for try await account in await engine.accounts(where: filter, attributes: BackupAttribute.all) {
            // One hop for all files of an account: a run asks this of every account.
            let (served, state) = await BlockingWork.run { [configuration] in
                let served = account.readProvisioned(configuration)
                let isAsked = !Set(Self.levels(of: served)).isDisjoint(with: levels)
                return isAsked ? (served, Self.readState(of: served, configuration)) : (nil, nil)
            }
            if let served { try await body(served, state) }
        }
    }

    // MARK: - Schedules

    /// The account's current entry; nil if it is gone, or no longer this daemon's.
    /// - Throws: `CancellationError`, or `LDAPError`.
    package func account(_ key: AccountKey) async throws -> Account? {
        try await engine.account(key, attributes: BackupAttribute.all)?.provisioned(configuration)
    }

    /// The levels of which an account gets backups; the first is the one that copies. No text is made, since a run asks this of
    /// every account.
    package static func levels(of account: Account) -> [SnapshotLevel] {
        SnapshotLevel.obstacle(of: account) == nil ? SnapshotLevel.allCases.filter { $0.isKept(by: account) } : []
    }

    /// The job of a level's schedule for an account; nil: it is not due.
    /// - Parameters:
    ///   - failed: when the newest failed job of the level was requested; nil: none failed.
    ///   - since: an account without recorded times is due if a time of the schedule is after it; nil: always.
    package func due(
        _ level: SnapshotLevel, _ account: Account, failed: Timestamp?, since: Timestamp?
    ) async throws -> JobRequest? {
        let isDue = LevelTiming(level, jobs).isDue(
            await state(of: account) ?? SnapshotState(), failed: failed,
            provisioned: Timestamp(text: account.status.state), since: since, now: clock.now)
        return isDue ? try await select(level, account) : nil
    }

    /// The recorded state of an account's snapshots; nil if it cannot be read: the job reports the reason.
    package func state(of account: Account) async -> SnapshotState? {
        await BlockingWork.run { [configuration] in Self.readState(of: account, configuration) }
    }

    /// It blocks.
    private static func readState(of account: Account, _ configuration: BackupConfiguration) -> SnapshotState? {
        do {
            let described = try BackupAccount(reading: account.entry, for: .modify, places: configuration.places)
            return try SnapshotDirectory.open(for: described, configuration)?.state() ?? SnapshotState()
        } catch {
            return nil
        }
    }

    /// The account's uid, by its entry.
    package static func uid(of account: Account) -> String { account.entry.text(BackupAttribute.uid) ?? "" }

    // MARK: - Named accounts

    /// The jobs for backups of accounts named by an operator.
    /// - Parameters:
    ///   - uids: one that occurs twice counts once.
    ///   - isForced: whether accounts with a recent snapshot get a backup as well.
    /// - Returns: no job if any of them gets no backup.
    /// - Throws: `CancellationError`, or `LDAPError`.
    package func requests(
        of level: SnapshotLevel, accounts uids: [String], isForced: Bool = false
    ) async throws -> (jobs: [JobRequest], refusals: [BackupRefusal]) {
        var jobs: [JobRequest] = []
        var refusals: [BackupRefusal] = []
        var named: Set<String> = []
        for uid in uids where named.insert(uid).inserted {
            do {
                let account = try await account(uid, for: level)
                if !isForced, let success = recentSuccess(level, await state(of: account)) {
                    throw BackupRefusal(
                        of: account,
                        "its last \(level) snapshot was made at \(success.text), less than half a period ago",
                        "give --force to make another one all the same")
                }
                jobs.append(request(level, account, isForced: isForced))
            } catch let refusal as BackupRefusal {
                refusals.append(refusal)
            }
        }
        return (refusals.isEmpty ? jobs : [], refusals)
    }

    private func account(_ uid: String, for level: SnapshotLevel) async throws -> Account {
        func refuse(_ reason: String, _ hint: String) -> BackupRefusal {
            BackupRefusal(account: uid.quotedValue, reason: reason, hint: hint)
        }
        guard BackupAccount.isUID(uid) else {
            throw refuse("this is not a uid", "name the account's uid, seven digits or more")
        }
        let condition = Filter.equal(BackupAttribute.uid, AttributeValue(uid))
        var found: [Account] = []
        for try await account in await engine.accounts(where: condition, attributes: BackupAttribute.all) {
            found.append(await account.provisioned(configuration))
        }
        found.sort { "\($0.key.uuid)" < "\($1.key.uuid)" }
        // The job warns of several entries with one uid.
        guard let account = found.first(where: { level.refusal(of: $0) == nil }) ?? found.first else {
            let names = await engine.names
            for try await entry in await engine.entriesOfAllHosts(
                where: condition, attributes: [BackupAttribute.uid])
            {
                guard let hosts = AccountStatus(entry, names: names)?.hosts else {
                    let absence = AccountStatus.absence(from: entry, names: names)
                    throw refuse("\(entry.dn) takes no part in provisioning: \(absence.reason)", absence.hint)
                }
                throw refuse(
                    hosts.isEmpty
                        ? "it names no host, and this daemon serves those of certain hosts"
                        : "it belongs to \(hosts.map(\.quotedValue).joined(separator: ", "))",
                    "run the backup there, or correct \(BackupAttribute.host) of \(entry.dn) or HOST")
            }
            throw refuse(
                "LDAP has no such account", "see accounts list, and SERVICE_SUBTREE and SEARCH_FILTER")
        }
        if let refusal = level.refusal(of: account) { throw refusal }
        if let refusal = try await missingConfiguration(of: account) { throw refusal }
        return account
    }

    // MARK: - One account

    /// The job of an interrupted one: for its entry, whatever uid that has now. The job finds out whether the account still gets a backup.
    /// - Returns: nil if the entry is gone, or no longer this daemon's.
    /// - Throws: `CancellationError`, or `LDAPError`.
    package func request(of level: SnapshotLevel, resuming uuid: EntryUUID) async throws -> JobRequest? {
        let condition = Filter.equal("entryUUID", AttributeValue("\(uuid)"))
        var found: Account?
        for try await account in await engine.accounts(where: condition, attributes: BackupAttribute.all) {
            found = account
        }
        return found.map { request(level, $0) }
    }

    private func select(
        _ level: SnapshotLevel, _ account: Account, isForced: Bool = false
    ) async throws -> JobRequest {
        guard let refusal = try await missingConfiguration(of: account) else {
            return request(level, account, isForced: isForced)
        }
        return Self.failing(
            level, "backup of \(account.key.dn)", client: refusal.account, .wrongConfiguration, refusal.description)
    }

    /// - Parameter isForced: whether it makes a snapshot even if another job has made one since it was requested.
    private func request(_ level: SnapshotLevel, _ account: Account, isForced: Bool = false) -> JobRequest {
        JobRequest(
            type: .backup, name: level.rawValue, level: level.rawValue,
            subject: JobSubject(account.key.uuid), client: Self.uid(of: account), retry: jobs.retry
        ) { [key = account.key] attempt in
            let backup = RsnapshotBackup(
                engine: engine, configuration: configuration, jobs: jobs, key: key, isForced: isForced, clock: clock,
                steadyClock: steadyClock)
            return try await backup.run(attempt)
        }
    }

    /// When the level last succeeded, if that is less than half a period ago.
    private func recentSuccess(_ level: SnapshotLevel, _ state: SnapshotState?) -> Timestamp? {
        state.flatMap { LevelTiming(level, jobs).recentSuccess($0, now: clock.now) }
    }

    /// The refusal if the account has no rsnapshot configuration; its contents and owner are checked by the job.
    private func missingConfiguration(of account: Account) async throws -> BackupRefusal? {
        let uid = Self.uid(of: account)
        guard EntryReader.decimal(uid) != nil else {
            return BackupRefusal(
                of: account, "uid is \(uid.quotedValue), which is not a number", "correct the entry")
        }
        let file = ConfigurationFile(of: uid, configuration)
        do {
            return try await BlockingWork.run { [configuration] _ in
                if try file.exists() { return nil }
                // Of an entry with another uid than before the reason is that.
                _ = try BackupAccount(reading: account.entry, for: .modify, places: configuration.places)
                return BackupRefusal(of: account, "\(file.path) does not exist", ConfiguredSnapshots.provisionAgain)
            }
        } catch let failure as ProvisioningFailure {
            // A fault of the entry names it itself.
            let name = "\(account.key.dn): "
            let reason = failure.reason.hasPrefix(name) ? String(failure.reason.dropFirst(name.count)) : failure.reason
            return BackupRefusal(of: account, reason, failure.hint)
        }
    }
}

/// Why an account gets no backup of a level. The cause is the request or the account, not the backup.
package struct BackupRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// The account as it was named, or its uid.
    package var account: String
    /// The entry; nil: there is none.
    package var dn: DN?
    var reason: String
    var hint: String

    /// One line.
    package var description: String { "\(dn.map { "\($0)" } ?? "account \(account)"): \(reason); \(hint)" }
}

extension BackupRefusal {
    init(of account: Account, _ reason: String, _ hint: String) {
        self.init(account: BackupJobs.uid(of: account), dn: account.key.dn, reason: reason, hint: hint)
    }
}

extension Account {
    /// The account with the home and the numbers of snapshots that it has: until a `modify` is done, which may wait for its day for weeks, those of
    /// its configuration, and not those of the request.
    func provisioned(_ configuration: BackupConfiguration) async -> Account {
        guard isBeingModified else { return self }
        return await BlockingWork.run { readProvisioned(configuration) }
    }

    fileprivate var isBeingModified: Bool { status.mode.operation == .modify && status.mode.stage != .done }

    /// It blocks.
    func readProvisioned(_ configuration: BackupConfiguration) -> Account {
        let uid = BackupJobs.uid(of: self)
        guard isBeingModified, EntryReader.decimal(uid) != nil,
            let text = try? ConfigurationFile(of: uid, configuration).current()
        else { return self }
        let configured = ConfiguredSnapshots(parsing: text)
        // The job reports a file that is not right.
        guard !configured.levels.isEmpty else { return self }
        var account = self
        for level in SnapshotLevel.allCases {
            let retain = configured.retain(level.rawValue) ?? 0
            account.entry[level.intervalAttribute] = [AttributeValue("\(retain)")]
        }
        func place(_ text: String) -> HomePath? { try? HomePath(parsing: text, uid: uid, places: configuration.places) }
        func exists(_ home: HomePath) -> Bool? { (try? HomeWalk(to: home)).map { $0.directory != nil } }
        let asked = entry.text(BackupAttribute.homeDirectory).flatMap(place)
        // Where it has been moved already, the job says what is left to do.
        if let home = configured.home.flatMap({ place($0.string) }), home.path != asked?.path,
            exists(home) != false || asked.flatMap(exists) != true
        {
            account.entry[BackupAttribute.homeDirectory] = [AttributeValue(home.text)]
        }
        return account
    }
}

extension SnapshotLevel {
    /// Why an account gets no backup of the level, by its entry (``Account/provisioned(_:)``); nil: it gets one.
    ///
    /// Backed up are active accounts that were added, are not being deleted, and keep snapshots of the level. A request `modify` does not
    /// prevent a backup; the scheduler runs one job for each account at a time.
    func refusal(of account: Account) -> BackupRefusal? {
        if let obstacle = Self.obstacle(of: account) {
            let mode = obstacle.namesMode ? " (\(account.status.mode))" : ""
            return BackupRefusal(of: account, obstacle.reason + mode, obstacle.hint)
        }
        guard !isKept(by: account) else { return nil }
        if account.isBeingModified {
            return BackupRefusal(
                of: account, "it keeps no \(self) snapshots until its modify is done",
                "wait for that; if it takes long, run: \(Self.explain(account))")
        }
        let name = intervalAttribute
        let text = account.entry.text(name).map { "is \($0.quotedValue)" } ?? "is missing"
        return BackupRefusal(
            of: account, "it keeps no \(self) snapshots: \(name) \(text)",
            "write how many are to be kept into \(name), and request modify")
    }

    fileprivate func isKept(by account: Account) -> Bool {
        account.entry.text(intervalAttribute).flatMap(EntryReader.decimal) ?? 0 > 0
    }

    /// Whether an account was added and is not deleted or to be deleted, by its entry.
    static func isProvisioned(_ account: Account) -> Bool {
        switch (account.status.mode.operation, account.status.mode.stage) {
        case (.add, .done), (.modify, _): true
        case (.add, _), (.delete, _): false
        }
    }

    /// What prevents backups of every level.
    fileprivate static func obstacle(of account: Account) -> (reason: String, namesMode: Bool, hint: String)? {
        switch (account.status.mode.operation, account.status.mode.stage) {
        case (.delete, .done): ("it has been deleted", false, "add it again if it is still wanted")
        case (.delete, _): ("it is to be deleted", true, "write another request if it is still wanted")
        case (.add, .requested), (.add, .claimed):
            account.status.phase == .failed
                ? ("it could not be added", true, "run: \(explain(account))")
                : (
                    "it has not been added yet", true,
                    "wait until it is added; if that takes long, run: \(explain(account))"
                )
        case (.add, .done), (.modify, _):
            switch account.status.isActive {
            case true?: nil
            case false?: ("it is not active", false, "set its sstIsActive to TRUE")
            case nil:
                (
                    "its sstIsActive is missing or not visible to the daemon", false,
                    "run: prov-backup-rsnapshot check; or set its sstIsActive to TRUE"
                )
            }
        }
    }

    private static func explain(_ account: Account) -> String {
        "prov-backup-rsnapshot accounts explain \(BackupJobs.uid(of: account).shellWord)"
    }
}
