/// The state machine of an attempt: pre script → work → post script. ``JobExecutor`` is its driver.
///
///     idle ──► pre ──► body ──► post ──► ended
///               └────────────────┘  the work is left out
///
/// `HookMatrix` in the tests is the same as a table; a test compares the two.
struct AttemptStateMachine: Hashable, Sendable {
    enum Event: Hashable, Sendable {
        case begin
        case preEnded(HookEnd)
        case bodyEnded(JobOutcome)
        case postEnded(HookEnd)
        /// The job is cancelled (specification: rows.md D9).
        case cancel
        /// The job's window has closed (specification: rows.md D10).
        case windowClosed
        /// The daemon stops.
        case stop
    }

    enum Action: Hashable, Sendable {
        case nothing
        case runPre
        /// Stop the pre script; it counts as failed.
        case endPre
        case runBody
        case cancelBody
        /// Run the post script with these numbers as arguments.
        case runPost(pre: Int32, job: Int32)
        case finish
        /// Leave the attempt without an outcome.
        case interrupt
    }

    enum State: Hashable, Sendable { case idle, pre, body, post, ended }

    /// Whether hooks are enabled (specification: rows.md D1).
    let hasHooks: Bool
    /// Whether the work is left out if the pre script fails or is missing.
    let skipsJob: Bool

    private(set) var state = State.idle
    private(set) var pre = HookEnd(status: .notAvailable)
    private(set) var post = ScriptStatus.notAvailable
    /// The result of the work; nil until it has ended or is left out.
    private(set) var job: JobResult?
    /// Whether the work has begun.
    private(set) var hasRun = false
    /// How the work has ended.
    private(set) var body: JobOutcome?
    private var isCanceled = false
    private var isWindowOver = false

    init(hasHooks: Bool, skipsJob: Bool) {
        self.hasHooks = hasHooks
        self.skipsJob = skipsJob
    }

    mutating func handle(_ event: Event) -> Action {
        switch (state, event) {
        case (.idle, .begin):
            return hasHooks ? enter(.pre, .runPre) : runBody()
        case (_, .stop):
            return .interrupt
        case (.pre, .preEnded(let ended)):
            return preEnded(ended)
        case (.body, .bodyEnded(let outcome)):
            body = outcome
            return end(with: outcome.result)
        case (.post, .postEnded(let ended)):
            post = ended.status
            if isCanceled { job = .aborted }
            return enter(.ended, .finish)
        case (.pre, .windowClosed):
            isWindowOver = true
            return .endPre
        case (.idle, .cancel), (.pre, .cancel), (.post, .cancel):
            isCanceled = true
            return .nothing
        case (.body, .cancel):
            isCanceled = true
            return .cancelBody
        default:
            return .nothing
        }
    }

    private mutating func preEnded(_ ended: HookEnd) -> Action {
        pre = ended
        if isWindowOver {
            pre.status = .failed
            return end(with: .missed)
        }
        if isCanceled { return end(with: .aborted) }
        switch pre.status {
        case .failed where skipsJob: return end(with: .missed)
        case .skipped where skipsJob: return end(with: .wrongConfiguration)
        default: return runBody()
        }
    }

    private mutating func runBody() -> Action {
        if isCanceled { return end(with: .aborted) }
        hasRun = true
        return enter(.body, .runBody)
    }

    private mutating func end(with result: JobResult) -> Action {
        let result = isCanceled ? .aborted : result
        job = result
        switch pre.status {
        case .notAvailable:
            return enter(.ended, .finish)
        case .skipped:
            post = .skipped
            return enter(.ended, .finish)
        case .successful, .failed:
            return enter(.post, .runPost(pre: pre.status.integer, job: result.integer))
        }
    }

    private mutating func enter(_ state: State, _ action: Action) -> Action {
        self.state = state
        return action
    }
}
