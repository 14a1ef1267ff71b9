/// Runs attempts of jobs: calls the handlers, runs the hooks around the work, and updates the registry.
///
/// ``AttemptStateMachine`` decides the next action. ``JobRunner``, or the caller, decides when a job runs.
@MainActor public struct JobExecutor {
    /// The open jobs.
    public nonisolated let registry: JobRegistry
    /// By job type; a type without a policy has no hooks and no window.
    public nonisolated var policies: [JobType: JobPolicy]
    /// The environment of hooks besides the variables of the job: at least PATH.
    public nonisolated var environment: [String: String]
    /// The socket for reports of scripts; nil: none.
    public nonisolated var reportSocket: String?

    /// The site's handlers; nil: none.
    public nonisolated var events: JobEvents?
    /// Keeps the machine from sleep and shutdown; nil: it is not kept.
    public nonisolated var inhibitor: Inhibitor?

    nonisolated let clock: any WallClock
    /// Runs what jobs run.
    package nonisolated var runner = ScriptRunner()
    private let notice: NoticeHandler

    /// - Parameter notice: called with warnings, such as of leftover processes.
    public nonisolated init(
        registry: JobRegistry, policies: [JobType: JobPolicy] = [:], environment: [String: String] = [:],
        reportSocket: String? = nil, events: JobEvents? = nil, inhibitor: Inhibitor? = nil,
        clock: any WallClock = SystemWallClock(), notice: @escaping NoticeHandler = { _ in }
    ) {
        self.registry = registry
        self.policies = policies
        self.environment = environment
        self.reportSocket = reportSocket
        self.events = events
        self.inhibitor = inhibitor
        self.clock = clock
        self.notice = notice
    }

    /// When a job of a type may start, at or after a time.
    public func opening(for type: JobType, after time: Timestamp) -> Timestamp {
        policies[type]?.window?.opening(after: time) ?? time
    }

    /// A job's order among those that wait for the same subject: the smallest starts first. 0 is before all of them.
    func rank(of job: Job) -> Int {
        let levels = policies[job.type]?.levels ?? []
        return 1 + (levels.firstIndex(of: job.level) ?? levels.count)
    }

    /// Sends a notice to the operator.
    func tell(_ text: CoreNotice) { notice(text) }

    // MARK: - A job's life

    /// Opens a job.
    /// - Parameter opened: called when the job is in the registry, before the handlers are.
    /// - Returns: the job as its handlers changed it.
    public func open(_ job: Job, opened: (JobID) -> Void = { _ in }) async -> Job {
        // A resumed job is open already, as its handlers changed it.
        if let open = registry.live(job.id) { return open }
        registry.open(job)
        opened(job.id)
        guard let events else { return job }
        let wanted = await events.opened(job)
        registry.alter(wanted)
        return wanted
    }

    /// Closes a job.
    public func close(_ job: Job, _ outcome: JobOutcome) async {
        // With the last level and priority of its handlers.
        let job = registry.live(job.id) ?? job
        if !outcome.message.isEmpty { registry.write(outcome.message, to: job.id, source: .daemon) }
        await events?.ended(job, outcome.result.status)
        registry.close(job.id, outcome, alerts: policies[job.type]?.alerts ?? true)
    }

    // MARK: - An attempt

    /// Runs one attempt: pre script, work, post script, as ``AttemptStateMachine`` decides.
    ///
    /// A cancellation by an operator is an outcome. A cancelled task means that the daemon stops.
    /// - Parameters:
    ///   - number: 1 for the first.
    ///   - work: errors that it throws become a failure.
    /// - Throws: `CancellationError` when the task is cancelled before the attempt has ended.
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
        // After a crash, the next start needs the number of this attempt.
        await registry.recorded(job.id)
        let attempt = RunningAttempt(
            job, number: number, token: token, reportSocket: reportSocket, registry: registry, runner: runner,
            clock: clock,
            notice: notice)
        let driver = AttemptDriver(
            attempt, policy: policy, environment: environment, registry: registry, clock: clock, work: work)
        do {
            let ended = try await driver.run()
            registry.endAttempt(job.id, ended)
            return ended.outcome
        } catch {
            registry.endAttempt(job.id, nil)
            throw error
        }
    }
}
