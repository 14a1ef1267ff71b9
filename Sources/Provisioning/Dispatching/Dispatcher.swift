import LDAP
import JobCore
import Logging

/// Works on accounts when the ``JobScheduler`` says that their turn has come.
@MainActor final class Dispatcher {
    private var worker: AccountWorker
    private let scheduler: JobScheduler
    private let slots: Int
    /// The class of accounts in the scheduler.
    private lazy var jobClass = addClass()
    private let liveness: SearchLiveness
    private let clock: any WallClock
    private let logger: Logger

    /// Of accounts that wait or are worked on.
    private var places: AccountPlaces
    private var running: [EntryUUID: Running] = [:]
    private let registry: JobRegistry
    /// The jobs that wait for their next attempt.
    private var retrying: [Scheduler.Key: JobID] = [:]
    private var memories: [EntryUUID: AccountMemory] = [:]
    /// Accounts that an operator wants now, whatever their day, and who waits for the outcome.
    private var urgent: [EntryUUID: [CheckedContinuation<ProvisioningExitCode?, Never>]] = [:]
    /// Those that wait whose entries are looked at for work that another job has to make room for; true: again, since something was seen meanwhile.
    private var looking: [EntryUUID: Bool] = [:]
    private var ownWrites = OwnWrites()
    private var seen: SeenVersions
    private var shortages = MachineShortages()
    private var totals = (succeeded: 0, failed: 0)
    private var isStopping = false
    private var idleWaiters: [CheckedContinuation<Void, Never>] = []
    /// Those who bring change notifications and wait until there is room.
    private var held: [AsyncStream<Never>.Continuation] = []

    /// From so many accounts on that are due no further one is taken from the watcher.
    private let bound: Int
    private static let urgentPriority = 1

    private struct Running {
        var task: Task<Void, Never>
        var summary: JobSummary?
        /// The entryCSNs of changes seen meanwhile; nil stands for a change without one, and for an entry that was listed.
        var seen: [AttributeValue?] = []
        var outcome: ProvisioningExitCode?
    }

    init(
        worker: AccountWorker, slots: Int, scheduler: JobScheduler, liveness: SearchLiveness, seen: SeenVersions,
        bound: Int, clock: any WallClock, logger: Logger
    ) {
        self.worker = worker
        self.slots = slots
        self.scheduler = scheduler
        self.liveness = liveness
        self.seen = seen
        self.bound = bound
        registry = worker.executor.registry
        places = AccountPlaces(base: worker.reader.scope.base)
        self.clock = clock
        self.logger = logger
    }

    private func addClass() -> Int {
        scheduler.addClass(
            JobClass(limit: slots, isPreferred: true),
            owner: JobScheduler.Owner { [weak self, weak scheduler] key, due in
                guard let self, let uuid = Self.uuid(of: key) else { return _ = scheduler?.finish(key) }
                self.begin(uuid, due)
            } waits: { [weak self] key, status in
                self?.showObstacle(of: key, status)
                guard status == .waitingForClientResource, let uuid = Self.uuid(of: key) else { return }
                self?.makeRoom(for: uuid)
            })
    }

    /// In the registry, where the account has a job that waits for its next attempt.
    private func showObstacle(of key: Scheduler.Key, _ status: JobStatus) {
        guard let job = retrying[key] else { return }
        registry.waits(job, status) { [scheduler] in scheduler.status(of: key) }
    }

    private static func key(of uuid: EntryUUID) -> Scheduler.Key { .subject(JobSubject(uuid)) }

    private static func uuid(of key: Scheduler.Key) -> EntryUUID? {
        if case .subject(let subject) = key { subject.account } else { nil }
    }

    /// New jobs go by these from now on; those that run keep what they started with.
    func reconfigure(worker: AccountWorker, slots: Int) {
        self.worker = worker
        scheduler.setClass(jobClass, JobClass(limit: slots, isPreferred: true))
    }

    /// Jobs of an earlier run of the daemon: their accounts are looked at.
    /// - Parameter name: where such a job's account may be.
    func takeUp(_ left: [Job], name: (Job) -> DN) {
        for left in left.sorted(by: { $0.id > $1.id }) {
            guard let uuid = left.subject.account, memories[uuid] == nil else {
                worker.ending.lose(
                    left, JobOutcome(.failed, message: "lost: the account has a later job, or is none"))
                continue
            }
            memories[uuid] = AccountMemory(past: .left(left))
            look(at: AccountKey(uuid: uuid, dn: name(left)), csn: nil)
        }
    }

    /// Takes a change notification; returns only when there is room for the next, or the calling task is cancelled.
    func handle(_ notification: ChangeNotification) async {
        switch notification {
        case .look(_, let csn, isChange: true) where ownWrites.contains(csn): return
        case .look(let key, let csn, let isChange): look(at: key, csn: csn, isChange: isChange)
        case .left(let uuid):
            // One that waits is looked at, which finds nothing to do and forgets it; our own outcomes leave so as well.
            scheduler.hasten(Self.key(of: uuid))
        }
        while scheduler.dueCount(of: jobClass) >= bound, !isStopping, !Task.isCancelled {
            // A stream ends with the task that reads it.
            let (room, holder) = AsyncStream<Never>.makeStream()
            held.append(holder)
            for await _ in room {}
        }
    }

    private func look(at key: AccountKey, csn: AttributeValue?, isChange: Bool = false) {
        if let csn { seen.insert(csn, of: key.uuid, now: clock.now) }
        running[key.uuid]?.seen.append(isChange ? csn : nil)
        places.note(key)
        let subject = JobSubject(key.uuid)
        let priority = urgent[key.uuid] == nil ? Job.usualPriority : Self.urgentPriority
        let obstacle = scheduler.offer(
            Scheduler.Item(reconciling: subject, class: jobClass, priority: priority))
        if obstacle == .waitingForClientResource { makeRoom(for: key.uuid) }
    }

    /// There is room again, and not for one account only: a search that is called at each end of a job gets little done. Nor is there too much,
    /// for the server keeps what it reads from as long as its search is held up.
    private var hasRoomAgain: Bool { scheduler.dueCount(of: jobClass) <= bound - min(bound / 8, 1_000) - 1 }

    private func letGoOn() {
        held.forEach { $0.finish() }
        held = []
    }

    /// Carries an account's wish out before all others, whatever its day.
    /// - Returns: the outcome, after the last attempt; `undefinedError` when something outside the account stands in the
    ///   way, which is in the log; nil when there was nothing to do, or the daemon stopped first.
    func provision(_ key: AccountKey) async -> ProvisioningExitCode? {
        guard !isStopping else { return nil }
        // An operator decides which server is right.
        seen.forget(key.uuid)
        return await withCheckedContinuation { continuation in
            urgent[key.uuid, default: []].append(continuation)
            look(at: key, csn: nil)
        }
    }

    /// The machine's clock was set, which the scheduler is told afterwards. A dated request is looked at early and waits again.
    /// - Parameter step: negative: back.
    func clockWasSet(by step: Duration) {
        for (uuid, memory) in memories { memories[uuid]?.past = memory.past.afterClockWasSet(by: step) }
    }

    /// Returns when nothing runs and nothing is due.
    func waitUntilIdle() async {
        guard !isIdle else { return }
        await withCheckedContinuation { idleWaiters.append($0) }
    }

    /// Starts nothing more, gives running jobs the grace, then cancels them and waits for their end, for as long as patience lasts.
    /// - Parameter giveUp: called when the grace is over, to end what a cancelled job may be waiting for.
    func stop(_ stop: OrderlyStop, giveUp: @escaping @Sendable () async -> Void) async {
        isStopping = true
        scheduler.closeClass(jobClass)
        letGoOn()
        let tasks = running.values.map(\.task)
        guard !tasks.isEmpty else { return await finish() }
        logger.notice("stopping: \(tasks.count) jobs have \(stop.grace) to finish")
        await stop.run(by: clock) {
            for task in tasks { await task.value }
        } cutOff: {
            tasks.forEach { $0.cancel() }
            await giveUp()
        }
        for summary in running.values.compactMap(\.summary) {
            let left = OrderlyStop.left("\(summary.operation) of \(summary.key.dn)", job: summary.job)
            logger.error("\(left.text)", metadata: ["job": "\(summary.job)"])
        }
        await finish()
    }

    func snapshot() -> EngineSnapshot {
        EngineSnapshot(
            running: running.values.compactMap(\.summary).sorted { $0.job < $1.job },
            waiting: scheduler.waitingCount(of: jobClass), nextDue: scheduler.nextDue(of: jobClass),
            retrying: memories.compactMap { uuid, memory in
                guard let record = memory.record, let key = places.key(of: uuid) else { return nil }
                return RetrySummary(key: key, record: record)
            }.sorted { $0.record.notBefore < $1.record.notBefore },
            behind: memories.filter(\.value.isBehind).keys.compactMap(places.key),
            troubled: memories.values.filter { $0.troubles > 0 }.count, shortages: shortages.list,
            succeeded: totals.succeeded, failed: totals.failed)
    }

    // MARK: - One account's turn

    /// Where another job works on an account that waits, and its entry asks for work, that job is interrupted: it may take hours.
    private func makeRoom(for uuid: EntryUUID) {
        guard !isStopping, scheduler.status(of: Self.key(of: uuid)) == .waitingForClientResource,
            let key = places.key(of: uuid)
        else { return }
        guard looking[uuid] == nil else {
            looking[uuid] = true
            return
        }
        looking[uuid] = false
        let (memory, ignoringDate) = (memories[uuid] ?? AccountMemory(), urgent[uuid] != nil)
        Task { [worker, logger] in
            var hasWork = false
            do {
                hasWork = try await withLogger(logger) { _ in
                    try await worker.hasWork(on: key, memory, ignoringDate: ignoringDate)
                }
            } catch {
                logger.debug("\(key.dn) cannot be looked at while another job works on it: \(error)")
            }
            self.looked(at: key, hasWork)
        }
    }

    private func looked(at key: AccountKey, _ hasWork: Bool) {
        let again = looking.removeValue(forKey: key.uuid) ?? false
        guard scheduler.isWaiting(Self.key(of: key.uuid)), !isStopping else { return }
        if hasWork {
            logger.info("\(key.dn) asks for work: another job on the account is interrupted and repeated afterwards")
            scheduler.interrupt(JobSubject(key.uuid), for: jobClass)
        } else if again {
            makeRoom(for: key.uuid)
        }
    }

    /// - Parameter due: the time by which its turn has come.
    private func begin(_ uuid: EntryUUID, _ due: Timestamp) {
        if !held.isEmpty, hasRoomAgain { letGoOn() }
        guard !isStopping, let key = places.key(of: uuid) else {
            scheduler.finish(Self.key(of: uuid))
            return
        }
        // Changes that were seen until now are seen by the look that begins now.
        scheduler.forgetOffers(of: Self.key(of: uuid))
        let now = max(clock.now, due)
        let memory = memories[uuid] ?? AccountMemory()
        let (ignoringDate, seen) = (urgent[uuid] != nil, seen.version(of: uuid, now: clock.now))
        running[uuid] = Running(
            task: Task { [worker, logger] in
                let disposition: AccountTurn.Disposition?
                do {
                    disposition = try await withLogger(logger) { _ in
                        try await worker.work(on: key, memory, seen: seen, now: now, ignoringDate: ignoringDate) {
                            await self.hear($0, of: uuid)
                        }
                    }
                } catch is CancellationError {
                    disposition = nil
                } catch let error as StateFileError {
                    logger.debug("\(key.dn) cannot be worked on: \(error)")
                    disposition = .obstructed(MachineShortages.Cause(text: "\(error)", hint: error.hint))
                } catch {
                    logger.log(level: memory.level, "\(key.dn) cannot be worked on: \(error)")
                    disposition = .trouble
                }
                self.ended(uuid, disposition)
            })
    }

    private func hear(_ report: AccountTurn.Report, of uuid: EntryUUID) {
        switch report {
        case .pastIsOver: memories[uuid]?.past = .nothing
        case .started(let summary): running[uuid]?.summary = summary
        case .step(let name): running[uuid]?.summary?.step = name
        case .wrote(let csn):
            ownWrites.insert(csn)
            liveness.wrote()
            seen.insert(csn, of: uuid, now: clock.now)
        case .ended(let code):
            running[uuid]?.outcome = code
            if code == .success { totals.succeeded += 1 } else { totals.failed += 1 }
        }
    }

    /// - Parameter disposition: nil when the daemon's stop cut the account's turn off.
    private func ended(_ uuid: EntryUUID, _ disposition: AccountTurn.Disposition?) {
        guard let run = running.removeValue(forKey: uuid) else { return }
        var memory = memories.removeValue(forKey: uuid) ?? AccountMemory()
        memory.isBehind = false
        memory.obstacle = nil
        var again: Timestamp?
        var outcome = run.outcome
        switch disposition {
        case .settled, nil: memory = AccountMemory()
        case .again(let time):
            memory.troubles = 0
            again = time
        case .retry(let record):
            memory = AccountMemory(past: .waits(record))
            again = record.notBefore
            // Who waits for the outcome is not kept waiting for a day.
            if memory.shortage != nil, run.summary != nil { outcome = outcome ?? .undefinedError }
        case .rest(let time):
            memory = AccountMemory(past: .rests(until: time))
            again = time
        case .lost:
            // A job that was left is ended, or goes on, when it is known what the entry asks for.
            if case .left = memory.past {} else { memory.past = .nothing }
            memory.troubles += 1
            again = memory.troubles == 1 ? .distantPast : clock.now + patience(memory)
            if memory.troubles == 2, let key = places.key(of: uuid) {
                logger.warning("\(key.dn) never stands as it was read when it is written to; it is tried again")
            }
        case .disturbed(let outcome, let delay):
            memory = AccountMemory(past: .unwritten(outcome))
            again = clock.now + delay
        case .behind:
            memory.isBehind = true
            memory.troubles += 1
            again = clock.now + patience(memory)
        case .blocked:
            memory.troubles = 0
            again = .distantPast
        case .busy(let time):
            memory.troubles = 0
            again = time
        case .trouble, .obstructed:
            // What the worker has not called over is as true as before.
            memory.troubles += 1
            if case .obstructed(let cause) = disposition { memory.obstacle = cause }
            again = clock.now + patience(memory)
            outcome = outcome ?? .undefinedError
        case .unwritten(let unwritten):
            memory = AccountMemory(past: .unwritten(unwritten), troubles: memory.troubles + 1)
            again = clock.now + patience(memory)
            outcome = outcome ?? .undefinedError
        }
        if again != nil { memories[uuid] = memory }
        if disposition != nil { tell(shortages.update(uuid, again == nil ? nil : memory.shortage, at: clock.now)) }
        let onlyEchoes = run.seen.allSatisfy { $0 != nil && ownWrites.contains($0) }
        let subject = Self.key(of: uuid)
        var due = again
        if case .blocked(let subjects) = disposition {
            scheduler.finish(subject, waitingFor: subjects)
        } else {
            due = scheduler.finish(subject, again: again, ignoringOffers: onlyEchoes)
        }
        retrying[subject] = memory.record?.job
        if let status = scheduler.status(of: subject) { showObstacle(of: subject, status) }
        if case .retry(let record) = disposition { lookWhenCanceled(record.job, uuid) }
        if due == nil {
            places.forget(uuid)
            worker.deletes.withdraw(uuid.description)
        }
        var goesOn = memory.record != nil || due.map { $0 <= clock.now } ?? false
        if case .busy = disposition { goesOn = true }
        if outcome != nil || !goesOn {
            urgent.removeValue(forKey: uuid)?.forEach { $0.resume(returning: outcome) }
        }
        if isIdle {
            idleWaiters.forEach { $0.resume() }
            idleWaiters = []
        }
    }

    /// Once for all accounts that wait for the same.
    private func tell(_ changes: [MachineShortages.Change]) {
        for change in changes {
            switch change {
            case .began(let text): logger.error("the machine holds up provisioning: \(text)")
            case .over(let text): logger.notice("no request waits any more because of this: \(text)")
            }
        }
    }

    private func lookWhenCanceled(_ job: JobID, _ uuid: EntryUUID) {
        worker.executor.registry.whenCanceled(job) { [weak self] in self?.lookAgain(at: uuid) }
    }

    private func lookAgain(at uuid: EntryUUID) {
        if let key = places.key(of: uuid) { look(at: key, csn: nil) }
    }

    private func patience(_ memory: AccountMemory) -> Duration {
        var generator = SystemRandomNumberGenerator()
        return worker.retry.delay(afterAttempt: memory.troubles, using: &generator) ?? worker.retry.maximumDelay
    }

    /// What is left in the queue is not due.
    private var isIdle: Bool { running.isEmpty && scheduler.isIdle(jobClass) }

    private func finish() async {
        urgent.values.joined().forEach { $0.resume(returning: nil) }
        urgent = [:]
        idleWaiters.forEach { $0.resume() }
        idleWaiters = []
        await seen.flush()
    }
}
