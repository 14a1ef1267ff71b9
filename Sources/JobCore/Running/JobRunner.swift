import EventLoop

/// Runs submitted jobs when the ``JobScheduler`` starts them. Each type of job is a class of its own there.
///
/// Keep it until ``stop(grace:cancelTimeout:)`` has returned: a job of a runner that is gone never starts, and its outcome never comes.
@MainActor public final class JobRunner {
    private struct Place {
        var job: Job
        var request: JobRequest
        /// Runs an attempt, or closes the job.
        var task: Task<Void, Never>?
        /// Whether the task runs an attempt.
        var isInAttempt = false
        let submitted: SubmittedJob
    }

    private let executor: @MainActor () -> JobExecutor
    private lazy var registry = executor().registry
    private let ids: JobIDSource
    private let scheduler: JobScheduler
    private let slots: @MainActor () -> Int
    /// The class in the scheduler of each job type.
    private var classes: [JobType: Int] = [:]
    private lazy var clock = executor().clock
    private var places: [JobID: Place] = [:]
    private var isStopping = false
    /// Callers that wait for room.
    private let roomWaiters = Waiters<Never>()
    /// The number of jobs between two attempts up to which ``waitForRoom(for:below:)`` does not count them.
    private static let mostBetweenAttempts = 1_000

    /// - Parameters:
    ///   - executor: called each time, so that a job starts with the current settings; always with the same registry and clock.
    ///   - scheduler: shared with all others that run jobs.
    ///   - slots: the most jobs of each type that this runner runs at once; at least 1. See ``JobScheduler/readLimits()``.
    public nonisolated init(
        executor: @escaping @MainActor () -> JobExecutor, ids: JobIDSource, scheduler: JobScheduler,
        slots: @escaping @MainActor () -> Int
    ) {
        self.executor = executor
        self.ids = ids
        self.scheduler = scheduler
        self.slots = slots
    }

    private func jobClass(of type: JobType) -> Int {
        if let index = classes[type] { return index }
        let index = scheduler.addClass(
            JobScheduler.Owner { [slots, executor] in
                JobClass(limit: slots(), window: executor().policies[type]?.window)
            } begin: { [weak self, weak scheduler] key, _ in
                guard let self, case .job(let id) = key else { return _ = scheduler?.finish(key) }
                self.begin(id)
            } waits: { [registry, weak scheduler] key, status in
                if case .job(let id) = key {
                    registry.waits(id, status) { [weak scheduler] in scheduler?.status(of: key) }
                }
            } interrupt: { [weak self] key in
                if case .job(let id) = key { self?.interrupt(id) }
            } limitsChanged: { [roomWaiters] in
                roomWaiters.resume()
            })
        classes[type] = index
        return index
    }

    /// Submits a job.
    /// - Parameters:
    ///   - interrupted: a job of a previous run that is to be resumed; nil: a new one. One that was submitted already goes on as it is.
    ///   - opened: called with the number before the job's handlers are called: a handler cannot wait for them.
    /// - Returns: nil when the daemon stops before the job is opened. An opened job is in the history: when the daemon stops while its handlers
    ///   are called, it continues at the next start.
    /// - Throws: ``StateFileError`` when no number can be given.
    @discardableResult
    public func submit(
        _ request: JobRequest, resuming interrupted: Job? = nil, opened: @Sendable (JobID) -> Void = { _ in }
    ) async throws -> SubmittedJob? {
        guard !isStopping else { return nil }
        let wanted = if let interrupted { interrupted } else { try await newJob(request) }
        let job = await executor().open(wanted, opened: opened)
        if let place = places[job.id] { return place.submitted }
        let submitted = SubmittedJob(job.id)
        guard !isStopping else {
            registry.forget(job.id)
            submitted.end(nil)
            return submitted
        }
        places[job.id] = Place(job: job, request: request, submitted: submitted)
        if let outcome = interrupted?.outcomeBeforeClosing {
            startClosing(job.id, outcome)
        } else if let fate = job.attempts.last?.fate, fate == .cutOff || fate == .lost {
            self.interrupted(job.id)
        } else {
            wait(job.id, until: request.due)
        }
        return submitted
    }

    /// Interrupts a running attempt for work that has precedence; it is repeated afterwards. Without one nothing happens.
    public func interrupt(_ id: JobID) {
        if let place = places[id], place.isInAttempt { place.task?.cancel() }
    }

    private func newJob(_ request: JobRequest) async throws -> Job {
        Job(
            id: try await ids.next(), type: request.type, name: request.name, level: request.level,
            subject: request.subject,
            client: request.client, priority: request.priority, created: clock.now)
    }

    /// Starts nothing more. Running jobs have the grace period and are cancelled then; jobs that have ended are closed in any case.
    ///
    /// A job that does not end after it was cancelled is not waited for: a notice reports it, and it continues at the next start.
    /// - Parameter cancelTimeout: how long a cancelled job may take to end.
    public func stop(grace: Duration, cancelTimeout: Duration = .seconds(20)) async {
        isStopping = true
        classes.values.forEach(scheduler.closeClass)
        roomWaiters.resume()
        for id in places.keys { _ = scheduler.withdraw(.job(id)) }
        await GracefulStop(grace: grace, cancelTimeout: cancelTimeout).run(by: clock) {
            await self.allEnded()
        } cancel: {
            await self.cancelAll()
        }
        for place in places.values where place.task != nil {
            executor().notice(GracefulStop.notEnded(place.job.uniqueName, job: place.job.id))
        }
        for (id, place) in places {
            registry.forget(id)
            place.submitted.end(nil)
        }
        places = [:]
    }

    private func allEnded() async {
        while let task = places.values.lazy.compactMap(\.task).first { await task.value }
    }

    private func cancelAll() { places.values.forEach { $0.task?.cancel() } }

    // MARK: - Starting

    private func begin(_ id: JobID) {
        roomWaiters.resume()
        // It may have been cancelled meanwhile.
        guard let place = places[id], place.task == nil, !isStopping else {
            scheduler.finish(.job(id))
            return
        }
        places[id]?.isInAttempt = true
        places[id]?.task = Task { await self.attempt(id) }
    }

    /// The job with its attempts so far.
    private func now(_ place: Place) -> Job { registry.live(place.job.id) ?? place.job }

    private func attempt(_ id: JobID) async {
        guard let place = places[id] else { return }
        let ended: JobOutcome?
        do {
            ended = try await executor().attempt(place.job, number: now(place).attempt + 1, place.request.work)
        } catch {
            ended = nil
        }
        places[id]?.isInAttempt = false
        scheduler.finish(.job(id))
        if let ended { return await self.ended(id, ended) }
        places[id]?.task = nil
        // A job that a stop interrupted continues at the next start.
        guard !isStopping else { return }
        interrupted(id)
    }

    /// The last attempt was interrupted: another one follows, or the job fails.
    private func interrupted(_ id: JobID) {
        guard let place = places[id] else { return }
        if let canceled = registry.cancellation(of: id) { return startClosing(id, canceled) }
        let job = now(place)
        guard place.request.interruption == .repeats else {
            return startClosing(
                id,
                JobOutcome(
                    .failed, message: "attempt \(job.attempt) was interrupted, and the job is not to be repeated"))
        }
        var generator = SystemRandomNumberGenerator()
        // Work that interrupts itself each time must not be a busy loop.
        let delay = max(
            .seconds(1), place.request.retry().endlessDelay(afterAttempt: job.interruptions, using: &generator))
        registry.write(
            "attempt \(job.attempt) was interrupted and is repeated in \(delay.inTenths)", to: id, source: .daemon)
        wait(id, until: clock.now + delay)
    }

    private func startClosing(_ id: JobID, _ outcome: JobOutcome) {
        places[id]?.task = Task { await self.close(id, outcome) }
    }

    private func ended(_ id: JobID, _ outcome: JobOutcome) async {
        guard let place = places[id] else { return }
        if outcome.failureClass?.isTriedAgain == true {
            // Cancelled after its attempt had ended.
            if let canceled = registry.cancellation(of: id) { return await close(id, canceled) }
            let job = now(place)
            let failures = job.attempt - job.interruptions
            var generator = SystemRandomNumberGenerator()
            if let delay = place.request.retry().delay(afterAttempt: failures, using: &generator) {
                places[id]?.task = nil
                registry.write(
                    "attempt \(job.attempt) failed and is tried again in \(delay.inTenths): \(outcome.message)",
                    to: id, source: .daemon)
                return wait(id, until: clock.now + delay)
            }
        }
        await close(id, outcome)
    }

    private func close(_ id: JobID, _ outcome: JobOutcome) async {
        guard let job = places[id]?.job else { return }
        await executor().close(job, outcome)
        places.removeValue(forKey: id)?.submitted.end(outcome)
        roomWaiters.resume()
    }

    // MARK: - Waiting

    /// Returns when another job would start soon: the window of its type is open, and fewer than `bound` jobs are due.
    /// - Throws: `CancellationError` when the calling task is cancelled, or the runner stops.
    public func waitForRoom(for type: JobType, below bound: Int) async throws {
        // Only of a class that the scheduler knows the runner is told that limits have changed.
        _ = jobClass(of: type)
        while true {
            try Task.checkCancellation()
            guard !isStopping else { throw CancellationError() }
            let now = clock.now
            let opening = executor().opening(for: type, after: now)
            if opening <= now, hasRoom(for: type, below: bound) { return }
            // Other settings may change both.
            let alarm = Task { [clock] in
                guard opening > now, (try? await clock.sleep(until: opening)) != nil else { return }
                roomWaiters.resume()
            }
            defer { alarm.cancel() }
            _ = await roomWaiters.wait()
        }
    }

    private func hasRoom(for type: JobType, below bound: Int) -> Bool {
        scheduler.dueCount(of: jobClass(of: type)) < bound && places.count < bound + Self.mostBetweenAttempts
    }

    /// - Parameter due: `.distantPast`: at once.
    private func wait(_ id: JobID, until due: Timestamp) {
        guard let job = places[id]?.job else { return }
        let status = scheduler.offer(
            Scheduler.Item(
                job: id, on: job.subject, class: jobClass(of: job.type), priority: job.priority,
                rank: executor().rank(of: job), due: due))
        if let status { registry.waits(id, status) { [scheduler] in scheduler.status(of: .job(id)) } }
        // Called at once if it was cancelled already; so it must be in the scheduler before, to be withdrawn.
        registry.whenCanceled(id) { [weak self] in self?.cancelWaiting(id) }
    }

    /// A running job is cancelled by its attempt.
    private func cancelWaiting(_ id: JobID) {
        guard let place = places[id], place.task == nil else { return }
        // If it is about to start, that finds it cancelled.
        _ = scheduler.withdraw(.job(id))
        startClosing(id, registry.cancellation(of: id) ?? .canceled)
    }
}

extension Duration {
    /// The duration in whole tenths of a second, for messages.
    fileprivate var inTenths: Duration {
        .milliseconds(components.seconds * 1_000 + components.attoseconds / 100_000_000_000_000_000 * 100)
    }
}
