/// The driver of one ``AttemptStateMachine``: one action runs at a time, and all events arrive in one stream.
@MainActor struct AttemptDriver {
    struct Ended: Sendable {
        var outcome: JobOutcome
        var pre: ScriptStatus
        var post: ScriptStatus
    }

    private enum Signal: Sendable {
        case preEnded(HookScript.Ended)
        case bodyEnded(JobOutcome)
        case postEnded(HookScript.Ended)
        case cancel
        case windowClosed
        /// The daemon stops.
        case stop
    }

    private let attempt: RunningAttempt
    private let policy: JobPolicy
    private let environment: [String: String]
    private let registry: JobRegistry
    private let clock: any WallClock
    private let work: JobRequest.Work

    init(
        _ attempt: RunningAttempt, policy: JobPolicy, environment: [String: String], registry: JobRegistry,
        clock: any WallClock, work: @escaping JobRequest.Work
    ) {
        self.attempt = attempt
        self.policy = policy
        self.environment = environment
        self.registry = registry
        self.clock = clock
        self.work = work
    }

    func run() async throws -> Ended {
        if registry.live(attempt.job.id)?.isCanceled ?? false {
            return Ended(outcome: .canceled, pre: .notAvailable, post: .notAvailable)
        }
        let (signals, source) = AsyncStream<Signal>.makeStream()
        registry.whenCanceled(attempt.job.id) { source.yield(.cancel) }
        // A task of its own, since a cancelled task receives no signals, and the stop is one of them.
        let task = Task { try await run(signals, source) }
        return try await withTaskCancellationHandler {
            try await task.value
        } onCancel: {
            source.yield(.stop)
        }
    }

    private func run(
        _ signals: AsyncStream<Signal>, _ source: AsyncStream<Signal>.Continuation
    ) async throws -> Ended {
        var state = AttemptStateMachine(hasHooks: policy.hooks != nil, skipsJob: policy.hooks?.skipsJob ?? false)
        var pre = HookScript.Ended(status: .notAvailable)
        var body: JobOutcome?
        let window = windowTimer(source)
        defer { window?.cancel() }
        var stage = start(state.handle(.begin), source)
        for await signal in signals {
            let action: AttemptStateMachine.Action
            switch signal {
            case .stop:
                stage?.cancel()
                await stage?.value
                throw CancellationError()
            case .cancel: action = state.handle(.cancel)
            case .windowClosed: action = state.handle(.windowClosed)
            case .preEnded(let ended):
                pre = ended
                if ended.status == .failed { registry.scriptFailed(attempt.job.id, ended.message) }
                action = state.handle(.preEnded(ended.status))
            case .bodyEnded(let outcome):
                let counted = counting(reports: outcome)
                body = counted
                action = state.handle(.bodyEnded(counted.result))
            case .postEnded(let ended):
                if ended.status == .failed { registry.scriptFailed(attempt.job.id, ended.message) }
                action = state.handle(.postEnded(ended.status))
            }
            switch action {
            case .nothing: break
            case .endPre, .cancelBody: stage?.cancel()
            case .runPre, .runBody, .runPost: stage = start(action, source)
            case .finish: return Ended(outcome: outcome(of: state, pre, body), pre: state.pre, post: state.post)
            }
        }
        throw CancellationError()
    }

    private func start(_ action: AttemptStateMachine.Action, _ source: AsyncStream<Signal>.Continuation) -> Task<
        Void, Never
    >? {
        let job = attempt.job
        switch (action, policy.hooks) {
        case (.runPre, let hooks?):
            let script = HookScript.pre(hooks, of: job, environment: environment)
            return Task { [attempt] in source.yield(.preEnded(await script.run(in: attempt))) }
        case (.runPost(let pre, let result), let hooks?):
            let script = HookScript.post(hooks, of: job, pre: pre, result: result, environment: environment)
            return Task { [attempt] in source.yield(.postEnded(await script.run(in: attempt))) }
        default:
            return Task { [attempt, registry, work] in
                do {
                    source.yield(.bodyEnded(try await work(attempt)))
                } catch let outcome as JobOutcome {
                    source.yield(.bodyEnded(outcome))
                } catch is CancellationError {
                    // Without a cancellation by an operator, the daemon stops and has stopped a resource of the work.
                    let isCanceled = registry.live(attempt.job.id)?.isCanceled ?? false
                    source.yield(isCanceled ? .bodyEnded(.canceled) : .stop)
                } catch {
                    source.yield(.bodyEnded(JobOutcome(.failed, message: "\(error)")))
                }
            }
        }
    }

    /// Only the pre script is ended when the window closes (specification: rows.md D10); a job that has begun continues.
    private func windowTimer(_ source: AsyncStream<Signal>.Continuation) -> Task<Void, any Error>? {
        guard policy.hooks != nil, let window = policy.window else { return nil }
        return Task { [clock] in
            try await clock.sleep(until: window.closing(after: clock.now))
            source.yield(.windowClosed)
        }
    }

    /// Of a report and an exit status the more severe one counts (specification: rows.md L8).
    private func counting(reports outcome: JobOutcome) -> JobOutcome {
        guard let reported = registry.live(attempt.job.id)?.reported,
            reported.heavier(outcome.result) != outcome.result
        else { return outcome }
        let message = "the script itself reported: \(reported.rawValue)"
        return JobOutcome(
            reported, message: outcome.message.isEmpty ? message : "\(message); \(outcome.message)",
            termination: outcome.termination)
    }

    private func outcome(of state: AttemptStateMachine, _ pre: HookScript.Ended, _ body: JobOutcome?) -> JobOutcome {
        switch state.job {
        case .aborted?:
            guard let body, body.result == .aborted else { return .canceled }
            return body
        case .missed? where !state.hasRun, .wrongConfiguration? where !state.hasRun:
            return JobOutcome(
                state.job ?? .missed, failureClass: pre.failureClass,
                message: "the job was not run: "
                    + (pre.message.isEmpty ? "its window closed during the pre script" : pre.message))
        default:
            return body ?? JobOutcome(.unknown, message: "the job told of no outcome")
        }
    }
}
