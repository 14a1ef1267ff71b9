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
    /// Read by the thread that starts the script.
    private nonisolated let isCancelled = Atomic(false)

    private var process: ScriptProcess?
    private var leftNothing = false
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

    /// Stops the script at any point. May be called from any thread.
    nonisolated func cancel() {
        isCancelled.store(true, ordering: .sequentiallyConsistent)
        EventLoop.shared.post { if self.process != nil { self.post(.cancelled) } }
    }

    /// Starts the script, supervises it and waits for its end.
    /// - Parameter prepare: called just before the start, where it may block.
    /// - Returns: how it ended, or why it was not started.
    func run(after prepare: @escaping @Sendable () -> Void) async -> Result<ScriptResult, ScriptError> {
        let started = await withCheckedContinuation { continuation in
            BlockingWork.begin(on: .starts) { [self] in
                prepare()
                continuation.resume(returning: start())
            }
        }
        switch started {
        case .failure(let error): return .failure(error)
        case .success(let (process, end)):
            do throws(Errno) { try watch(process) } catch {
                return .failure(await process.lost(errno: error, of: invocation))
            }
            self.process = process
            schedule(.timeLimitReached, at: end)
            if isCancelled.load(ordering: .sequentiallyConsistent) { post(.cancelled) }
            return await supervise(process)
        }
    }

    /// It blocks.
    /// - Returns: the process and the end of its time limit.
    private nonisolated func start() -> Result<(ScriptProcess, ContinuousClock.Instant), ScriptError> {
        guard !isCancelled.load(ordering: .sequentiallyConsistent) else {
            return .failure(
                ScriptError(
                    .cancelled, path: invocation.executable, reason: "was not started: the job was cancelled",
                    hint: "nothing to fix"))
        }
        let end = clock.now + invocation.timeLimit.boundedForSleep
        do throws(ScriptError) {
            let parent = usesCgroups ? try? CgroupParent.own.get() : nil
            return .success((try ScriptProcess(starting: invocation, in: parent), end))
        } catch {
            return .failure(error)
        }
    }

    private func supervise(_ process: ScriptProcess) async -> Result<ScriptResult, ScriptError> {
        var supervision = ScriptSupervision()
        while true {
            switch supervision.handle(await nextEvent()) {
            case .nothing: break
            case .terminate:
                await process.tree.signal([SIGTERM, SIGCONT])
                schedule(.graceOver, at: clock.now + invocation.grace.boundedForSleep)
            case .kill: await process.tree.signal([SIGKILL])
            case .sweep: return await end(process, supervision)
            }
        }
    }

    private func end(
        _ process: ScriptProcess, _ supervision: ScriptSupervision
    ) async -> Result<ScriptResult, ScriptError> {
        // The script's process is a zombie until it is reaped, so its number cannot be reused.
        var leftovers: [String] = []
        if !leftNothing {
            // In a task of its own, which cannot be cancelled.
            leftovers = await Task { [invocation, clock] in
                await process.tree.sweep(
                    after: supervision.lastSignal, grace: invocation.grace.boundedForSleep, by: clock)
            }.value
        }
        defer { BlockingWork.begin(on: .steps) { process.removeCgroup() } }
        let termination: TerminationStatus
        do throws(Errno) {
            guard let reaped = try await process.reap() else {
                return .failure(.hiddenEnd(of: invocation, process.number))
            }
            termination = reaped
        } catch {
            return .failure(.lostEnd(of: invocation, process.tree, errno: error))
        }
        if let failure = process.starter?.failure() { return .failure(failure) }
        return .success(
            ScriptResult(
                termination: termination, cause: supervision.cause, output: output.captured,
                reports: process.reports(), leftovers: leftovers))
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

    // MARK: - The process

    private func watch(_ process: ScriptProcess) throws(Errno) {
        try EventLoop.shared.watch(process.output, for: .readable) { _ in _ = self.read(from: process) }
        do throws(Errno) {
            try EventLoop.shared.watch(process.handle, for: .readable) { _ in self.ended(process) }
        } catch {
            EventLoop.shared.forget(process.output)
            throw error
        }
    }

    /// The default capacity of a pipe.
    private static let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 * 1024, alignment: 16)
    /// The largest pipe of an unprivileged user (/proc/sys/fs/pipe-max-size): the unread output of a process that has
    /// ended.
    private static let largestPipe = 1 << 20

    /// - Returns: the number of bytes; 0: none available.
    private func read(from process: ScriptProcess) -> Int {
        let count = Glibc.read(process.output, Self.buffer.baseAddress, Self.buffer.count)
        if count > 0 {
            output.append(UnsafeRawBufferPointer(rebasing: Self.buffer[..<count]))
            return count
        }
        let error = Errno(rawValue: errno)
        if count < 0, [.resourceTemporarilyUnavailable, .interrupted].contains(error) { return 0 }
        EventLoop.shared.forget(process.output)
        // The script's end matters more than its output; the output says what is missing.
        if count < 0 {
            Array("\n[the rest of the output could not be read: \(error)]\n".utf8).withUnsafeBytes(output.append)
        }
        return 0
    }

    private func ended(_ process: ScriptProcess) {
        EventLoop.shared.forget(process.handle)
        // The script's own output is in the pipe; a process that escaped may write for ever.
        var count = 0
        while count < Self.largestPipe, case let more = read(from: process), more > 0 { count += more }
        EventLoop.shared.forget(process.output)
        if let timer { EventLoop.shared.cancel(timer) }
        leftNothing = process.tree.leavesNothing
        post(.exited)
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
