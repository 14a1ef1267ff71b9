/// Runs attempts of jobs: calls the handlers, runs the hooks around the work, and updates the registry.
///
/// ``AttemptStateMachine`` decides the next action of an attempt, and this is its driver. ``JobRunner``, or the caller, decides when a job runs.
@MainActor public struct JobExecutor {
    /// The open jobs.
    public nonisolated let registry: JobRegistry
    /// The hooks and the window of each job type; a type without a policy has none.
    public nonisolated var policies: [JobType: JobPolicy]
    /// The environment of hooks besides the variables of the job: at least PATH.
    public nonisolated var environment: [String: String]
    /// The path of the socket for reports, for the environment of scripts; nil: none. The caller listens there, and passes what it reads to
    /// ``JobRegistry/report(_:token:user:)``; the `report` command of the backup daemon speaks a protocol of that daemon.
    public nonisolated var reportSocket: String?

    /// The site's handlers; nil: none.
    public nonisolated var events: EventHandlers?
    /// Keeps the machine from sleep and shutdown; nil: it is not kept.
    public nonisolated var inhibitor: Inhibitor?

    nonisolated let clock: any WallClock
    /// Runs what jobs run.
    package nonisolated var runner = ScriptRunner()
    let notice: NoticeHandler

    /// - Parameter notice: called with warnings, such as of leftover processes.
    public nonisolated init(
        registry: JobRegistry, policies: [JobType: JobPolicy] = [:], environment: [String: String] = [:],
        reportSocket: String? = nil, events: EventHandlers? = nil, inhibitor: Inhibitor? = nil,
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

    /// Opens a job and runs an attempt of it. The job is in the registry when this suspends for the first time.
    /// - Parameters:
    ///   - note: a line for the job's report, before the attempt.
    ///   - number, work: as of ``attempt(_:number:_:)``, and it throws the same.
    public func run(
        _ job: Job, attempt number: Int, note: String? = nil, _ work: @escaping JobRequest.Work
    ) async throws -> JobOutcome {
        let job = await open(job)
        if let note { registry.write(note, to: job.id, source: .daemon) }
        return try await attempt(job, number: number, work)
    }

    /// Closes a job.
    public func close(_ job: Job, _ outcome: JobOutcome) async {
        // With the last level and priority of its handlers.
        let job = registry.live(job.id) ?? job
        if !outcome.message.isEmpty { registry.write(outcome.message, to: job.id, source: .daemon) }
        if let events, events.isActive {
            // A handler may take long, and a crash meanwhile must not repeat the work.
            registry.closing(job.id, outcome)
            await registry.recorded(job.id)
            await events.ended(job, outcome.result.status)
        }
        registry.close(job.id, outcome)
    }

    // MARK: - An attempt

    /// Runs one attempt of an open job: pre script, work, post script, as ``AttemptStateMachine`` decides.
    ///
    /// A cancellation on request is an outcome. A cancelled task means that the daemon stops.
    /// - Parameters:
    ///   - number: 1 for the first.
    ///   - work: errors that it throws become a failure; a ``ScriptError`` one of its class, a ``JobOutcome`` itself.
    /// - Throws: `CancellationError` when the task is cancelled before the attempt has ended.
    public func attempt(
        _ job: Job, number: Int, _ work: @escaping JobRequest.Work
    ) async throws -> JobOutcome {
        let inhibitor = policies[job.type]?.inhibitsSleep == true ? inhibitor : nil
        await inhibitor?.hold(for: job.uniqueName)
        defer { inhibitor?.release() }
        return try await attemptWhileAwake(job, number, work)
    }

    private func attemptWhileAwake(
        _ job: Job, _ number: Int, _ work: @escaping JobRequest.Work
    ) async throws -> JobOutcome {
        let job = await events?.aboutToRun(job) ?? job
        registry.alter(job)
        let token = registry.beginAttempt(job.id, number: number)
        // After a crash, the next start needs the number of this attempt.
        await registry.recorded(job.id)
        let attempt = RunningAttempt(job, number: number, token: token, self)
        if let canceled = registry.cancellation(of: job.id) {
            registry.endAttempt(job.id, canceled, pre: .notAvailable, post: .notAvailable)
            return canceled
        }
        let (events, source) = Events.makeStream()
        registry.whenCanceled(job.id) { source.yield(.cancel) }
        // A task of its own, since a cancelled task receives no events, and the stop is one of them.
        let task = Task { try await drive(attempt, events, source, work) }
        do {
            return try await withTaskCancellationHandler {
                try await task.value
            } onCancel: {
                source.yield(.stop)
            }
        } catch {
            registry.endAttempt(job.id, nil)
            throw error
        }
    }

    // MARK: - The driver

    /// All events of an attempt arrive in one stream, and one action runs at a time.
    private typealias Events = AsyncStream<AttemptStateMachine.Event>

    private func drive(
        _ attempt: RunningAttempt, _ events: Events, _ source: Events.Continuation,
        _ work: @escaping JobRequest.Work
    ) async throws -> JobOutcome {
        let job = attempt.job
        let hooks = policies[job.type]?.hooks
        var state = AttemptStateMachine(hasHooks: hooks != nil, skipsJob: policies[job.type]?.skipsJob ?? false)
        let window = windowTimer(job, source)
        defer { window?.cancel() }
        var stage = start(state.handle(.begin), of: attempt, source, work)
        for await event in events {
            var event = event
            switch event {
            case .preEnded(let ended), .postEnded(let ended):
                if ended.status == .failed { registry.scriptFailed(job.id, ended.message) }
            case .bodyEnded(let outcome):
                event = .bodyEnded(counting(reports: outcome, of: job))
            default: break
            }
            let action = state.handle(event)
            switch action {
            case .nothing: break
            case .endPre, .cancelBody: stage.cancel()
            case .runPre, .runBody, .runPost: stage = start(action, of: attempt, source, work)
            case .interrupt:
                stage.cancel()
                await stage.value
                throw CancellationError()
            case .finish:
                let outcome = outcome(of: state, job)
                registry.endAttempt(job.id, outcome, pre: state.pre.status, post: state.post)
                return outcome
            }
        }
        throw CancellationError()
    }

    private func start(
        _ action: AttemptStateMachine.Action, of attempt: RunningAttempt, _ source: Events.Continuation,
        _ work: @escaping JobRequest.Work
    ) -> Task<Void, Never> {
        let job = attempt.job
        let policy = policies[job.type] ?? JobPolicy()
        switch (action, policy.hooks) {
        case (.runPre, let hooks?):
            return Task {
                source.yield(
                    .preEnded(await attempt.run(hook: "pre script", hooks.pre, ["\(job.id)"], policy)))
            }
        case (.runPost(let pre, let result), let hooks?):
            return Task {
                let arguments = ["\(job.id)", "\(pre)", "\(result)"]
                source.yield(.postEnded(await attempt.run(hook: "post script", hooks.post, arguments, policy)))
            }
        default:
            return Task {
                do {
                    source.yield(.bodyEnded(try await work(attempt)))
                } catch let outcome as JobOutcome {
                    source.yield(.bodyEnded(outcome))
                } catch is CancellationError {
                    // Without a cancellation on request, the daemon stops and has stopped a resource of the work.
                    source.yield(registry.cancellation(of: job.id).map { .bodyEnded($0) } ?? .stop)
                } catch let error as ScriptError {
                    source.yield(.bodyEnded(JobOutcome(failed: error.failureClass, message: "\(error)")))
                } catch {
                    source.yield(.bodyEnded(JobOutcome(.failed, message: "\(error)")))
                }
            }
        }
    }

    /// Only the pre script is ended when the window closes (specification: rows.md D10); a job that has begun continues.
    private func windowTimer(_ job: Job, _ source: Events.Continuation) -> Task<Void, any Error>? {
        guard let policy = policies[job.type], policy.hooks != nil, let window = policy.window else { return nil }
        return Task {
            try await clock.sleep(until: window.closing(after: clock.now))
            source.yield(.windowClosed)
        }
    }

    /// Of a report and an exit status the more severe one counts (specification: rows.md L8), also for whether there is another attempt.
    private func counting(reports outcome: JobOutcome, of job: Job) -> JobOutcome {
        guard let reported = registry.reported(job.id), reported.result.heavier(outcome.result) != outcome.result
        else { return outcome }
        let message = "the script itself reported: \(reported.result.rawValue)"
        return JobOutcome(
            reported.result, failureClass: reported.failureClass,
            message: outcome.message.isEmpty ? message : "\(message); \(outcome.message)")
    }

    private func outcome(of state: AttemptStateMachine, _ job: Job) -> JobOutcome {
        switch state.job {
        case .aborted?:
            guard let canceled = registry.cancellation(of: job.id) else { return state.body ?? .canceled }
            guard let body = state.body, body.result == .aborted, body.canceler == nil else { return canceled }
            return JobOutcome(.aborted, message: "\(canceled.message): \(body.message)")
        case .missed? where !state.hasRun, .wrongConfiguration? where !state.hasRun:
            return JobOutcome(
                state.job ?? .missed, failureClass: state.pre.failureClass,
                message: "the job was not run: "
                    + (state.pre.message.isEmpty ? "its window closed during the pre script" : state.pre.message))
        default:
            return state.body ?? JobOutcome(.unknown, message: "the job told of no outcome")
        }
    }
}

/// A message for the operator. The core has no log of its own: its user decides where notices go.
public struct CoreNotice: Hashable, Sendable {
    /// The severity.
    public enum Level: Hashable, Sendable { case debug, info, warning, error }

    /// The severity.
    public var level: Level
    /// One line.
    public var text: String
    /// The job that it is about, if any.
    public var job: JobID?

    /// A notice.
    public init(_ level: Level, _ text: String, job: JobID? = nil) {
        self.level = level
        self.text = text
        self.job = job
    }
}

/// Called with each notice. It must neither block nor fail.
public typealias NoticeHandler = @Sendable (CoreNotice) -> Void
