public import LDAP
public import JobCore
public import Logging

/// The provisioning engine: watches the entries, provisions the accounts, and answers questions about both.
///
///     entry ──► Watcher ──► Reconciler ──► AccountReconciler ──► AccountEntries ──► entry
@MainActor public final class Engine {
    /// The settings of the engine.
    public struct Configuration: Sendable {
        /// The LDAP servers in the order of preference.
        public var servers: [ServerAddress]
        /// Time-outs, TLS and credentials.
        public var connection: ConnectionOptions
        /// Where the password is configured, for messages, such as `ADMIN_PASSWORD_FILE (/etc/password)`; nil: there is none.
        public var password: String?
        /// How and how often requests are looked for.
        public var timing: Watcher.Timing
        /// The rules of ``Decision``.
        public var policy: DecisionPolicy
        /// Jobs at once; at least 1.
        public var slots: Int
        /// The number of attempts of a job, and the waits between them.
        public var jobRetry: RetryPolicy
        /// The waits between attempts to connect; its number of attempts is ignored.
        public var ldapRetry: RetryPolicy
        /// After how many failed attempts in a row to connect an error is logged; the attempts never end. At start: until an LDAP server was reached
        /// for the first time (setting `ATTEMPTS` of `[Global]`); afterwards `ATTEMPTS` of `[Operation Mode]`.
        public var ldapAttemptsUntilError: (atStart: Int, inOperation: Int)
        /// Plans and performs the work.
        public var service: any ProvisioningService
        /// Runs attempts, and holds the job registry.
        public var executor: JobExecutor

        /// The defaults are those of the settings.
        public init(
            servers: [ServerAddress], connection: ConnectionOptions,
            timing: Watcher.Timing = Watcher.Timing(), policy: DecisionPolicy,
            slots: Int = 4, jobRetry: RetryPolicy,
            ldapRetry: RetryPolicy, ldapAttemptsUntilError: (atStart: Int, inOperation: Int) = (3, 3),
            service: any ProvisioningService,
            executor: JobExecutor = JobExecutor(registry: JobRegistry())
        ) {
            self.servers = servers
            self.connection = connection
            self.timing = timing
            self.policy = policy
            self.slots = slots
            self.jobRetry = jobRetry
            self.ldapRetry = ldapRetry
            self.ldapAttemptsUntilError = ldapAttemptsUntilError
            self.service = service
            self.executor = executor
        }

        /// Which accounts are watched.
        public var scope: WatchScope {
            get { policy.scope }
            set { policy.scope = newValue }
        }
    }

    private let context: EngineContext
    private let availability: LDAPAvailability
    private let login: LDAPLogin
    /// The persistent search has a connection of its own.
    private let watchLink: LDAPLink
    let reconciler: Reconciler
    var liveness: SearchLiveness { context.liveness }
    private var watching: Task<Void, Never>?

    /// - Parameters:
    ///   - configuration: called each time, so that a job starts with the current settings; always with the same job registry. See
    ///     ``reload()``.
    ///   - ids: numbers jobs; nil for a dry run, in which no job starts.
    ///   - deletes: how many accounts may be deleted within an hour.
    ///   - seen: the versions of entries that a previous run has seen.
    ///   - scheduler: shared with all others that run jobs.
    ///   - planPrinter: for a dry run: called with the plan of each account; nothing is changed, on the disk or in LDAP.
    ///   - bound: while so many accounts are due (about 370 bytes each), the watcher reads no more. A search that is not read costs the server
    ///     resources, so this is for the extreme case.
    ///   - isClockDoubted: whether the clock may be wrong: then requests with a date wait.
    public init(
        _ configuration: @escaping @MainActor () -> Configuration, ids: JobIDSource?,
        deletes: HourlyLimit = HourlyLimit(),
        seen: SeenVersions = SeenVersions(),
        scheduler: JobScheduler = JobScheduler(), planPrinter: (@Sendable (String) -> Void)? = nil,
        bound: Int = 500_000,
        clock: any WallClock = SystemWallClock(), isClockDoubted: @escaping @Sendable () -> Bool = { false },
        logger: Logger
    ) {
        availability = LDAPAvailability(configuration, logger: logger)
        login = LDAPLogin(configuration, availability: availability, clock: clock)
        watchLink = LDAPLink(name: "watch", login: login, availability: availability, clock: clock)
        context = EngineContext(
            configuration: configuration,
            link: LDAPLink(name: "work", login: login, availability: availability, clock: clock), ids: ids,
            scheduler: scheduler, deletes: deletes, planPrinter: planPrinter, clock: clock,
            isClockDoubted: isClockDoubted, logger: logger)
        reconciler = Reconciler(context, seen: seen, bound: bound)
    }

    /// Reads and writes entries for the service's other jobs, such as backups.
    private var entries: AccountEntries { AccountEntries(link: context.link, scope: context.configuration().scope) }

    private func watcher() -> Watcher { Watcher(context, link: watchLink) }

    // MARK: - Running

    /// Watches and provisions until ``stop(grace:cancelTimeout:others:)``.
    public func start() {
        watching = Task { [watcher = watcher(), reconciler, logger = context.logger] in
            do {
                try await watcher.run { await reconciler.handle($0) }
            } catch is CancellationError {
                return
            } catch {
                logger.critical("the watcher failed, and no request is detected any more: \(error); restart the daemon")
            }
        }
    }

    /// Provisions all accounts that are due now, and returns when none is due any more.
    /// - Throws: `LDAPError` when the pending accounts cannot be listed.
    public func runOnce() async throws {
        try await watcher().list { await reconciler.handle($0) }
        await reconciler.waitUntilIdle()
    }

    /// Provisions one account now, regardless of its date.
    /// - Returns: the outcome, after the last attempt; `undefinedError` when something outside the account prevents it, which is logged;
    ///   nil when the entry asks for nothing, or the engine stops first.
    public func provision(_ key: AccountKey) async -> ProvisioningExitCode? { await reconciler.provision(key) }

    /// Whether ``stop(grace:cancelTimeout:others:)`` was called.
    public var isStopping: Bool { reconciler.isStopping }

    /// Recovers interrupted jobs: resumes them under their numbers if their entries still ask for them, and closes the others. Ignores jobs of other
    /// types. To be called before ``start()``, or once later if the history could not be read then.
    public func recover(_ interrupted: [Job]) async {
        reconciler.recover(interrupted.filter { $0.type == .provisioning })
    }

    /// Begins again what the old configuration has begun and would go on with: search, connections and limits. To be called when it was
    /// replaced; jobs that run keep the old one, except for the LDAP connection.
    public func reload() {
        watching?.cancel()
        reconciler.settingsChanged()
        login.startOver {
            for link in [watchLink, context.link] { link.reconnect() }
        }
        context.scheduler.readLimits()
        if watching != nil { start() }
    }

    /// Starts nothing more. Running jobs have the grace period; those that do not finish can be resumed.
    /// - Parameters:
    ///   - cancelTimeout: how long cancelled jobs may take to end; those that do not end are logged.
    ///   - others: stops the service's other jobs at the same time; the LDAP connection is kept until it returns.
    public func stop(
        grace: Duration, cancelTimeout: Duration = .seconds(20), others: @escaping @Sendable () async -> Void = {}
    ) async {
        watching?.cancel()
        async let ended: Void = others()
        watchLink.stop()
        await reconciler.stop(GracefulStop(grace: grace, cancelTimeout: cancelTimeout)) { [context] in
            await context.link.stop()
        }
        await ended
        context.link.stop()
        login.stop()
    }

    /// The machine's clock was set, so delays are adjusted. The scheduler is to be told afterwards.
    /// - Parameter step: negative: back.
    public func clockWasSet(by step: Duration) async { reconciler.clockWasSet(by: step) }

    // MARK: - State

    /// What runs, waits and failed at this moment.
    /// - Parameters:
    ///   - account: of which details are listed; nil: of all.
    ///   - most: of those that retry or are behind so many are listed.
    public func snapshot(of account: EntryUUID? = nil, most: Int = .max) async -> EngineSnapshot {
        var snapshot = reconciler.snapshot(of: account, most: most)
        snapshot.isLDAPAvailable = availability.isAvailable
        snapshot.ldapError = availability.lastError
        snapshot.deletes = context.deletes.summary
        snapshot.refusedCredentials = availability.refusal ?? availability.answer
        return snapshot
    }

    /// An element for each time that the server refuses the credentials. For one listener.
    public nonisolated var credentialRefusals: AsyncStream<Void> { availability.refusals }

    /// Whether the server refuses the credentials, so that they are not tried at this moment.
    public var areCredentialsRefused: Bool { availability.refusal != nil }

    /// Tries once to connect to an LDAP server, without waiting for one.
    /// - Throws: what each server answered; while the server refuses the credentials, its last refusal.
    public func reachLDAP() async throws(LDAPError) { try await login.connect(waits: false).close() }

    // MARK: - Accounts, for the service's other jobs

    /// The accounts of this daemon.
    ///
    /// They are read page by page while the sequence is iterated. What is kept of each is its entryUUID, so that none comes twice after a lost
    /// connection (about 34 MB for a million).
    /// - Parameters:
    ///   - condition: a further condition.
    ///   - attributes: besides those of the protocol.
    ///   - ofAllHosts: also the accounts of other daemons.
    public func accounts(
        where condition: Filter? = nil, attributes: [AttributeName], ofAllHosts: Bool = false
    ) -> AccountList {
        AccountList(entries: entries, filter: filter(condition, ofAllHosts: ofAllHosts), attributes: attributes)
    }

    /// Entries with mode and state, also with a mode that is none of the protocol's, so that they take no part in provisioning.
    /// - Parameters:
    ///   - condition: a further condition.
    ///   - attributes: besides those of the protocol.
    public func entriesOfAllHosts(where condition: Filter, attributes: [AttributeName]) -> EntryList {
        EntryList(entries: entries, filter: filter(condition, ofAllHosts: true), attributes: attributes)
    }

    private func filter(_ condition: Filter?, ofAllHosts: Bool) -> Filter {
        let scope = ofAllHosts ? entries.scope.ofAllHosts : entries.scope
        return .and([scope.accounts] + (condition.map { [$0] } ?? []))
    }

    /// The names of the protocol's attributes.
    public var names: AttributeNames { entries.scope.names }

    /// Accounts whose `modify` is requested or claimed: what they ask for need not be done yet.
    public var openModify: Filter { entries.scope.openModify }

    /// The accounts of this daemon with a request that waits or is being worked on.
    /// - Parameter attributes: besides those of the protocol.
    public func pendingAccounts(attributes: [AttributeName]) -> AccountList {
        AccountList(entries: entries, filter: entries.scope.pending, attributes: attributes)
    }

    /// The entries of this daemon whose last request failed, according to their ReturnValue, if entries have one, and those whose mode and state are
    /// invalid (``AccountStatus/isInvalid(_:names:)``).
    /// - Parameter attributes: besides those of the protocol.
    public func failedOrInvalid(attributes: [AttributeName]) -> EntryList {
        let filters = [entries.scope.failed, entries.scope.invalid].compactMap(\.self)
        return EntryList(entries: entries, filter: .or(filters), attributes: attributes)
    }

    /// The accounts of this daemon with a request that some daemon has claimed; nil where daemons share none.
    /// - Parameter attributes: besides those of the protocol.
    public func claimedAccounts(attributes: [AttributeName]) -> AccountList? {
        entries.scope.names.claim.map {
            AccountList(entries: entries, filter: .and([entries.scope.pending, .present($0)]), attributes: attributes)
        }
    }

    /// Whether other daemons may work on the same accounts (attribute CLAIM).
    public var sharesAccounts: Bool { names.claim != nil }

    /// Reads one account; nil when it is gone, or no longer this daemon's. Waits for an LDAP server, until the calling task is cancelled.
    /// - Throws: `CancellationError`, or the server's refusal as a `LDAPError`.
    public func account(_ key: AccountKey, attributes: [AttributeName]) async throws -> Account? {
        let entries = entries
        return try await entries.entry(key, attributes: attributes, meeting: entries.scope.accounts)
            .flatMap { Account($0, names: entries.scope.names) }
    }

    /// Other accounts with the same value of an attribute, of any host.
    /// - Throws: `CancellationError`, or the server's refusal as a `LDAPError`.
    public func others(
        than account: Account, withSame attribute: AttributeName, attributes: [AttributeName]
    ) async throws -> [Account] {
        try await entries.others(
            than: account.key.uuid, with: [attribute: account.entry[attribute]], attributes: attributes
        ).compactMap { Account($0, names: entries.scope.names) }
    }

    /// Writes attributes that a service keeps in an account's entry besides provisioning: reads the entry, asks `change` for modifications, and
    /// writes them, until that succeeds.
    ///
    /// After a lost connection the outcome of a write is unknown, and others may write at the same time. Then the entry is read again and `change`
    /// decides again, so it must return nothing when the entry is as it should be. It may replace attributes that only this daemon writes. Of an
    /// attribute with values of others it must delete and add its own values only, which makes the write a compare-and-set.
    ///
    /// The write is not registered as an own write. For an account that is done it causes no change notification, since that is not pending. For an
    /// account with a request the notification costs a read and must not be ignored: it may be the only one for a request written before.
    /// - Throws: ``AccountGone``, `CancellationError`, or the server's refusal as a `LDAPError`.
    public func write(
        to key: AccountKey, reading attributes: [AttributeName],
        _ change: @Sendable (Entry) -> [Modification]
    ) async throws {
        try await entries.write(to: key, reading: attributes, change)
    }

    /// Takes an exclusion key: until its attempt ends, no other job works on accounts with this value of the service's unique attribute.
    /// - Returns: false when another job has it.
    public func acquire(_ value: String, of attribute: AttributeName, for job: JobID) -> Bool {
        context.scheduler.acquire([JobSubject(attribute, value)], for: .job(job))
    }
}

/// What the parts of an engine share.
@MainActor struct EngineContext {
    /// The current settings; work that has begun keeps those it began with.
    let configuration: @MainActor () -> Engine.Configuration
    /// The connection for everything but the persistent search.
    let link: LDAPLink
    /// The source of job numbers; nil for a dry run, in which no job starts.
    let ids: JobIDSource?
    let scheduler: JobScheduler
    let liveness = SearchLiveness()
    /// How many accounts may be deleted within an hour.
    let deletes: HourlyLimit
    /// Prints each plan of a dry run, in which nothing is done; nil: the plans are carried out.
    let planPrinter: (@Sendable (String) -> Void)?
    let clock: any WallClock
    /// Whether the clock may be wrong.
    let isClockDoubted: @Sendable () -> Bool
    let logger: Logger
}

/// The state of the engine at one moment.
public struct EngineSnapshot: Sendable {
    /// The running jobs in the order of their numbers.
    public var running: [JobSummary] = []
    /// Accounts that wait, due or not.
    public var waiting = 0
    /// When the next waiting account is due; nil when none waits.
    public var nextDue: Timestamp?
    /// Accounts that wait after a failure, the next first.
    public var retrying: [RetrySummary] = []
    /// Accounts that wait because another daemon holds a lock; those that have waited longest.
    public var lockWaits: [LockWait] = []
    /// Accounts whose entries the LDAP server returns in older versions than were seen before; they are among ``troubled``.
    public var behind: [AccountKey] = []
    /// The number of all accounts in ``behind``, which lists only some.
    public var behindCount = 0
    /// Accounts that cannot be provisioned for a reason outside of them, such as an access rule.
    public var troubled = 0
    /// Shortages of the machine and refusals of the LDAP server that accounts wait for.
    public var shortages: [ProvisioningDelay] = []
    /// Jobs that succeeded since the engine started.
    public var succeeded = 0
    /// Jobs that failed since the engine started, including those whose entry was removed.
    public var failed = 0
    /// Deletes that wait because of the hourly limit; nil: none does.
    public var deletes: HourlyLimit.Summary?
    /// Whether an LDAP server answers.
    public var isLDAPAvailable = true
    /// Why a connection to the LDAP server is lost or cannot be made; nil: all are made, or the credentials are refused.
    public var ldapError: LDAPError?
    /// While the server refuses the credentials: its answer, and when they are tried again. While the accounts cannot be read: its answer.
    public var refusedCredentials: String?
}

/// A job that runs now, as the JSON of `status` has it.
public struct JobSummary: Hashable, Sendable, Codable {
    /// The number.
    public var job: JobID
    /// The account.
    public var uuid: EntryUUID
    /// Where the account's entry was last seen.
    public var dn: DN
    /// The operation of the request.
    public var operation: Operation
    /// 1 for the first.
    public var attempt: Int
    /// The step that runs; nil before the first.
    public var step: String?
    /// When this attempt began.
    public var since: Timestamp
}

/// An account that waits for its next attempt, as the JSON of `status` has it.
public struct RetrySummary: Hashable, Sendable, Codable {
    /// The job that the attempts belong to.
    public var job: JobID
    /// The account.
    public var uuid: EntryUUID
    /// Where the account's entry was last seen.
    public var dn: DN
    /// The attempt that has ended.
    public var attempt: Int
    /// When the next one may begin.
    public var next: Timestamp
    /// Why the last one failed, and the hint.
    public var failure: String
    /// Since when a shortage of the machine delays it; nil: none does.
    public var shortageSince: Timestamp?
}

/// An account that is due, and waits because another daemon holds a lock that it needs, as the JSON of `status` has it.
public struct LockWait: Hashable, Sendable, Codable {
    /// The account.
    public var uuid: EntryUUID
    /// Where the account's entry was last seen.
    public var dn: DN
    /// Since when the lock could not be taken.
    public var since: Timestamp
    /// Which lock that is.
    public var reason: String

    /// So many are listed. The other daemons' jobs hold the locks, and few jobs run at once.
    static let mostListed = 20
    /// How to end the wait.
    public static let hint =
        "wait until that daemon has ended its work; if it hangs, end its process, on whose machine lslocks shows the lock"
}

/// The entry does not exist any more, or is no longer this daemon's, so it was not written.
public struct AccountGone: Error, Hashable, Sendable, CustomStringConvertible {
    /// Where it was last seen.
    public var dn: DN

    /// The message, with the hint.
    public var description: String {
        "\(dn) is gone from LDAP, or no longer this daemon's; nothing was written; no action is needed unless the account should exist"
    }
}
