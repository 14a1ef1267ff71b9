/// Carries out attempts of jobs: tells the handlers, runs the scripts around the work, and keeps the registry up to date.
///
/// ``AttemptStateMachine`` decides what is done when; this does it. Who runs what and when is for ``JobRunner``, or for a scheduler of another kind.
@MainActor public struct JobExecutor {
    /// Where open jobs stand.
    public nonisolated let registry: JobRegistry
    /// By job type; a type without one has no scripts and no window.
    public nonisolated var policies: [JobType: JobPolicy]
    /// What every hook finds in its environment besides what is said of the job: at least PATH.
    public nonisolated var environment: [String: String]
    /// Where scripts report; nil: nowhere.
    public nonisolated var reportSocket: String?

    /// The site's handlers; nil: events go nowhere.
    public nonisolated var events: JobEvents?
    /// What holds off sleep and shutdown; nil: nothing does.
    public nonisolated var inhibitor: Inhibitor?

    nonisolated let clock: any WallClock
    /// Runs what jobs run.
    package nonisolated var runner = ScriptRunner()
    private let notice: NoticeHandler
    private let alert: AlertHandler

    /// - Parameters:
    ///   - notice: where warnings go, such as of processes that a script left behind.
    ///   - alert: is told of failed pre and post scripts, once for each job, at its end.
    public nonisolated init(
        registry: JobRegistry, policies: [JobType: JobPolicy] = [:], environment: [String: String] = [:],
        reportSocket: String? = nil, events: JobEvents? = nil, inhibitor: Inhibitor? = nil,
        clock: any WallClock = SystemWallClock(), notice: @escaping NoticeHandler = { _ in },
        alert: @escaping AlertHandler = { _ in }
    ) {
        self.registry = registry
        self.policies = policies
        self.environment = environment
        self.reportSocket = reportSocket
        self.events = events
        self.inhibitor = inhibitor
        self.clock = clock
        self.notice = notice
        self.alert = alert
    }

    /// When a job of a type may begin, at or after a time.
    public func opening(for type: JobType, after time: Timestamp) -> Timestamp {
        policies[type]?.window?.opening(after: time) ?? time
    }

    /// A job's place among those that wait for the same subject: the smallest begins first. 0 is before all of them.
    func rank(of job: Job) -> Int {
        let levels = policies[job.type]?.levels ?? []
        return 1 + (levels.firstIndex(of: job.level) ?? levels.count)
    }

    /// Says what an operator should know.
    func tell(_ text: CoreNotice) { notice(text) }

    // MARK: - A job's life

    /// A job is asked for.
    /// - Parameter opened: is told that it stands on the registry, before the handlers hear of it.
    /// - Returns: the job as the handlers want it.
    public func open(_ job: Job, opened: (JobID) -> Void = { _ in }) async -> Job {
        // A job that goes on stands there already, as the handlers wanted it.
        if let open = registry.live(job.id) { return open }
        registry.open(job)
        opened(job.id)
        guard let events else { return job }
        let wanted = await events.opened(job)
        registry.alter(wanted)
        return wanted
    }

    /// A job has come to its end.
    public func close(_ job: Job, _ outcome: JobOutcome) async {
        // With the level and priority that its handlers gave it last.
        let job = registry.live(job.id) ?? job
        let failures = registry.scriptFailures(of: job.id)
        if policies[job.type]?.alerts ?? true, !failures.isEmpty {
            alert(JobAlert(job: job, outcome: outcome, scriptFailures: failures))
        }
        if !outcome.message.isEmpty { registry.write(outcome.message, to: job.id, source: .daemon) }
        await events?.ended(job, outcome.result.status)
        registry.close(job.id, outcome)
    }

    // MARK: - An attempt

    /// One try: pre script, work, post script, as ``AttemptStateMachine`` says.
    ///
    /// An operator's cancelling is an outcome. Cancelling the task means that the daemon stops.
    /// - Parameters:
    ///   - number: 1 for the first.
    ///   - work: what the job is about; what it throws becomes a failure.
    /// - Throws: `CancellationError` when the task is cancelled before the attempt has come to its end.
    public func attempt(
        _ job: Job, number: Int, _ work: @escaping JobRequest.Work
    ) async throws -> JobOutcome {
        let policy = policies[job.type] ?? JobPolicy()
        let inhibitor = policy.inhibitsSleep ? inhibitor : nil
        await inhibitor?.hold(for: job.uniqueName)
        do {
            let outcome = try await attempt(job, number, policy, work)
            await inhibitor?.release()
            return outcome
        } catch {
            await inhibitor?.release()
            throw error
        }
    }

    private func attempt(
        _ job: Job, _ number: Int, _ policy: JobPolicy,
        _ work: @escaping JobRequest.Work
    ) async throws -> JobOutcome {
        let job = await events?.aboutToRun(job) ?? job
        registry.alter(job)
        let token = registry.beginAttempt(job.id, number: number)
        // After a crash the next start knows which attempt this was.
        await registry.recorded(job.id)
        let attempt = RunningAttempt(
            job, number: number, token: token, reportSocket: reportSocket, registry: registry, runner: runner,
            clock: clock,
            notice: notice)
        let course = AttemptDriver(
            attempt, policy: policy, environment: environment, registry: registry, clock: clock, work: work)
        do {
            let ended = try await course.run()
            registry.endAttempt(job.id, ended)
            return ended.outcome
        } catch {
            registry.endAttempt(job.id, nil)
            throw error
        }
    }
}
