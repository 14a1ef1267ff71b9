import EventLoop
import JobCore
import LDAP
import Logging

/// Reconciles accounts when the ``JobScheduler`` starts them: one reconcile at a time for each account.
@MainActor final class Reconciler {
    let context: EngineContext
    private var scheduler: JobScheduler { context.scheduler }
    private var clock: any WallClock { context.clock }
    private var logger: Logger { context.logger }
    /// The class of accounts in the scheduler.
    private lazy var jobClass = addClass()
    /// When the engine started, by the clock as it is set now.
    private var start: Timestamp

    /// Where each account that waits or runs was last seen.
    private var dns: LastKnownDNs
    private var running: [EntryUUID: AccountReconciler] = [:]
    private let registry: JobRegistry
    private var memories: [EntryUUID: AccountMemory] = [:]
    /// Accounts whose outcomes wait because others keep changing the entries.
    private var contended: Set<EntryUUID> = []
    /// Accounts that an operator wants to be provisioned now, regardless of their dates, and the callers that wait for the outcome.
    private var urgent: [EntryUUID: [CheckedContinuation<ProvisioningExitCode?, Never>]] = [:]
    /// Accounts that wait for another job, while their entries are read to see whether that job is to be interrupted; true: read again afterwards,
    /// because of a change since.
    private var interruptionChecks: [EntryUUID: Bool] = [:]
    private var ownWrites = OwnWrites()
    private var seen: SeenVersions
    private var shortages = ProvisioningDelays()
    private var totals = (succeeded: 0, failed: 0)
    private(set) var isStopping = false
    private var idleWaiters: [CheckedContinuation<Void, Never>] = []
    /// Callers of ``handle(_:)`` that wait for room.
    private let roomWaiters = Waiters<Never>()

    /// The number of due accounts from which on ``handle(_:)`` waits before it returns.
    private let bound: Int
    private static let urgentPriority = 1

    init(_ context: EngineContext, seen: SeenVersions, bound: Int) {
        self.context = context
        self.seen = seen
        self.bound = bound
        start = context.clock.now
        let configuration = context.configuration()
        registry = configuration.executor.registry
        dns = LastKnownDNs(base: configuration.scope.base)
    }

    private func addClass() -> Int {
        scheduler.addClass(
            JobScheduler.Owner { [context] in
                JobClass(limit: context.configuration().slots, isPreferred: true)
            } begin: { [weak self, weak scheduler] key, due in
                guard let self, let uuid = Self.uuid(of: key) else { return _ = scheduler?.finish(key) }
                self.start(uuid, due)
            } waits: { [weak self] key, status in
                self?.showObstacle(of: key, status)
                guard status == .waitingForClientResource, let uuid = Self.uuid(of: key) else { return }
                self?.checkForInterruption(uuid)
            })
    }

    /// Shows in the registry why an account's job waits for its next attempt.
    private func showObstacle(of key: Scheduler.Key, _ status: JobStatus) {
        guard let uuid = Self.uuid(of: key), let job = memories[uuid]?.record?.job else { return }
        registry.waits(job, status) { [scheduler] in scheduler.status(of: key) }
    }

    private static func key(of uuid: EntryUUID) -> Scheduler.Key { .subject(JobSubject(uuid)) }

    private static func uuid(of key: Scheduler.Key) -> EntryUUID? {
        if case .subject(let subject) = key { subject.uuid } else { nil }
    }

    /// Reconciles the accounts of interrupted jobs.
    func recover(_ interrupted: [Job]) {
        let base = context.configuration().scope.base
        var resumed: [AccountKey] = []
        for job in interrupted.sorted(by: { $0.id > $1.id }) {
            guard let uuid = job.subject.uuid, memories[uuid] == nil, running[uuid] == nil else {
                let end = JobOutcome(
                    .failed, message: "not resumed: the account has a later job, or the job has no account")
                registry.closeInterrupted(job, job.outcomeBeforeClosing ?? end)
                continue
            }
            var job = job
            // Its work is done; only its entry does not say so.
            if job.outcomeBeforeClosing?.result.isSuccess == true { job.canceler = nil }
            memories[uuid] = AccountMemory(lastJob: .interrupted(job))
            // A guess: an account that is not there is searched by its entryUUID.
            resumed.append(AccountKey(uuid: uuid, dn: base.appending("uid", job.client)))
        }
        // The oldest request first.
        for key in resumed.reversed() { enqueue(key, csn: nil) }
    }

    /// Takes a change notification. Returns when there is room for the next one, or when the calling task is cancelled.
    func handle(_ notification: ChangeNotification) async {
        switch notification {
        case .pending(_, let csn, isChange: true) where ownWrites.contains(csn): return
        case .pending(let key, let csn, let isChange): enqueue(key, csn: csn, isChange: isChange)
        case .noLongerPending(let uuid):
            // Also a consequence of our own outcomes. An account that waits is reconciled, which finds nothing to do.
            scheduler.hasten(Self.key(of: uuid))
        }
        while scheduler.dueCount(of: jobClass) >= bound, !isStopping, !Task.isCancelled {
            _ = await roomWaiters.wait()
        }
    }

    private func enqueue(_ key: AccountKey, csn: AttributeValue?, isChange: Bool = false) {
        if let csn { seen.insert(csn, of: key.uuid, now: clock.now) }
        running[key.uuid]?.notified.append(isChange ? csn : nil)
        // Also for an entry whose parent was renamed, which leaves the entryCSN as it was.
        dns.note(key)
        if !isChange, let csn, memories[key.uuid]?.csn == csn,
            scheduler.status(of: Self.key(of: key.uuid)) == .waitingForStartTime
        {
            return
        }
        let subject = JobSubject(key.uuid)
        let priority = urgent[key.uuid] == nil ? Job.usualPriority : Self.urgentPriority
        let obstacle = scheduler.offer(
            Scheduler.Item(reconciling: subject, class: jobClass, priority: priority))
        if obstacle == .waitingForClientResource { checkForInterruption(key.uuid) }
    }

    /// Whether there is room for more than one account, since the server's search makes little progress when it is released for one at a time.
    /// The room is not large either, because the server holds resources for a search that is not read.
    private var hasRoom: Bool { scheduler.dueCount(of: jobClass) <= bound - min(bound / 8, 1_000) - 1 }

    /// Provisions an account before all others, regardless of its date.
    /// - Returns: the outcome, after the last attempt; `undefinedError` when something outside the account prevents it, which is logged;
    ///   nil when there was nothing to do, or the daemon stopped first.
    func provision(_ key: AccountKey) async -> ProvisioningExitCode? {
        guard !isStopping else { return nil }
        // The operator decides which server is right.
        seen.forget(key.uuid)
        return await withCheckedContinuation { continuation in
            urgent[key.uuid, default: []].append(continuation)
            enqueue(key, csn: nil)
        }
    }

    /// The machine's clock was set; the scheduler is told afterwards. An account with a date is reconciled too early and waits again.
    /// - Parameter step: negative: back.
    func clockWasSet(by step: Duration) {
        start = start + step
        for (uuid, memory) in memories {
            memories[uuid]?.lastJob = memory.lastJob.afterClockWasSet(by: step)
            memories[uuid]?.lockWait = memory.lockWait.map { ($0.since + step, $0.reason) }
        }
    }

    /// With other settings accounts may have to wait no longer: each that a list shows is reconciled.
    func settingsChanged() {
        for uuid in memories.keys { memories[uuid]?.csn = nil }
        for account in running.values { account.isOutdated = true }
    }

    /// Returns when nothing runs and nothing is due.
    func waitUntilIdle() async {
        guard !isIdle else { return }
        await withCheckedContinuation { idleWaiters.append($0) }
    }

    /// Starts nothing more, gives running jobs the grace period, then cancels them and waits until the cancel timeout.
    /// - Parameter onCancel: called after the grace period, to end what a cancelled job may wait for.
    func stop(_ stop: GracefulStop, onCancel: @escaping @Sendable () async -> Void) async {
        isStopping = true
        scheduler.closeClass(jobClass)
        roomWaiters.resume()
        let tasks = running.values.compactMap(\.task)
        guard !tasks.isEmpty else { return await finish() }
        logger.notice("stopping: \(tasks.count) jobs have \(stop.grace) to finish")
        await stop.run(by: clock) {
            for task in tasks { await task.value }
        } cancel: {
            tasks.forEach { $0.cancel() }
            await onCancel()
        }
        for summary in running.values.compactMap(\.summary) {
            let notice = GracefulStop.notEnded("\(summary.operation) of \(summary.dn)", job: summary.job)
            logger.error("\(notice.text)", metadata: ["job": "\(summary.job)"])
        }
        await finish()
    }

    /// - Parameters:
    ///   - account: of which details are listed; nil: of all.
    ///   - most: of those that retry or are behind so many are listed.
    func snapshot(of account: EntryUUID?, most: Int) -> EngineSnapshot {
        func isMeant(_ uuid: EntryUUID) -> Bool { account == nil || account == uuid }
        let records =
            most == 0
            ? [] : memories.compactMap { uuid, memory in memory.record.map { (uuid: uuid, record: $0) } }
        let next = records.filter { isMeant($0.uuid) }.sorted { $0.record.notBefore < $1.record.notBefore }
        let behind = memories.compactMap { $0.value.isStale ? $0.key : nil }
        return EngineSnapshot(
            running: running.filter { isMeant($0.key) }.values.compactMap(\.summary).sorted { $0.job < $1.job },
            waiting: scheduler.waitingCount(of: jobClass), nextDue: scheduler.nextDue(of: jobClass),
            retrying: next.prefix(most).compactMap { uuid, record in
                guard let key = dns.key(of: uuid) else { return nil }
                return RetrySummary(
                    job: record.job, uuid: uuid, dn: key.dn, attempt: record.attempt, next: record.notBefore,
                    failure: "\(record.failure)", shortageSince: record.failures.shortageBegan)
            },
            lockWaits: lockWaits(isMeant), behind: behind.filter(isMeant).prefix(most).compactMap(dns.key),
            behindCount: behind.count,
            troubled: memories.values.count { $0.isTroubled }, shortages: shortages.list(of: account),
            succeeded: totals.succeeded, failed: totals.failed)
    }

    private func lockWaits(_ isMeant: (EntryUUID) -> Bool) -> [LockWait] {
        let waits = memories.compactMap { uuid, memory in
            isMeant(uuid) ? memory.lockWait.map { (uuid: uuid, since: $0.since, reason: $0.reason) } : nil
        }
        return waits.sorted { $0.since < $1.since }.prefix(LockWait.mostListed).compactMap { wait in
            dns.key(of: wait.uuid).map { LockWait(uuid: wait.uuid, dn: $0.dn, since: wait.since, reason: wait.reason) }
        }
    }

    // MARK: - Interrupting another job of the account

    /// Interrupts the job that an account waits for, which may run for hours, if the account's entry has a request that is due.
    private func checkForInterruption(_ uuid: EntryUUID) {
        guard !isStopping, scheduler.status(of: Self.key(of: uuid)) == .waitingForClientResource,
            let key = dns.key(of: uuid)
        else { return }
        guard interruptionChecks[uuid] == nil else {
            interruptionChecks[uuid] = true
            return
        }
        interruptionChecks[uuid] = false
        Task { [account = reconciler(of: key), logger] in
            var hasWork = false
            do {
                hasWork = try await withLogger(logger) { _ in try await account.hasWork() }
            } catch {
                logger.debug("\(key.dn) cannot be read while another job works on it: \(error)")
            }
            self.checkedForInterruption(key, hasWork)
        }
    }

    private func checkedForInterruption(_ key: AccountKey, _ hasWork: Bool) {
        let again = interruptionChecks.removeValue(forKey: key.uuid) ?? false
        guard scheduler.isWaiting(Self.key(of: key.uuid)), !isStopping else { return }
        if hasWork {
            logger.info(
                "\(key.dn) has a request that is due: another job on the account is interrupted and repeated afterwards"
            )
            scheduler.interrupt(JobSubject(key.uuid), for: jobClass)
        } else if again {
            checkForInterruption(key.uuid)
        }
    }

    // MARK: - One reconcile

    /// - Parameter due: when the account became due.
    private func start(_ uuid: EntryUUID, _ due: Timestamp) {
        if !roomWaiters.isEmpty, hasRoom { roomWaiters.resume() }
        guard !isStopping, let key = dns.key(of: uuid) else {
            scheduler.finish(Self.key(of: uuid))
            return
        }
        // The reconcile that starts now sees all changes until now.
        scheduler.forgetOffers(of: Self.key(of: uuid))
        let memory = memories[uuid] ?? AccountMemory()
        let account = reconciler(of: key, now: max(clock.now, due))
        running[uuid] = account
        account.task = Task { [logger] in
            let result: ReconcileResult?
            do {
                result = try await withLogger(logger) { _ in try await account.reconcile() }
            } catch is CancellationError where self.isStopping {
                result = nil
            } catch is CancellationError {
                logger.log(
                    level: memory.level,
                    "\(key.dn) is tried again: its work threw CancellationError, and nothing had canceled it")
                if let job = account.summary?.job {
                    self.registry.status(job, .waitingForStartTime)
                    self.reconcileWhenCanceled(job, uuid)
                }
                result = .failed(nil)
            } catch let error as StateFileError {
                logger.debug("\(key.dn) cannot be worked on: \(error)")
                result = .failed(ProvisioningDelays.Cause(text: "\(error)", hint: error.hint))
            } catch {
                let cause = (error as? LDAPError).flatMap(ProvisioningDelays.Cause.init)
                logger.log(
                    level: cause == nil ? memory.level : .debug, "\(key.dn) cannot be worked on: \(error)")
                result = .failed(cause)
            }
            self.ended(uuid, result)
        }
    }

    /// The reconciler with the current settings.
    /// - Parameter now: for delays between attempts; nil: by the clock.
    private func reconciler(of key: AccountKey, now: Timestamp? = nil) -> AccountReconciler {
        AccountReconciler(
            self, key, memories[key.uuid] ?? AccountMemory(), seen: seen.version(of: key.uuid, now: clock.now),
            start: start, now: now ?? clock.now, ignoringDate: urgent[key.uuid] != nil)
    }

    /// The account's last job has been closed, or goes on.
    func forgetLastJob(of uuid: EntryUUID) { memories[uuid]?.lastJob = .none }

    func noteOwnWrite(_ csn: AttributeValue, of uuid: EntryUUID) {
        ownWrites.insert(csn)
        seen.insert(csn, of: uuid, now: clock.now)
    }

    /// A job has ended, or a request was refused.
    func count(_ code: ProvisioningExitCode) {
        if code == .success { totals.succeeded += 1 } else { totals.failed += 1 }
    }

    /// - Parameter result: nil when the daemon's stop cancelled the reconcile.
    private func ended(_ uuid: EntryUUID, _ result: ReconcileResult?) {
        guard let run = running.removeValue(forKey: uuid) else { return }
        var memory = memories.removeValue(forKey: uuid) ?? AccountMemory()
        let again = memory.reconciled(result, now: clock.now, delay: retryDelay)
        memory.csn = run.isOutdated ? nil : run.csn
        if again != nil { memories[uuid] = memory }
        contended.remove(uuid)
        if case .contended = result { contended.insert(uuid) }
        if case .conflict = result, memory.requeues == 2, let key = dns.key(of: uuid) {
            logger.warning("\(key.dn) is changed by others each time before the daemon can write to it; trying again")
        }
        if result != nil { noteShortage(again == nil ? nil : memory.shortage, of: uuid) }
        let due = giveBack(uuid, result, again: again, notified: run.notified)
        if case .retry(let record) = result { reconcileWhenCanceled(record.job, uuid) }
        if due == nil {
            dns.forget(uuid)
            context.deletes.withdraw(uuid.description)
        }
        let outcome = outcome(of: run, result, memory)
        let continues = memory.record != nil || result?.isRepeated == true || due.map { $0 <= clock.now } ?? false
        if outcome != nil || !continues {
            urgent.removeValue(forKey: uuid)?.forEach { $0.resume(returning: outcome) }
        }
        if isIdle { resumeIdleWaiters() }
    }

    /// Gives the account back to the scheduler.
    /// - Parameter notified: the entryCSNs of the notifications during the reconcile.
    /// - Returns: when the scheduler starts it again; nil: after the next notification.
    private func giveBack(
        _ uuid: EntryUUID, _ result: ReconcileResult?, again: Timestamp?, notified: [AttributeValue?]
    ) -> Timestamp? {
        let key = Self.key(of: uuid)
        defer { if let status = scheduler.status(of: key) { showObstacle(of: key, status) } }
        if case .blocked(let subjects, let interrupts) = result {
            scheduler.finish(key, waitingFor: subjects)
            // Such as the backup of an entry that was removed and added again.
            if interrupts, !isStopping { for subject in subjects { scheduler.interrupt(subject, for: jobClass) } }
            return again
        }
        if notified.allSatisfy({ $0 != nil && ownWrites.contains($0) }) { scheduler.forgetOffers(of: key) }
        return scheduler.finish(key, again: again)
    }

    /// What callers that wait are told; nil: nothing yet.
    private func outcome(
        of run: AccountReconciler, _ result: ReconcileResult?, _ memory: AccountMemory
    ) -> ProvisioningExitCode? {
        switch result {
        case .failed, .unwritten: run.outcome ?? .undefinedError
        // A caller does not wait as long as a shortage may last.
        case .retry where memory.shortage != nil && run.summary != nil: run.outcome ?? .undefinedError
        default: run.outcome
        }
    }

    /// Logs it once for all accounts that wait for the same.
    private func noteShortage(_ cause: ProvisioningDelays.Cause?, of uuid: EntryUUID) {
        let (began, over) = shortages.update(uuid, cause, at: clock.now)
        for text in over { logger.notice("no request waits any more because of this: \(text)") }
        if let began { logger.error("provisioning is delayed: \(began)") }
    }

    private func reconcileWhenCanceled(_ job: JobID, _ uuid: EntryUUID) {
        registry.whenCanceled(job) { [weak self] in
            guard let self, let key = self.dns.key(of: uuid) else { return }
            self.enqueue(key, csn: nil)
        }
    }

    private func retryDelay(afterAttempt attempt: Int) -> Duration {
        let retry = context.configuration().jobRetry
        var generator = SystemRandomNumberGenerator()
        let delay = retry.delay(afterAttempt: attempt, using: &generator) ?? retry.maximumDelay
        return min(delay, Self.longestRetryDelay)
    }

    /// What prevents the work is fixed elsewhere, which no notification tells.
    private static let longestRetryDelay = Duration.seconds(300)

    private var isIdle: Bool { running.isEmpty && contended.isEmpty && scheduler.isIdle(jobClass) }

    private func resumeIdleWaiters() {
        idleWaiters.forEach { $0.resume() }
        idleWaiters = []
    }

    private func finish() async {
        urgent.values.joined().forEach { $0.resume(returning: nil) }
        urgent = [:]
        resumeIdleWaiters()
        await seen.flush()
    }
}
