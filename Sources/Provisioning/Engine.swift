public import LDAP
public import JobCore
public import Logging

/// The provisioning engine: watches, dispatches, and can be asked.
///
///     entry ──► Watcher ──► Dispatcher ──► AccountWorker ──► Committer ──► entry
@MainActor public final class Engine {
    /// Everything that a reload of the settings can change.
    public struct Configuration: Sendable {
        /// In the order of preference.
        public var servers: [ServerAddress]
        /// How the directory is reached, and as whom.
        public var connection: ConnectionOptions
        /// Where the password stands, for messages, such as `ADMIN_PASSWORD_FILE (/etc/password)`; nil: there is none.
        public var password: String?
        /// Which accounts are watched.
        public var scope: WatchScope
        /// How and how often wishes are looked for.
        public var timing: Watcher.Timing
        /// By which rules is decided what becomes of them.
        public var policy: DecisionPolicy
        /// Jobs at once; at least 1.
        public var slots: Int
        /// Accounts that may be deleted within an hour (0…``HourlyLimit/largest``); 0: no limit.
        public var deletesPerHour: Int
        /// Between failed attempts of a job.
        public var jobRetry: RetryPolicy
        /// Between tries to reach the directory; its number of attempts is not looked at.
        public var directoryRetry: RetryPolicy
        /// When the directory's absence becomes an error in the log.
        public var directoryAttemptsUntilError: AttemptsUntilError
        /// What carries them out.
        public var service: any ProvisioningService
        /// How attempts are carried out, and on which registry jobs stand.
        public var executor: JobExecutor

        /// Everything at once; what has a default has it in the settings as well.
        public init(
            servers: [ServerAddress], connection: ConnectionOptions, scope: WatchScope,
            timing: Watcher.Timing = Watcher.Timing(), policy: DecisionPolicy,
            slots: Int = 4, deletesPerHour: Int = 0, jobRetry: RetryPolicy,
            directoryRetry: RetryPolicy, directoryAttemptsUntilError: AttemptsUntilError = AttemptsUntilError(),
            service: any ProvisioningService,
            executor: JobExecutor = JobExecutor(registry: JobRegistry(recorder: NoHistory()))
        ) {
            self.servers = servers
            self.connection = connection
            self.scope = scope
            self.timing = timing
            self.policy = policy
            self.slots = slots
            self.deletesPerHour = deletesPerHour
            self.jobRetry = jobRetry
            self.directoryRetry = directoryRetry
            self.directoryAttemptsUntilError = directoryAttemptsUntilError
            self.service = service
            self.executor = executor
        }
    }

    private let ids: JobIDSource?
    private let deletes: HourlyLimit
    private let planPrinter: PlanPrinter?
    private let clock: any WallClock
    private let isClockDoubted: @Sendable () -> Bool
    private let logger: Logger
    private let availability: LDAPAvailability
    private let login: LDAPLogin
    private let watchLink: LDAPLink
    private let workLink: LDAPLink
    private var watcher: Watcher
    let dispatcher: Dispatcher
    /// For the work of the service's other jobs.
    var reader: AccountReader { watcher.reader }
    let liveness = SearchLiveness()
    private let scheduler: JobScheduler
    private var watching: Task<Void, Never>?

    /// - Parameters:
    ///   - ids: gives jobs their numbers; nil for a dry run, in which no job begins.
    ///   - deletes: counts them; its limit is that of the configuration.
    ///   - seen: the versions of entries that an earlier run has seen.
    ///   - scheduler: shared with all others that run jobs.
    ///   - planPrinter: for a dry run; then nothing is changed, on the disk or in the directory.
    ///   - bound: from so many due accounts on, each of which takes some 300 bytes, the watcher reads no more until there is room. A server
    ///     whose search is held up has costs of its own, so that is for the utmost case.
    ///   - isClockDoubted: whether the clock may be wrong: then requests with a day wait.
    public init(
        _ configuration: Configuration, ids: JobIDSource?, deletes: HourlyLimit = HourlyLimit(),
        seen: SeenVersions = SeenVersions(),
        scheduler: JobScheduler = JobScheduler(), planPrinter: PlanPrinter? = nil, bound: Int = 500_000,
        clock: any WallClock = SystemWallClock(), isClockDoubted: @escaping @Sendable () -> Bool = { false },
        logger: Logger
    ) {
        self.ids = ids
        self.scheduler = scheduler
        self.deletes = deletes
        deletes.setLimit(configuration.deletesPerHour)
        self.planPrinter = planPrinter
        self.clock = clock
        self.isClockDoubted = isClockDoubted
        self.logger = logger
        let availability = LDAPAvailability(
            attemptsUntilError: configuration.directoryAttemptsUntilError, password: configuration.password,
            logger: logger)
        let login = LDAPLogin(
            servers: ServerList(configuration.servers), options: configuration.connection, availability: availability,
            clock: clock)
        func link(_ name: String) -> LDAPLink {
            LDAPLink(
                name: name, login: login, retry: configuration.directoryRetry, availability: availability, clock: clock)
        }
        self.availability = availability
        self.login = login
        watchLink = link("watch")
        workLink = link("work")
        let reader = AccountReader(link: workLink, scope: configuration.scope)
        watcher = Watcher(
            configuration, persistLink: watchLink, liveness: liveness, reader: reader, clock: clock, logger: logger)
        let worker = AccountWorker(
            configuration, reader: reader, ids: ids, scheduler: scheduler, deletes: deletes,
            clock: clock, isClockDoubted: isClockDoubted, planPrinter: planPrinter)
        dispatcher = Dispatcher(
            worker: worker, slots: configuration.slots, scheduler: scheduler, liveness: liveness, seen: seen,
            bound: bound,
            clock: clock, logger: logger)
    }

    /// Watches and works until `stop`.
    public func start() {
        watching = Task { [watcher, dispatcher, logger] in
            do {
                try await watcher.run { await dispatcher.handle($0) }
            } catch is CancellationError {
                return
            } catch {
                logger.critical("the watch has ended, and no wish is noticed any more: \(error); restart the daemon")
            }
        }
    }

    /// Works on all that is due now and returns when nothing is due any more.
    /// - Throws: `LDAPError` when the pending accounts cannot be listed.
    public func runOnce() async throws {
        try await watcher.list { await dispatcher.handle($0) }
        await dispatcher.waitUntilIdle()
    }

    /// Carries one account's wish out now, whatever its day.
    /// - Returns: the outcome, after the last attempt; `undefinedError` when something outside the account stands in the
    ///   way, which is in the log; nil when the entry asks for nothing, or the engine stops first.
    public func provision(_ key: AccountKey) async -> ProvisioningExitCode? { await dispatcher.provision(key) }

    /// Looks at the accounts of jobs that an earlier run of the daemon did not end. What their entries still ask for goes on under the same number;
    /// the others are closed. Jobs of other types are not looked at. To be called before ``start()``.
    public func takeUp(_ left: [Job]) async {
        // Where the account was is not known; it is looked for by its entryUUID.
        let base = reader.scope.base
        dispatcher.takeUp(left.filter { $0.type == .provisioning }) { base.appending("uid", $0.client) }
    }

    /// Goes on by new settings. Jobs that run keep what they started with, except for the way to the directory.
    public func reload(_ configuration: Configuration) async {
        watching?.cancel()
        let reader = AccountReader(link: workLink, scope: configuration.scope)
        watcher = Watcher(
            configuration, persistLink: watchLink, liveness: liveness, reader: reader, clock: clock, logger: logger)
        let worker = AccountWorker(
            configuration, reader: reader, ids: ids, scheduler: scheduler, deletes: deletes,
            clock: clock, isClockDoubted: isClockDoubted, planPrinter: planPrinter)
        deletes.setLimit(configuration.deletesPerHour)
        availability.reconfigure(
            attemptsUntilError: configuration.directoryAttemptsUntilError, password: configuration.password)
        await login.reconfigure(servers: ServerList(configuration.servers), options: configuration.connection) {
            [watchLink, workLink] in
            for link in [watchLink, workLink] { link.reconfigure(retry: configuration.directoryRetry) }
        }
        dispatcher.reconfigure(worker: worker, slots: configuration.slots)
        if watching != nil { start() }
    }

    /// Starts nothing more; running jobs have the grace, and what is not finished then is resumable.
    /// - Parameters:
    ///   - patience: how long what is cut off then may take to end; after that it is left, which the log says.
    ///   - others: ends the service's other jobs meanwhile; they need the directory until then.
    public func stop(
        grace: Duration, patience: Duration = .seconds(20), others: @escaping @Sendable () async -> Void = {}
    ) async {
        watching?.cancel()
        async let ended: Void = others()
        watchLink.stop()
        await dispatcher.stop(OrderlyStop(grace: grace, killTimeout: patience)) { [workLink] in
            await workLink.stop()
        }
        await ended
        workLink.stop()
        login.stop()
    }

    /// Until its attempt ends, no other job works on what has this value of the service's unique attribute.
    /// - Returns: false when another job does.
    public func acquire(_ value: String, of attribute: AttributeName, for job: JobID) -> Bool {
        scheduler.acquire([JobSubject(attribute, value)], for: .job(job))
    }

    /// Tells each time that the server refuses the credentials. For one listener.
    public nonisolated var credentialRefusals: AsyncStream<Void> { availability.refusals }

    /// Whether the server refuses the credentials: they are not tried at this moment.
    public var areCredentialsRefused: Bool { availability.refusal != nil }

    /// Whether the directory can be reached at this moment, for those who would rather know than wait.
    /// - Throws: what each server answered to one try.
    public func reachDirectory() async throws(LDAPError) { try await workLink.tryOnce() }

    /// The machine's clock was set: what waits for a while waits no longer by it. The scheduler is to be told afterwards.
    /// - Parameter step: negative: back.
    public func clockWasSet(by step: Duration) async { dispatcher.clockWasSet(by: step) }

    /// What runs, waits and failed at this moment.
    public func snapshot() async -> EngineSnapshot {
        var snapshot = dispatcher.snapshot()
        snapshot.isDirectoryAvailable = availability.isAvailable
        snapshot.deletes = deletes.summary
        snapshot.refusedCredentials = availability.refusal
        return snapshot
    }
}

extension Watcher {
    fileprivate init(
        _ configuration: Engine.Configuration, persistLink: LDAPLink, liveness: SearchLiveness,
        reader: AccountReader, clock: any WallClock, logger: Logger
    ) {
        self.init(
            persistLink: persistLink, liveness: liveness, reader: reader, timing: configuration.timing,
            // The link waits for a directory that is away; a search that only ended is soon begun anew.
            retry: RetryPolicy(
                maximumAttempts: .max, delay: min(.seconds(1), configuration.directoryRetry.delay),
                maximumDelay: configuration.directoryRetry.maximumDelay), clock: clock, logger: logger)
    }
}

extension AccountWorker {
    fileprivate init(
        _ configuration: Engine.Configuration, reader: AccountReader, ids: JobIDSource?,
        scheduler: JobScheduler, deletes: HourlyLimit, clock: any WallClock,
        isClockDoubted: @escaping @Sendable () -> Bool, planPrinter: PlanPrinter?
    ) {
        let committer = Committer(reader: reader)
        self.init(
            reader: reader, committer: committer,
            ending: JobEnding(
                committer: committer, executor: configuration.executor, names: configuration.policy.names,
                retry: configuration.jobRetry, clock: clock), policy: configuration.policy,
            service: configuration.service, retry: configuration.jobRetry, ids: ids,
            executor: configuration.executor, scheduler: scheduler, deletes: deletes, clock: clock,
            isClockDoubted: isClockDoubted,
            planPrinter: planPrinter)
    }
}
