/// When a running script is told to leave and when it is made to: the machine that decides; ``ScriptRunner`` does.
///
///     running ──timeLimitReached/cancelled──► leaving ──graceOver──► killed
///        └──────────────exited──────────────────┴────────exited────────┴──► ended
///
/// The first reason to stop stays the cause; a later one changes nothing.
struct ScriptSupervision: Hashable, Sendable {
    enum Event: Hashable, Sendable, CaseIterable {
        /// The script's own process has ended.
        case exited
        case timeLimitReached
        /// The task that runs the script was cancelled.
        case cancelled
        /// The time to leave after SIGTERM is over.
        case graceOver
    }

    enum Action: Hashable, Sendable {
        case nothing
        /// SIGTERM to the session, and `graceOver` after the grace.
        case terminate
        /// SIGKILL to the session.
        case kill
        /// Look for processes that the script left behind. Nothing follows.
        case sweep
    }

    enum State: Hashable, Sendable {
        case running
        case leaving
        case killed
        case ended
    }

    /// The strongest that the session has been told so far.
    enum Pressure: Hashable, Sendable {
        case none
        case terminate
        case kill
    }

    private(set) var state = State.running
    private(set) var pressure = Pressure.none
    private(set) var cause = ScriptResult.Cause.itself

    mutating func handle(_ event: Event) -> Action {
        switch (state, event) {
        case (.running, .timeLimitReached): stop(because: .timeLimit)
        case (.running, .cancelled): stop(because: .cancellation)
        case (.leaving, .graceOver): enter(.killed, doing: .kill)
        case (.running, .exited), (.leaving, .exited), (.killed, .exited): enter(.ended, doing: .sweep)
        case (.running, .graceOver), (.leaving, .timeLimitReached), (.leaving, .cancelled),
            (.killed, .timeLimitReached),
            (.killed, .cancelled), (.killed, .graceOver), (.ended, _):
            .nothing
        }
    }

    private mutating func stop(because cause: ScriptResult.Cause) -> Action {
        self.cause = cause
        return enter(.leaving, doing: .terminate)
    }

    private mutating func enter(_ state: State, doing action: Action) -> Action {
        self.state = state
        if action == .terminate { pressure = .terminate }
        if action == .kill { pressure = .kill }
        return action
    }
}
