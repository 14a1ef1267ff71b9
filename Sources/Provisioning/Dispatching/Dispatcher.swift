import DirectoryClient
import DirectoryModel
import JobCore
import Logging

/// Runs at most one job for each account and a limited number at once, and wakes by itself when the next is due.
actor Dispatcher {
    private var queue: JobQueue<EntryUUID>
    private var worker: AccountWorker
    private let admission: JobAdmission
    private var isWaitingForRoom = false
    private let clock: any WallClock
    private let logger: Logger

    /// Where each account in the queue was last seen.
    private var names: [EntryUUID: DN] = [:]
    private var running: [EntryUUID: Running] = [:]
    private var memories: [EntryUUID: AccountWorker.Memory] = [:]
    /// Accounts that an operator wants now, whatever their day, and who waits for the outcome.
    private var urgent: [EntryUUID: [CheckedContinuation<ProvisioningExitCode?, Never>]] = [:]
    /// Accounts that a job of another kind works on; they are looked at when it has ended.
    private var busyElsewhere: Set<EntryUUID> = []
    private var ownWrites = OwnWrites()
    private var totals = (succeeded: 0, failed: 0)
    private var alarm: (at: WallTime, task: Task<Void, Never>)?
    private var isStopping = false
    private var idleWaiters: [CheckedContinuation<Void, Never>] = []

    private static let urgentPriority = 1

    private struct Running {
        var task: Task<Void, Never>
        var summary: JobSummary?
        /// The entryCSNs of changes seen meanwhile; nil stands for a change without one.
        var seen: [AttributeValue?] = []
        var outcome: ProvisioningExitCode?
    }

    init(worker: AccountWorker, slots: Int, admission: JobAdmission, clock: any WallClock, logger: Logger) {
        queue = JobQueue(slots: slots)
        self.worker = worker
        self.admission = admission
        self.clock = clock
        self.logger = logger
    }

    /// New jobs go by these from now on; those that run keep what they started with.
    func reconfigure(worker: AccountWorker, slots: Int) {
        self.worker = worker
        queue.slots = max(1, slots)
        startDue()
    }

    func handle(_ hint: WatchHint) {
        switch hint {
        case .look(let key, let csn):
            if ownWrites.contains(csn) { return }
            names[key.uuid] = key.dn
            running[key.uuid]?.seen.append(csn)
            queue.offer(
                key.uuid, due: .distantPast, priority: urgent[key.uuid] == nil ? Job.usualPriority : Self.urgentPriority
            )
        case .left(let uuid):
            // One that waits is looked at, which finds nothing to do and forgets it; our own outcomes leave so as well.
            guard queue.isWaiting(uuid) else { return }
            queue.offer(uuid, due: .distantPast)
        }
        startDue()
    }

    /// Carries an account's wish out before all others, whatever its day.
    /// - Returns: the outcome, after the last attempt; `undefinedError` when something outside the account stands in the
    ///   way, which is in the log; nil when there was nothing to do, or the daemon stopped first.
    func provision(_ key: AccountKey) async -> ProvisioningExitCode? {
        guard !isStopping else { return nil }
        return await withCheckedContinuation { continuation in
            urgent[key.uuid, default: []].append(continuation)
            names[key.uuid] = key.dn
            running[key.uuid]?.seen.append(nil)
            queue.offer(key.uuid, due: .distantPast, priority: Self.urgentPriority)
            startDue()
        }
    }

    /// Returns when nothing runs and nothing is due.
    func waitUntilIdle() async {
        startDue()
        guard !isIdle(clock.now) else { return }
        await withCheckedContinuation { idleWaiters.append($0) }
    }

    /// Starts nothing more, gives running jobs the grace, then cancels them and waits for their end.
    /// - Parameter giveUp: called when the grace is over, to end what a cancelled job may be waiting for.
    func stop(grace: Duration, giveUp: @escaping @Sendable () async -> Void) async {
        isStopping = true
        alarm?.task.cancel()
        alarm = nil
        let tasks = running.values.map(\.task)
        guard !tasks.isEmpty else { return finishWaiters() }
        logger.notice("stopping: \(tasks.count) jobs have \(grace) to finish")
        let reaper = Task { [clock] in
            try await clock.sleep(until: clock.now + grace)
            tasks.forEach { $0.cancel() }
            await giveUp()
        }
        for task in tasks { await task.value }
        reaper.cancel()
        finishWaiters()
    }

    func snapshot() -> EngineSnapshot {
        EngineSnapshot(
            running: running.values.compactMap(\.summary).sorted { $0.job < $1.job },
            waiting: queue.waitingCount + busyElsewhere.count { !queue.isWaiting($0) }, nextDue: queue.nextDue(),
            retrying: memories.compactMap { uuid, memory in
                guard let dn = names[uuid], let record = memory.record else { return nil }
                return RetrySummary(key: AccountKey(uuid: uuid, dn: dn), record: record)
            }.sorted { $0.record.notBefore < $1.record.notBefore },
            troubled: memories.values.filter { $0.troubles > 0 }.count, succeeded: totals.succeeded,
            failed: totals.failed)
    }

    // MARK: - One account's turn

    /// - Parameter reached: a time that has been slept for; it has come, even if the clock was set back meanwhile.
    private func startDue(reached: WallTime = .distantPast) {
        guard !isStopping else { return }
        // One reading for all: what falls due between two would be neither started nor waited for.
        let now = max(clock.now, reached)
        while hasRoom(), let uuid = queue.start(now: now) { start(uuid, now) }
        setAlarm(now)
        if isIdle(now) {
            idleWaiters.forEach { $0.resume() }
            idleWaiters = []
        }
    }

    private func start(_ uuid: EntryUUID, _ now: WallTime) {
        guard let dn = names[uuid] else {
            queue.finish(uuid)
            return
        }
        let key = AccountKey(uuid: uuid, dn: dn)
        guard enter(key) else { return }
        let memory = memories[uuid] ?? AccountWorker.Memory()
        let ignoringDate = urgent[uuid] != nil
        running[uuid] = Running(
            task: Task { [worker, logger] in
                let disposition: AccountWorker.Disposition?
                do {
                    disposition = try await withLogger(logger) { _ in
                        try await worker.work(on: key, memory, now: now, ignoringDate: ignoringDate) {
                            await self.hear($0, of: uuid)
                        }
                    }
                } catch is CancellationError {
                    disposition = nil
                } catch {
                    logger.log(level: memory.level, "\(dn) cannot be worked on: \(error)")
                    disposition = .trouble
                }
                self.ended(uuid, disposition)
            })
    }

    /// Whether a job may begin at all; else this is called again when one may.
    private func hasRoom() -> Bool {
        guard !isWaitingForRoom else { return false }
        isWaitingForRoom = !admission.hasRoom { [weak self] in Task { await self?.roomIsFree() } }
        return !isWaitingForRoom
    }

    private func roomIsFree() {
        isWaitingForRoom = false
        startDue()
    }

    /// Whether the account is free. One that another job works on gives its slot back, and is looked at when that job has ended.
    private func enter(_ key: AccountKey) -> Bool {
        let answer = admission.enter(JobSubject(key.uuid)) { [weak self] in
            Task { await self?.isFree(key) }
        }
        guard answer != .entered else { return true }
        if answer == .subjectIsBusy { busyElsewhere.insert(key.uuid) }
        queue.finish(key.uuid)
        return false
    }

    private func isFree(_ key: AccountKey) {
        busyElsewhere.remove(key.uuid)
        handle(.look(key, csn: nil))
    }

    private func hear(_ report: AccountWorker.Report, of uuid: EntryUUID) {
        switch report {
        case .started(let summary): running[uuid]?.summary = summary
        case .step(let name): running[uuid]?.summary?.step = name
        case .wrote(let csn): ownWrites.insert(csn)
        case .ended(let code):
            running[uuid]?.outcome = code
            if code == .success { totals.succeeded += 1 } else { totals.failed += 1 }
        }
    }

    /// - Parameter disposition: nil when the daemon's stop cut the account's turn off.
    private func ended(_ uuid: EntryUUID, _ disposition: AccountWorker.Disposition?) {
        guard let run = running.removeValue(forKey: uuid) else { return }
        admission.leave(JobSubject(uuid))
        var memory = memories.removeValue(forKey: uuid) ?? AccountWorker.Memory()
        var again: WallTime?
        var outcome = run.outcome
        switch disposition {
        case .settled, nil: memory = AccountWorker.Memory()
        case .again(let time):
            memory = AccountWorker.Memory()
            again = time
        case .retry(let record):
            memory = AccountWorker.Memory(record: record)
            again = record.notBefore
            if let dn = names[uuid] { lookWhenCanceled(record.job, AccountKey(uuid: uuid, dn: dn)) }
        case .lost:
            memory = AccountWorker.Memory(troubles: memory.troubles + 1)
            again = memory.troubles == 1 ? .distantPast : clock.now + patience(memory)
            if memory.troubles == 2, let dn = names[uuid] {
                logger.warning("\(dn) never stands as it was read when it is written to; it is tried again")
            }
        case .trouble:
            // Nothing else is kept: a new claim may stand in the entry, which what was remembered is not about.
            memory = AccountWorker.Memory(troubles: memory.troubles + 1)
            again = clock.now + patience(memory)
            outcome = outcome ?? .undefinedError
        case .unwritten(let unwritten):
            memory = AccountWorker.Memory(outcome: unwritten, troubles: memory.troubles + 1)
            again = clock.now + patience(memory)
            outcome = outcome ?? .undefinedError
        }
        if again != nil { memories[uuid] = memory }
        let onlyEchoes = run.seen.allSatisfy { $0 != nil && ownWrites.contains($0) }
        let due = queue.finish(uuid, again: again, ignoringOffers: onlyEchoes)
        if due == nil { names[uuid] = nil }
        let goesOn = memory.record != nil || due.map { $0 <= clock.now } ?? false
        if outcome != nil || !goesOn {
            urgent.removeValue(forKey: uuid)?.forEach { $0.resume(returning: outcome) }
        }
        startDue()
    }

    private func lookWhenCanceled(_ job: JobID, _ key: AccountKey) {
        worker.executor.board.whenCanceled(job) { [weak self] in
            Task { await self?.handle(.look(key, csn: nil)) }
        }
    }

    private func patience(_ memory: AccountWorker.Memory) -> Duration {
        var generator = SystemRandomNumberGenerator()
        return worker.retry.delay(afterAttempt: memory.troubles, using: &generator) ?? worker.retry.maximumDelay
    }

    // MARK: - Waking

    private func isIdle(_ now: WallTime) -> Bool { running.isEmpty && (queue.nextDue().map { $0 > now } ?? true) }

    private func setAlarm(_ now: WallTime) {
        let next = queue.nextDue().flatMap { $0 > now ? $0 : nil }
        guard next != alarm?.at else { return }
        alarm?.task.cancel()
        alarm = next.map { time in
            (
                time,
                Task { [clock] in
                    do { try await clock.sleep(until: time) } catch { return }
                    self.wake(time)
                }
            )
        }
    }

    private func wake(_ time: WallTime) {
        alarm = nil
        startDue(reached: time)
    }

    private func finishWaiters() {
        urgent.values.joined().forEach { $0.resume(returning: nil) }
        urgent = [:]
        idleWaiters.forEach { $0.resume() }
        idleWaiters = []
    }
}
