import EventLoop
import JobCore
import LDAP
import Logging

/// One reconcile of one account: reads its entry, decides, and does what the entry asks for.
@MainActor final class AccountReconciler {
    /// The reconciler of all accounts, which has begun this reconcile.
    let reconciler: Reconciler
    /// The settings as they were when the reconcile began.
    let configuration: Engine.Configuration
    let key: AccountKey
    /// What is known of the account from earlier reconciles. Its last job is taken out when that is closed or continued.
    var memory: AccountMemory
    /// The newest known entryCSN of the entry.
    private let seen: AttributeValue?
    /// When the engine started.
    private let start: Timestamp
    /// The time for delays between attempts; the date of a request is compared with the clock.
    private let now: Timestamp
    private let ignoringDate: Bool
    /// The failure that the service reported in the attempt.
    var ownFailure: ProvisioningFailure?

    /// Runs ``reconcile()``; nil: it has not begun.
    var task: Task<Void, Never>?
    /// The job that runs; nil: none.
    var summary: JobSummary?
    /// The code with which the job ended, or the request was refused; nil: not known yet.
    private(set) var outcome: ProvisioningExitCode?
    /// The entryCSN that was read or written last.
    private(set) var csn: AttributeValue?
    /// How many changes the persistent search had reported before the last write.
    private var changes: UInt64
    /// The entryCSNs of changes seen meanwhile; nil for a change without one, and for an entry that was listed.
    var notified: [AttributeValue?] = []
    /// Whether the settings have changed since the reconcile began.
    var isOutdated = false

    var context: EngineContext { reconciler.context }
    var clock: any WallClock { context.clock }
    var names: AttributeNames { configuration.policy.names }
    var executor: JobExecutor { configuration.executor }
    var registry: JobRegistry { executor.registry }
    var retry: RetryPolicy { configuration.jobRetry }
    var service: any ProvisioningService { configuration.service }
    var entries: AccountEntries { AccountEntries(link: context.link, scope: configuration.scope) }
    var logger: Logger { .current }

    init(
        _ reconciler: Reconciler, _ key: AccountKey, _ memory: AccountMemory, seen: AttributeValue?, start: Timestamp,
        now: Timestamp, ignoringDate: Bool
    ) {
        self.reconciler = reconciler
        configuration = reconciler.context.configuration()
        self.key = key
        self.memory = memory
        self.seen = seen
        self.start = start
        self.now = now
        self.ignoringDate = ignoringDate
        changes = reconciler.context.liveness.changes
    }

    // MARK: - Progress

    /// The entry is written next.
    func beginWrite() { changes = context.liveness.changes }

    /// - Parameter csn: the new entryCSN.
    func wrote(_ csn: AttributeValue) {
        self.csn = csn
        context.liveness.wrote(since: changes)
        reconciler.noteOwnWrite(csn, of: key.uuid)
    }

    func noteOutcome(_ code: ProvisioningExitCode) {
        outcome = code
        reconciler.count(code)
    }

    /// - Throws: `CancellationError` when the daemon stops; the account can be resumed then.
    func reconcile() async throws -> ReconcileResult {
        let condition = entries.scope.condition
        let attributes = service.requestedAttributes + Entry.changeAttributes
        guard let entry = try await entries.entry(key, attributes: attributes, meeting: condition) else {
            if let seen, memory.requeues < Self.readsOfMissing, EntryVersion.isRecent(seen, now: clock.now) {
                logger.debug("\(key.dn) was there at \(seen), and this server does not have it: asking again")
                return .stale
            }
            if condition != nil, context.planPrinter == nil, let entry = try await entries.entry(key, attributes: []),
                let status = AccountStatus(entry, names: names)
            {
                if let result = try await endLastJob(status, isOthers: true) { return result }
            }
            logger.notice(
                "\(key.dn) is gone from LDAP\(condition == nil ? "" : ", or no longer meets SEARCH_FILTER"); nothing is deleted for that"
            )
            await abandonLastJob(nil)
            return .done
        }
        guard let account = Account(entry, names: names) else {
            let hidden = AccountEntries.hiddenAttributes(of: entry)
            if hidden.isEmpty {
                logger.debug("\(entry.dn) takes no part in provisioning")
            } else {
                logger.error("\(entry.dn) cannot be worked on: \(AccountEntries.hidden(hidden))")
            }
            await abandonLastJob(nil)
            return .done
        }
        if let seen, EntryVersion.isOlder(account.status.csn, than: seen) {
            logger.log(
                level: memory.requeues == 0 ? .warning : .debug,
                """
                \(entry.dn) is shown as it was at \(account.status.csn), and has been changed at \(seen): the server lags behind another \
                one, and is asked again; if it was restored from a backup, see: prov-backup-rsnapshot accounts explain
                """)
            return .stale
        }
        csn = account.status.csn
        let decision = decide(account.status)
        if let planPrinter = context.planPrinter { return try await printPlan(decision, account, to: planPrinter) }
        return try await act(on: decision, account)
    }

    private func decide(_ status: AccountStatus) -> Decision {
        configuration.policy.decide(
            status, now: clock.now, start: start, ignoringDate: ignoringDate, isClockDoubted: context.isClockDoubted)
    }

    private func act(on decision: Decision, _ account: Account) async throws -> ReconcileResult {
        let status = account.status
        if decision != .claim(.delete), decision != .resume(.delete) { context.deletes.withdraw(deleteSubject) }
        if !decision.isResumption {
            let (isOthers, isRefused) = (decision.isOthers, decision.isRefusal)
            if let result = try await endLastJob(status, isOthers: isOthers, isRefused: isRefused) { return result }
        }
        switch decision {
        case .leave(let reason):
            if !decision.isOthers { try await releaseClaim(status) }
            let level: Logger.Level =
                switch reason {
                case .sharedHosts: .error
                case .overdue: .notice
                default: .debug
                }
            logger.log(level: level, "\(status.dn) is left alone: \(reason)")
            return .done
        case .wait(let start):
            try await releaseClaim(status)
            logger.log(
                level: memory.csn == status.csn ? .debug : .info, "\(status.dn) waits for its date",
                metadata: ["until": "\(start.text)"])
            return .wait(until: start)
        case .waitForClock:
            try await releaseClaim(status)
            logger.log(
                level: memory.csn == status.csn ? .debug : .info,
                "\(status.dn) waits although its date has come: the machine's clock may be wrong")
            return .wait(until: clock.now + Self.clockCheckInterval, isDue: true)
        case .refuse(let failure):
            return try await refuse(status, failure)
        case .resume(let operation):
            return try await continueClaimed(account, operation)
        case .claim(let operation):
            if let opening = opening(ignoringDate) {
                try await releaseClaim(status)
                return .wait(until: opening)
            }
            if operation == .delete, let time = deleteDelay() {
                try await releaseClaim(status)
                logger.debug("\(status.dn) is not deleted before \(time.text): too many deletes")
                return .wait(until: time)
            }
            return try await withExclusionKeys(account) {
                if let time = try await admit(operation, account, isUrgent: ignoringDate) {
                    try await releaseClaim(status)
                    return .wait(until: time)
                }
                return try await claim(account, operation)
            }
        }
    }

    /// Ends the last job, which the entry does not ask this daemon for any more.
    /// - Parameters:
    ///   - isOthers: whether the entry may be another daemon's.
    ///   - isRefused: whether the request is refused next, which closes its job with the reason.
    /// - Returns: nil if there is nothing more to do for it.
    private func endLastJob(
        _ status: AccountStatus, isOthers: Bool, isRefused: Bool = false
    ) async throws -> ReconcileResult? {
        if let result = try await writeKnownOutcome(status, isOthers: isOthers) { return result }
        if isRefused, status.phase == .claimed, memory.isUnfinished { return nil }
        if isOthers, let delay = try await releaseToOthers(status) { return delay }
        await abandonLastJob(status, isOthers: isOthers)
        return nil
    }

    /// Writes the outcome of the last job if its work is done, also if its request would be refused by now.
    ///
    /// A request that still asks this daemon is repeated after a restart: the job's record does not tell for which claim it ran.
    /// - Parameter isOthers: whether the entry may be another daemon's. Without a claim nothing tells whose work it waits for.
    /// - Returns: nil if the work is not done, or the entry does not wait for its outcome.
    private func writeKnownOutcome(_ status: AccountStatus, isOthers: Bool) async throws -> ReconcileResult? {
        switch memory.lastJob {
        case .unwritten(let outcome) where outcome.write.following(status) != nil:
            return try await write(outcome, status)
        case .interrupted(let job) where job.name == status.mode.operation.rawValue && status.phase == .claimed:
            guard status.claim.map(configuration.policy.isOwn) ?? !isOthers,
                let outcome = job.outcomeBeforeClosing, outcome.result.isSuccess
            else { return nil }
            takeLastJob()
            let finish = EntryWrite.finish(status, at: clock.now, names: names)
            return try await write(
                AccountOutcome(write: finish, code: .success, job: await executor.open(job), result: outcome), status)
        case .none, .interrupted, .retrying, .pausing, .unwritten: return nil
        }
    }

    /// The account is claimed and not finished: its job continues as soon as it may.
    private func continueClaimed(_ account: Account, _ operation: Operation) async throws -> ReconcileResult {
        let isCanceled = memory.record.flatMap { registry.live($0.job)?.isCanceled } ?? false
        let isUrgent = ignoringDate || isCanceled
        switch memory.lastJob {
        case .unwritten(let outcome):
            return try await write(outcome, account.status)
        case .retrying(var record):
            if record.notBefore > now, !isUrgent { return .retry(record) }
            if let opening = opening(isUrgent) {
                record.notBefore = opening
                return .retry(record)
            }
        case .interrupted(let job) where job.name == operation.rawValue && job.outcomeBeforeClosing?.result == .aborted:
            // It was cancelled, and the previous run of the daemon ended before that was in the entry.
            let canceled = job.outcomeBeforeClosing ?? .canceled
            takeLastJob()
            return try await failed(
                await executor.open(job), attempt: job.attempt, account.status, canceled, before: FailedAttempts())
        case .pausing(let until) where until > now && !isUrgent: return .pause(until: until)
        case .pausing, .interrupted, .none:
            if let opening = opening(isUrgent) { return .wait(until: opening) }
        }
        return try await withExclusionKeys(account) {
            if let time = try await admit(operation, account, isUrgent: isUrgent, isOurs: unfinishedJob != nil) {
                return .wait(until: time)
            }
            return try await resume(account, operation)
        }
    }

    /// Whether the entry has a request that is due, or a claimed one. Changes nothing: another job works on the account.
    /// - Throws: `CancellationError`, or the error of the search.
    func hasWork() async throws -> Bool {
        guard context.planPrinter == nil,
            let entry = try await entries.entry(key, attributes: [], meeting: entries.scope.condition),
            let status = AccountStatus(entry, names: names)
        else { return false }
        switch decide(status) {
        case .leave, .wait, .waitForClock, .refuse: return false
        case .claim(let operation):
            guard operation != .delete || deleteDelay() == nil else { return false }
            return opening(ignoringDate) == nil
        case .resume: break
        }
        switch memory.lastJob {
        case .unwritten: return false
        case .retrying(let record) where record.notBefore > clock.now: return ignoringDate
        case .pausing(let until) where until > clock.now: return ignoringDate
        case .retrying, .pausing, .interrupted, .none: return opening(ignoringDate) == nil
        }
    }

    // MARK: - What may delay the work

    /// When the time window of provisioning opens; nil: it is open.
    private func opening(_ ignoringWindow: Bool) -> Timestamp? {
        let now = clock.now
        let opening = executor.opening(for: .provisioning, after: now)
        return ignoringWindow || opening <= now ? nil : opening
    }

    private var deleteSubject: String { key.uuid.description }

    /// When a delete may begin because of the hourly limit; nil: now.
    private func deleteDelay() -> Timestamp? {
        ignoringDate ? nil : context.deletes.wait(deleteSubject, now: clock.now)
    }

    /// Counts a delete.
    /// - Parameter isOurs: the daemon itself has claimed the account, so the delete was admitted and its origin logged.
    /// - Returns: when a delete may begin because of the hourly limit; nil: now.
    private func admit(
        _ operation: Operation, _ account: Account, isUrgent: Bool, isOurs: Bool = false
    ) async throws -> Timestamp? {
        guard operation == .delete else { return nil }
        if let time = try await context.deletes.admit(deleteSubject, now: clock.now, isUrgent: isUrgent || isOurs) {
            return time
        }
        if !isOurs { logger.notice("\(operation) of \(account.status.dn): \(account.entry.lastChange)") }
        return nil
    }

    /// Does work while no other job works on what the entry names by the service's unique attribute.
    private func withExclusionKeys(
        _ account: Account, _ work: () async throws -> ReconcileResult
    ) async throws -> ReconcileResult {
        guard let attribute = service.uniqueAttribute else { return try await work() }
        let subjects = service.exclusionNames(of: account.entry).map { JobSubject(attribute, $0) }
        guard context.scheduler.acquire(subjects, for: .subject(JobSubject(key.uuid))) else {
            logger.debug("\(account.status.dn) waits for another job that works on its \(attribute)")
            return .blocked(by: subjects, interrupts: try await isUnique(account))
        }
        // Daemons that share accounts may share their homes as well, and the claim is removed together with the entry.
        let lock: any Sendable
        do {
            guard let held = names.claim == nil ? () : try await service.lock(account.entry) else {
                logger.debug("\(account.status.dn) waits for another daemon that works on its \(attribute)")
                return .locked(
                    "another daemon holds the lock of its \(attribute)", again: clock.now + Self.lockRetryInterval)
            }
            lock = held
        } catch {
            return .failed(ProvisioningDelays.Cause(text: "\(error.reason); \(error.hint)", hint: error.hint))
        }
        defer { withExtendedLifetime(lock) {} }
        return try await work()
    }

    private static let clockCheckInterval = Duration.seconds(600)

    /// How often a missing entry is read: it has just been seen, and the server that is asked may lag behind another one.
    static let readsOfMissing = 3

    /// The wait before the lock of another daemon is tried again.
    private static let lockRetryInterval = Duration.seconds(1)

    // MARK: - A dry run

    /// Prints the plan for an account, as lines of text.
    private func printPlan(
        _ decision: Decision, _ account: Account, to output: @Sendable (String) -> Void
    ) async throws -> ReconcileResult {
        let status = account.status
        switch decision {
        case .leave: break
        case .wait(let start):
            output("\(status.dn): waits until \(start.text)")
            return .wait(until: start)
        case .waitForClock:
            output("\(status.dn): waits until the machine's clock can be relied on")
        case .refuse(let failure):
            output("\(status.dn): would be refused: \(failure)")
        case .claim(let operation):
            await output(plan(operation, account, claims: true))
        case .resume(let operation):
            await output(plan(operation, account, claims: false))
        }
        return .done
    }

    private func plan(_ operation: Operation, _ account: Account, claims: Bool) async -> String {
        var lines = ["\(account.status.dn): \(operation)\(claims ? "" : " (resumed)")"]
        if claims { lines.append("  claim: \(EntryWrite.claim(account.status, holder: nil, names: names))") }
        do {
            let request = ProvisioningRequest(
                operation: operation, entry: account.entry, job: JobID(0), attempt: claims ? 1 : 2)
            for step in try await service.plan(request) {
                lines.append("  \(step.name):")
                let preview = await BlockingWork.run { step.preview }
                lines += preview.split(separator: "\n", omittingEmptySubsequences: false).map { "    \($0)" }
            }
            lines.append("  outcome: \(ProvisioningMode(operation, .done))")
        } catch {
            lines.append("  would fail: \(error)")
        }
        return lines.joined(separator: "\n")
    }
}
