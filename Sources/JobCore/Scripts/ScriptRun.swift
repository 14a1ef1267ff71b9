import EventLoop
import Glibc
import Synchronization
import SystemPackage

/// One run of a script until its process tree has ended: the driver of ``ScriptSupervision``.
@MainActor final class ScriptRun {
    private nonisolated let invocation: ScriptInvocation
    private nonisolated let usesCgroups: Bool
    private nonisolated let clock: any SteadyClock
    private let output: LiveOutput
    private var reports: [UInt8] = []
    /// Read by the thread that starts the script.
    private nonisolated let isCancelled = Atomic(false)

    private var timer: EventLoop.Timer?
    /// A queue, because handling an event may take a search of /proc.
    private var events: [ScriptSupervision.Event] = []
    private var reader: CheckedContinuation<ScriptSupervision.Event, Never>?

    init(_ invocation: ScriptInvocation, output: LiveOutput, clock: any SteadyClock, usesCgroups: Bool) {
        self.invocation = invocation
        self.output = output
        self.clock = clock
        self.usesCgroups = usesCgroups
    }

    /// Starts the script, supervises it and waits for its end.
    ///
    /// If the task is cancelled, the script is told to end, and the result says so.
    /// - Parameter prepare: called just before the start, where it may block.
    /// - Throws: why it was not started, or its end is not known.
    func run(after prepare: @escaping @Sendable () -> Void) async throws(ScriptError) -> ScriptResult {
        let result = await withTaskCancellationHandler { () -> Result<ScriptResult, ScriptError> in
            do throws(ScriptError) { return .success(try await runToEnd(after: prepare)) } catch { return .failure(error) }
        } onCancel: {
            isCancelled.store(true, ordering: .sequentiallyConsistent)
            EventLoop.shared.post { self.post(.cancelled) }
        }
        return try result.get()
    }

    private func runToEnd(after prepare: @escaping @Sendable () -> Void) async throws(ScriptError) -> ScriptResult {
        let (process, timeLimit) = try await BlockingWork.run(on: .starts) { () throws(ScriptError) in
            prepare()
            return try self.start()
        }
        try await process.watch(invocation)
        schedule(.timeLimitReached, at: timeLimit)
        Task {
            await process.child.exited()
            post(.exited)
        }
        let supervision = await supervise(process.tree)
        // The script's process is a zombie until it is reaped, so its number cannot be reused.
        var leftovers: [String] = []
        if !process.tree.leavesNothing {
            // In a task of its own, which cannot be cancelled.
            leftovers = await Task { [invocation, clock] in
                await process.tree.sweep(
                    after: supervision.lastSignal, grace: invocation.grace.boundedForSleep, by: clock)
            }.value
        }
        let termination = await process.child.reap()
        BlockingWork.begin(on: .steps) { process.removeCgroup() }
        guard termination != .unknown else { throw .lostEnd(of: invocation, process.tree, process.child.id) }
        if let failure = process.starter?.failure() { throw failure }
        return ScriptResult(
            termination: termination, cause: supervision.cause, output: output.captured, reports: reports,
            leftovers: leftovers)
    }

    /// It blocks.
    /// - Returns: the process and the end of its time limit.
    private nonisolated func start() throws(ScriptError) -> (ScriptProcess, ContinuousClock.Instant) {
        guard !isCancelled.load(ordering: .sequentiallyConsistent) else {
            throw ScriptError(
                .cancelled, path: invocation.executable, reason: "was not started: the job was cancelled",
                hint: "nothing to fix")
        }
        let end = clock.now + invocation.timeLimit.boundedForSleep
        let process = try ScriptProcess(
            starting: invocation, usesCgroups: usesCgroups,
            output: .pipe { bytes in bytes.withUnsafeBytes { self.output.append($0) } },
            reports: invocation.hasReports
                ? .pipe { self.reports += $0.prefix(Self.longestReports - self.reports.count) } : nil)
        return (process, end)
    }

    private static let longestReports = 64 * 1024

    /// Waits for the end of the script's own process.
    private func supervise(_ tree: ProcessTree) async -> ScriptSupervision {
        var supervision = ScriptSupervision()
        while true {
            switch supervision.handle(await nextEvent()) {
            case .nothing: break
            case .terminate:
                await tree.signal([SIGTERM, SIGCONT])
                schedule(.graceOver, at: clock.now + invocation.grace.boundedForSleep)
            case .kill: await tree.signal([SIGKILL])
            case .sweep:
                if let timer { EventLoop.shared.cancel(timer) }
                return supervision
            }
        }
    }

    // MARK: - Events

    private func post(_ event: ScriptSupervision.Event) {
        guard let reader else { return events.append(event) }
        self.reader = nil
        reader.resume(returning: event)
    }

    private func nextEvent() async -> ScriptSupervision.Event {
        guard events.isEmpty else { return events.removeFirst() }
        return await withCheckedContinuation { reader = $0 }
    }

    /// Schedules an event in place of the one that was scheduled before.
    private func schedule(_ event: ScriptSupervision.Event, at due: ContinuousClock.Instant) {
        if let timer { EventLoop.shared.cancel(timer) }
        guard clock is ContinuousClock else {
            Task { if (try? await clock.sleep(until: due, tolerance: nil)) != nil { post(event) } }
            return
        }
        timer = EventLoop.shared.call(at: due) { self.post(event) }
    }
}

/// The state machine that decides when a running script gets SIGTERM and SIGKILL; ``ScriptRun`` is its driver.
///
///     running ──timeLimitReached/cancelled──► leaving ──graceOver──► killed
///        └──────────────exited──────────────────┴────────exited────────┴──► ended
///
/// The first reason to stop is the cause; later ones are ignored.
struct ScriptSupervision: Hashable, Sendable {
    enum Event: Hashable, Sendable, CaseIterable {
        /// The script's own process has ended.
        case exited
        case timeLimitReached
        /// The task that runs the script was cancelled.
        case cancelled
        /// The grace period after SIGTERM is over.
        case graceOver
    }

    enum Action: Hashable, Sendable {
        case nothing
        /// SIGTERM to the process tree, and `graceOver` after the grace period.
        case terminate
        /// SIGKILL to the process tree.
        case kill
        /// Look for leftover processes. Nothing follows.
        case sweep
    }

    enum State: Hashable, Sendable {
        case running
        case leaving
        case killed
        case ended
    }

    private(set) var state = State.running
    /// The last signal that was sent; nil: none.
    private(set) var lastSignal: Int32?
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
        if action == .terminate { lastSignal = SIGTERM }
        if action == .kill { lastSignal = SIGKILL }
        return action
    }
}
