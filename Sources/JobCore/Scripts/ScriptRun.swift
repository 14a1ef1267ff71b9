import EventLoop
import Glibc
import Synchronization
import SystemPackage

/// One run of a script until its process tree has ended.
@MainActor final class ScriptRun {
    private nonisolated let invocation: ScriptInvocation
    private nonisolated let usesCgroups: Bool
    private nonisolated let clock: any SteadyClock
    private let output: LiveOutput
    private var reports: [UInt8] = []
    /// Read by the thread that starts the script.
    private nonisolated let isCancelled = Atomic(false)

    private enum Event {
        /// The script's own process has ended.
        case exited
        case timeLimitReached
        /// The task that runs the script was cancelled.
        case cancelled
        /// The grace period after SIGTERM is over.
        case graceOver
    }

    private var timer: EventLoop.Timer?
    /// A queue, because handling an event may take a search of /proc.
    private var events: [Event] = []
    private var reader: CheckedContinuation<Event, Never>?

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
            do throws(ScriptError) {
                return .success(try await runToEnd(after: prepare))
            } catch {
                return .failure(error)
            }
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
        let (cause, lastSignal) = await supervise(process)
        // The script's process is a zombie until it is reaped, so its number cannot be reused.
        var leftovers: [String] = []
        if !process.tree.leavesNothing {
            // In a task of its own, which cannot be cancelled.
            leftovers = await Task { [invocation, clock] in
                await process.tree.sweep(after: lastSignal, grace: invocation.grace.boundedForSleep, by: clock)
            }.value
        }
        let termination = await process.child.reap()
        WorkerPool.steps.begin { process.removeCgroup() }
        guard termination != .unknown else { throw .lostEnd(of: invocation, process.tree, process.child.id) }
        // One that was stopped before it had executed the script reports nothing.
        if cause == .itself, let failure = process.starter?.failure() { throw failure }
        return ScriptResult(
            termination: termination, cause: cause, output: output.captured, reports: reports, leftovers: leftovers)
    }

    /// It blocks.
    /// - Returns: the process and the end of its time limit.
    private nonisolated func start() throws(ScriptError) -> (ScriptProcess, ContinuousClock.Instant) {
        guard !isCancelled.load(ordering: .sequentiallyConsistent) else {
            throw ScriptError(
                .cancelled, path: invocation.executable, reason: "was not started: the job was canceled",
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

    /// Waits for the end of the script's own process. It gets SIGTERM at its time limit or when the task is cancelled, whichever is first, and
    /// SIGKILL after the grace period.
    /// - Returns: why it ended, and the last signal that was sent; nil: none.
    private func supervise(_ process: ScriptProcess) async -> (cause: ScriptResult.Cause, lastSignal: Int32?) {
        var cause = ScriptResult.Cause.itself
        var lastSignal: Int32?
        while true {
            switch (await nextEvent(), lastSignal) {
            case (.exited, _):
                if let timer { EventLoop.shared.cancel(timer) }
                return (cause, lastSignal)
            // It has ended by itself just before, which is the next event.
            case (_, nil) where process.child.hasExited: break
            case (let event, nil):
                cause = event == .cancelled ? .cancellation : .timeLimit
                lastSignal = SIGTERM
                await process.tree.signal([SIGTERM, SIGCONT])
                schedule(.graceOver, at: clock.now + invocation.grace.boundedForSleep)
            case (.graceOver, SIGTERM):
                lastSignal = SIGKILL
                await process.tree.signal([SIGKILL])
            case (.timeLimitReached, _), (.cancelled, _), (.graceOver, _): break
            }
        }
    }

    // MARK: - Events

    private func post(_ event: Event) {
        guard let reader else { return events.append(event) }
        self.reader = nil
        reader.resume(returning: event)
    }

    private func nextEvent() async -> Event {
        guard events.isEmpty else { return events.removeFirst() }
        return await withCheckedContinuation { reader = $0 }
    }

    /// Schedules an event in place of the one that was scheduled before.
    private func schedule(_ event: Event, at due: ContinuousClock.Instant) {
        if let timer { EventLoop.shared.cancel(timer) }
        guard clock is ContinuousClock else {
            Task { if (try? await clock.sleep(until: due, tolerance: nil)) != nil { post(event) } }
            return
        }
        timer = EventLoop.shared.call(at: due) { self.post(event) }
    }
}
