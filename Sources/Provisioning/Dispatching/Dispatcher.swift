import DirectoryClient
import DirectoryModel
import JobCore
import Logging

/// Runs at most one job for each account and a limited number at once, and wakes by itself when the next is due.
actor Dispatcher {
    /// Accounts that are to be looked at, at their time.
    private var queue: AccountQueue
    private var worker: AccountWorker
    private let lane: JobAdmission.Lane
    private let liveness: SearchLiveness
    private let clock: any WallClock
    private let logger: Logger

    private var running: [EntryUUID: Running] = [:]
    private var memories: [EntryUUID: AccountMemory] = [:]
    /// Accounts that an operator wants now, whatever their day, and who waits for the outcome.
    private var urgent: [EntryUUID: [CheckedContinuation<ProvisioningExitCode?, Never>]] = [:]
    /// Those next in line, which wait among the jobs of all kinds for their turn, and which time had come when they began to.
    private var asked: [EntryUUID: (ticket: JobAdmission.Ticket, now: WallTime)] = [:]
    /// Those of them whose entries are looked at for work that another job has to make room for; true: again, since something was seen meanwhile.
    private var looking: [EntryUUID: Bool] = [:]
    private var ownWrites = OwnWrites()
    private var seen: SeenVersions
    private var shortages = MachineShortages()
    private var totals = (succeeded: 0, failed: 0)
    private var alarm = Alarm()
    private var isStopping = false
    private var idleWaiters: [CheckedContinuation<Void, Never>] = []
    /// Those who bring hints and wait until there is room.
    private var held: [AsyncStream<Never>.Continuation] = []

    private let bounds: QueueBounds
    private static let urgentPriority = 1

    private struct Running {
        var task: Task<Void, Never>
        var summary: JobSummary?
        /// The entryCSNs of changes seen meanwhile; nil stands for a change without one, and for an entry that was listed.
        var seen: [AttributeValue?] = []
        var outcome: ProvisioningExitCode?
    }

    init(
        worker: AccountWorker, slots: Int, admission: JobAdmission, liveness: SearchLiveness, seen: SeenVersions,
        bounds: QueueBounds, clock: any WallClock, logger: Logger
    ) {
        self.worker = worker
        self.liveness = liveness
        self.seen = seen
        self.bounds = bounds
        queue = AccountQueue(base: worker.reader.scope.base, limit: bounds.due)
        lane = admission.lane(slots: slots)
        self.clock = clock
        self.logger = logger
    }

    /// New jobs go by these from now on; those that run keep what they started with.
    func reconfigure(worker: AccountWorker, slots: Int) {
        self.worker = worker
        lane.setSlots(slots)
    }

    /// Jobs of an earlier run of the daemon: their accounts are looked at.
    /// - Parameter name: where such a job's account may be.
    func takeUp(_ left: [LeftJob], name: (LeftJob) -> DN) {
        for left in left.sorted(by: { $0.job.id > $1.job.id }) {
            guard let uuid = EntryUUID(text: left.job.subject.description), memories[uuid] == nil else {
                worker.ending.lose(
                    left, JobOutcome(.failed, message: "lost: the account has a later job, or is none"))
                continue
            }
            memories[uuid] = AccountMemory(past: .left(left))
            look(at: AccountKey(uuid: uuid, dn: name(left)), csn: nil)
        }
    }

    /// Takes a hint; returns only when there is room for the next, or the calling task is cancelled.
    func handle(_ hint: WatchHint) async {
        switch hint {
        case .look(_, let csn, isChange: true) where ownWrites.contains(csn): return
        case .look(let key, let csn, let isChange): look(at: key, csn: csn, isChange: isChange)
        case .left(let uuid):
            // One that waits is looked at, which finds nothing to do and forgets it; our own outcomes leave so as well.
            queue.hasten(uuid)
            startDue()
        }
        while queue.isFull, !isStopping, !Task.isCancelled {
            // A stream ends with the task that reads it.
            let (room, holder) = AsyncStream<Never>.makeStream()
            held.append(holder)
            for await _ in room {}
        }
    }

    private func look(at key: AccountKey, csn: AttributeValue?, isChange: Bool = false) {
        if let csn { seen.insert(csn, of: key.uuid, now: clock.now) }
        running[key.uuid]?.seen.append(isChange ? csn : nil)
        queue.offer(key, priority: priority(of: key.uuid))
        startDue()
        makeRoom(for: key.uuid)
    }

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
            // One that waits for its turn goes before the others now; if it may begin already, it is called.
            if let place = asked[key.uuid] { lane.hasten(place.ticket, to: Self.urgentPriority) }
        }
    }

    /// The machine's clock was set. What waits for a while waits no longer by it; a dated request is looked at early and waits again.
    /// - Parameter step: negative: back.
    func clockWasSet(by step: Duration) {
        if step < .zero { queue.clockWasSet(back: .zero - step) }
        for (uuid, memory) in memories { memories[uuid]?.past = memory.past.afterClockWasSet(by: step) }
        startDue()
    }

    /// Returns when nothing runs and nothing is due.
    func waitUntilIdle() async {
        startDue()
        guard !isIdle else { return }
        await withCheckedContinuation { idleWaiters.append($0) }
    }

    /// Starts nothing more, gives running jobs the grace, then cancels them and waits for their end, for as long as patience lasts.
    /// - Parameter giveUp: called when the grace is over, to end what a cancelled job may be waiting for.
    func stop(_ stop: OrderlyStop, giveUp: @escaping @Sendable () async -> Void) async {
        isStopping = true
        alarm.stop()
        letGoOn()
        // Those that may begin already find the dispatcher stopping when they are called.
        for place in asked.values { _ = lane.withdraw(place.ticket) }
        asked = [:]
        let tasks = running.values.map(\.task)
        guard !tasks.isEmpty else { return finishWaiters() }
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
        finishWaiters()
    }

    func snapshot() -> EngineSnapshot {
        EngineSnapshot(
            running: running.values.compactMap(\.summary).sorted { $0.job < $1.job },
            waiting: queue.waitingCount + asked.count, nextDue: queue.nextDue(),
            retrying: memories.compactMap { uuid, memory in
                guard let record = memory.record, let key = queue.key(of: uuid) else { return nil }
                return RetrySummary(key: key, record: record)
            }.sorted { $0.record.notBefore < $1.record.notBefore },
            behind: memories.filter(\.value.isBehind).keys.compactMap(queue.key),
            troubled: memories.values.filter { $0.troubles > 0 }.count, shortages: shortages.list,
            succeeded: totals.succeeded, failed: totals.failed)
    }

    // MARK: - One account's turn

    /// - Parameter reached: a time that has been slept for; it has come, even if the clock was set back meanwhile.
    private func startDue(reached: WallTime = .distantPast) {
        guard !isStopping else { return }
        // One reading for all: what falls due between two would be neither started nor waited for.
        let now = max(clock.now, reached)
        while let uuid = queue.start(now: now, priority: asked.count < bounds.asked ? .max : Self.urgentPriority) {
            ask(uuid, now)
        }
        if !held.isEmpty, queue.hasRoomAgain { letGoOn() }
        alarm.set(to: queue.nextDue(), by: clock) { await self.wake($0) }
        if isIdle {
            idleWaiters.forEach { $0.resume() }
            idleWaiters = []
        }
    }

    private func wake(_ time: WallTime) {
        alarm.rang(time)
        startDue(reached: time)
    }

    private func priority(of uuid: EntryUUID) -> Int {
        urgent[uuid] == nil ? Job.usualPriority : Self.urgentPriority
    }

    private func ask(_ uuid: EntryUUID, _ now: WallTime) {
        let ticket = lane.ask(JobSubject(uuid), priority: priority(of: uuid)) { Task { await self.itsTurn(uuid) } }
        asked[uuid] = ticket.map { ($0, now) }
        guard let ticket else { return start(uuid, now) }
        if let job = memories[uuid]?.record?.job { worker.executor.board.waits(job, in: lane, with: ticket) }
        makeRoom(for: uuid)
    }

    /// Where another job works on an account that waits, and its entry asks for work, that job is interrupted: it may take hours.
    private func makeRoom(for uuid: EntryUUID) {
        guard let place = asked[uuid], lane.status(of: place.ticket) == .waitingForClientResource,
            let key = queue.key(of: uuid)
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
        guard asked[key.uuid] != nil, !isStopping else { return }
        if hasWork {
            logger.info("\(key.dn) asks for work: another job on the account is interrupted and repeated afterwards")
            lane.interrupt(JobSubject(key.uuid))
        } else if again {
            makeRoom(for: key.uuid)
        }
    }

    /// It has waited, and may begin.
    private func itsTurn(_ uuid: EntryUUID) {
        guard let place = asked.removeValue(forKey: uuid) else { return lane.leave(JobSubject(uuid)) }
        // Whatever was seen while it waited is seen by the look that begins now.
        queue.forgetOffers(of: uuid)
        start(uuid, max(clock.now, place.now))
    }

    private func start(_ uuid: EntryUUID, _ now: WallTime) {
        guard let key = queue.key(of: uuid) else { return lane.leave(JobSubject(uuid)) }
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
                    disposition = .obstructed(MachineShortages.Cause(text: "\(error)", hint: error.cure))
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
        lane.leave(JobSubject(uuid))
        var memory = memories.removeValue(forKey: uuid) ?? AccountMemory()
        memory.isBehind = false
        memory.obstacle = nil
        var again: WallTime?
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
            // Now, even if something else has the account looked at first: the clock may be set back meanwhile.
            if alarm.time.map({ record.notBefore < $0 }) ?? true {
                alarm.set(to: record.notBefore, by: clock) { await self.wake($0) }
            }
            lookWhenCanceled(record.job, uuid)
        case .rest(let time):
            memory = AccountMemory(past: .rests(until: time))
            again = time
        case .lost:
            // A job that was left is ended, or goes on, when it is known what the entry asks for.
            if case .left = memory.past {} else { memory.past = .nothing }
            memory.troubles += 1
            again = memory.troubles == 1 ? .distantPast : clock.now + patience(memory)
            if memory.troubles == 2, let key = queue.key(of: uuid) {
                logger.warning("\(key.dn) never stands as it was read when it is written to; it is tried again")
            }
        case .disturbed(let outcome, let delay):
            memory = AccountMemory(past: .unwritten(outcome))
            again = clock.now + delay
        case .behind:
            memory.isBehind = true
            memory.troubles += 1
            again = clock.now + patience(memory)
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
        let due = queue.finish(uuid, again: again, ignoringOffers: onlyEchoes)
        if due == nil { worker.deletes.withdraw(uuid.description) }
        var goesOn = memory.record != nil || due.map { $0 <= clock.now } ?? false
        if case .busy = disposition { goesOn = true }
        if outcome != nil || !goesOn {
            urgent.removeValue(forKey: uuid)?.forEach { $0.resume(returning: outcome) }
        }
        startDue()
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
        worker.executor.board.whenCanceled(job) { [weak self] in Task { await self?.lookAgain(at: uuid) } }
    }

    private func lookAgain(at uuid: EntryUUID) {
        if let key = queue.key(of: uuid) { look(at: key, csn: nil) }
    }

    private func patience(_ memory: AccountMemory) -> Duration {
        var generator = SystemRandomNumberGenerator()
        return worker.retry.delay(afterAttempt: memory.troubles, using: &generator) ?? worker.retry.maximumDelay
    }

    /// What is left in the queue is not due.
    private var isIdle: Bool { running.isEmpty && asked.isEmpty }

    private func finishWaiters() {
        urgent.values.joined().forEach { $0.resume(returning: nil) }
        urgent = [:]
        idleWaiters.forEach { $0.resume() }
        idleWaiters = []
    }
}
