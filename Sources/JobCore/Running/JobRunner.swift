/// Runs the jobs that are asked for: a limited number at once, the more urgent first, one at a time for each subject.
///
/// It sleeps until the next job is due or something ends; a job that waits holds nothing but its place.
public actor JobRunner {
    private struct Place {
        var job: Job
        var request: JobRequest
        /// Attempts that were begun.
        var attempts = 0
        /// Attempts that failed.
        var failures = 0
        /// What is under way for it: an attempt, or its end.
        var task: Task<Void, Never>?
        var waiters: [UInt64: CheckedContinuation<JobOutcome?, Never>] = [:]
    }

    private var executor: JobExecutor
    private let ids: JobIDSource
    private let admission: JobAdmission
    private let clock: any WallClock
    private var queue: JobQueue<JobID>
    private var places: [JobID: Place] = [:]
    /// How many jobs of each priority wait for their turn.
    private var waiting: [Int: Int] = [:]
    private var alarm: (at: WallTime, task: Task<Void, Never>)?
    private var isWaitingForRoom = false
    private var isStopping = false
    private var lastWaiter: UInt64 = 0

    /// - Parameters:
    ///   - admission: shared with all others that run jobs.
    ///   - slots: the most jobs of this runner at once; at least 1.
    public init(executor: JobExecutor, ids: JobIDSource, admission: JobAdmission, slots: Int) {
        self.executor = executor
        self.ids = ids
        self.admission = admission
        clock = executor.clock
        queue = JobQueue(slots: slots)
    }

    /// Jobs that begin from now on go by these.
    public func reconfigure(executor: JobExecutor, slots: Int) {
        self.executor = executor
        queue.slots = max(1, slots)
        startDue()
    }

    /// Takes a job in.
    /// - Parameters:
    ///   - left: a job of an earlier run of the daemon that is to go on; nil: a new one.
    ///   - attempts: how many of its attempts were begun then.
    ///   - opened: is told the number before the job's handlers hear of it: whoever is a handler cannot wait for them.
    /// - Returns: its number; nil when the daemon stops.
    /// - Throws: ``StateFileError`` when no number can be given.
    @discardableResult
    public func submit(
        _ request: JobRequest, resuming left: Job? = nil, attempts: Int = 0,
        opened: @Sendable (JobID) -> Void = { _ in }
    ) async throws -> JobID? {
        guard !isStopping else { return nil }
        let job = await executor.open(try left ?? newJob(request), opened: opened)
        guard !isStopping else {
            executor.board.forget(job.id)
            return nil
        }
        places[job.id] = Place(job: job, request: request, attempts: attempts)
        listenForCancel(job.id)
        wait(job.id, until: request.due)
        startDue()
        if places[job.id]?.task == nil { executor.board.status(job.id, reason(job, due: request.due)) }
        return job.id
    }

    private func newJob(_ request: JobRequest) throws -> Job {
        Job(
            id: try ids.next(), type: request.type, name: request.name, level: request.level, subject: request.subject,
            client: request.client, priority: request.priority, created: clock.now)
    }

    /// Waits for a job's end.
    /// - Returns: nil when there is no such job here, or the daemon stops or the calling task is cancelled first.
    public func outcome(of id: JobID) async -> JobOutcome? {
        guard places[id] != nil else { return nil }
        lastWaiter += 1
        let waiter = lastWaiter
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                guard !Task.isCancelled else { return continuation.resume(returning: nil) }
                places[id]?.waiters[waiter] = continuation
            }
        } onCancel: {
            Task { await self.waitNoLonger(waiter, for: id) }
        }
    }

    private func waitNoLonger(_ waiter: UInt64, for id: JobID) {
        places[id]?.waiters.removeValue(forKey: waiter)?.resume(returning: nil)
    }

    /// Starts nothing more; running jobs have the grace and are cut off then. Those that have ended come to their end in any case.
    public func stop(grace: Duration) async {
        isStopping = true
        alarm?.task.cancel()
        alarm = nil
        let reaper = Task { [clock] in
            try await clock.sleep(until: clock.now + grace)
            self.cutOff()
        }
        while let task = places.values.lazy.compactMap(\.task).first { await task.value }
        reaper.cancel()
        for (id, place) in places {
            executor.board.forget(id)
            place.waiters.values.forEach { $0.resume(returning: nil) }
        }
        places = [:]
    }

    private func cutOff() { places.values.forEach { $0.task?.cancel() } }

    // MARK: - Starting

    private func startDue(reached: WallTime = .distantPast) {
        guard !isStopping else { return }
        let now = max(clock.now, reached)
        while hasRoom(), let id = queue.start(now: now) { begin(id, now) }
        setAlarm(now)
    }

    private func hasRoom() -> Bool {
        guard !isWaitingForRoom else { return false }
        isWaitingForRoom = !admission.hasRoom { [weak self] in Task { await self?.roomIsFree() } }
        return !isWaitingForRoom
    }

    private func roomIsFree() {
        isWaitingForRoom = false
        startDue()
    }

    private func begin(_ id: JobID, _ now: WallTime) {
        // The queue cannot forget one that was cancelled while it waited.
        guard let place = places[id], place.task == nil else {
            queue.finish(id)
            return
        }
        noLongerWaiting(id)
        let opening = executor.opening(for: place.job.type, after: now)
        guard opening <= now else {
            queue.finish(id)
            wait(id, until: opening)
            executor.board.status(id, .waitingForStartTime)
            return
        }
        switch admission.enter(place.job.subject, orCall: { [weak self] in Task { await self?.tryAgain(id) } }) {
        case .entered:
            places[id]?.attempts += 1
            places[id]?.task = Task { await self.attempt(id) }
        case .subjectIsBusy:
            queue.finish(id)
            executor.board.status(id, .waitingForClientResource)
        case .limitIsReached:
            queue.finish(id)
            executor.board.status(id, .waitingForMaximumJobs)
        }
    }

    private func attempt(_ id: JobID) async {
        guard let place = places[id] else { return }
        let ended: JobOutcome?
        do {
            ended = try await executor.attempt(place.job, number: place.attempts, place.request.work)
        } catch {
            ended = nil
        }
        queue.finish(id)
        admission.leave(place.job.subject)
        startDue()
        if let ended { await self.ended(id, ended) } else { places[id]?.task = nil }
    }

    private func ended(_ id: JobID, _ outcome: JobOutcome) async {
        guard var place = places[id] else { return }
        if outcome.failureClass == .retryable {
            // Whoever cancels it now, after its attempt, finds it between two.
            if executor.board.live(id)?.isCanceled ?? false { return await close(id, .canceled) }
            place.failures += 1
            var generator = SystemRandomNumberGenerator()
            if let delay = place.request.retry.delay(afterAttempt: place.failures, using: &generator) {
                place.task = nil
                places[id] = place
                executor.board.write(
                    "attempt \(place.attempts) failed and is tried again in \(delay): \(outcome.message)", to: id,
                    source: .daemon)
                executor.board.status(id, .waitingForStartTime)
                listenForCancel(id)
                wait(id, until: clock.now + delay)
                startDue()
                return
            }
        }
        await close(id, outcome)
    }

    private func close(_ id: JobID, _ outcome: JobOutcome) async {
        guard let job = places[id]?.job else { return }
        await executor.close(job, outcome)
        places.removeValue(forKey: id)?.waiters.values.forEach { $0.resume(returning: outcome) }
    }

    // MARK: - Waiting

    private func wait(_ id: JobID, until due: WallTime) {
        guard let job = places[id]?.job else { return }
        waiting[job.priority, default: 0] += 1
        queue.offer(id, due: due, priority: job.priority)
    }

    private func noLongerWaiting(_ id: JobID) {
        guard let priority = places[id]?.job.priority else { return }
        waiting[priority, default: 1] -= 1
    }

    /// Its subject or a place has become free.
    private func tryAgain(_ id: JobID) {
        guard let place = places[id], place.task == nil, !isStopping else { return }
        wait(id, until: .distantPast)
        startDue()
    }

    private func reason(_ job: Job, due: WallTime) -> JobStatus {
        if due > clock.now { return .waitingForStartTime }
        if let status = executor.board.live(job.id)?.status, status != .created { return status }
        return waiting.contains { $0.key < job.priority && $0.value > 0 } ? .waitingForPriority : .waitingForMaximumJobs
    }

    private func listenForCancel(_ id: JobID) {
        executor.board.whenCanceled(id) { [weak self] in Task { await self?.cancelWaiting(id) } }
    }

    /// One that runs is cancelled by its attempt.
    private func cancelWaiting(_ id: JobID) {
        guard let place = places[id], place.task == nil else { return }
        if queue.isWaiting(id) { noLongerWaiting(id) }
        places[id]?.task = Task { await self.close(id, .canceled) }
    }

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
}
