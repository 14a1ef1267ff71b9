import EventLoop
import Glibc
import Synchronization
import SystemPackage

/// One try to run a script, from its start to the end of all that it has started: the driver of ``ScriptSupervision``.
@MainActor final class ScriptRun {
    private nonisolated let invocation: ScriptInvocation
    private nonisolated let usesCgroups: Bool
    private nonisolated let clock: any SteadyClock
    private let output: LiveOutput
    /// Asked for by the thread that starts the script, before it does.
    private nonisolated let isCancelled = Atomic(false)

    private var process: ScriptProcess?
    private var leftNothing = false
    private var timer: EventLoop.Timer?
    /// Events wait for their turn, since what is done about one may take a search of /proc.
    private var events: [ScriptSupervision.Event] = []
    private var reader: CheckedContinuation<ScriptSupervision.Event, Never>?

    /// - Parameter usesCgroups: where this process can make them.
    init(_ invocation: ScriptInvocation, output: LiveOutput, clock: any SteadyClock, usesCgroups: Bool) {
        self.invocation = invocation
        self.output = output
        self.clock = clock
        self.usesCgroups = usesCgroups
    }

    /// Ends it, at whatever point it is. May be called from any thread.
    nonisolated func cancel() {
        isCancelled.store(true, ordering: .sequentiallyConsistent)
        EventLoop.shared.post { if self.process != nil { self.post(.cancelled) } }
    }

    /// Starts the script, waits for its end, and makes it end when there is a reason.
    /// - Parameter prepare: is called just before the start, where it may block.
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
                return .failure(
                    await BlockingWork.run { [invocation] in process.lost(errno: error, of: invocation) })
            }
            self.process = process
            announce(.timeLimitReached, at: end)
            if isCancelled.load(ordering: .sequentiallyConsistent) { post(.cancelled) }
            return await supervise(process)
        }
    }

    /// It blocks.
    /// - Returns: the process, and when its time is over.
    private nonisolated func start() -> Result<(ScriptProcess, ContinuousClock.Instant), ScriptError> {
        guard !isCancelled.load(ordering: .sequentiallyConsistent) else {
            return .failure(
                ScriptError(
                    .cancelled, path: invocation.executable, reason: "was not started: the job was cancelled before",
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
                await process.session.signal(SIGTERM, SIGCONT)
                announce(.graceOver, at: clock.now + invocation.grace.boundedForSleep)
            case .kill: await process.session.signal(SIGKILL)
            case .sweep: return await end(process, supervision)
            }
        }
    }

    private func end(
        _ process: ScriptProcess, _ supervision: ScriptSupervision
    ) async -> Result<ScriptResult, ScriptError> {
        // The leader is a zombie until it is reaped, so the session's number cannot be given away.
        var leftovers: [String] = []
        if !leftNothing {
            // A task of its own, which nobody cancels: it waits.
            leftovers = await Task { [invocation, clock] in
                await process.session.sweep(
                    after: supervision.pressure, grace: invocation.grace.boundedForSleep, by: clock)
            }.value
        }
        defer { BlockingWork.begin(on: .steps) { process.removeCgroup() } }
        let termination: ScriptResult.Termination
        do throws(Errno) { termination = try await reaped(process) } catch {
            return .failure(.lostEnd(of: invocation, process.session, errno: error))
        }
        if let failure = process.starter?.failure() { return .failure(failure) }
        return .success(
            ScriptResult(
                termination: termination, cause: supervision.cause, output: output.captured,
                reports: process.reports(), survivors: leftovers))
    }

    private func reaped(_ process: ScriptProcess) async throws(Errno) -> ScriptResult.Termination {
        // An init process may have to wait until the machine runs it.
        guard case .descendants = process.session.extent else { return try process.reap() }
        return try await BlockingWork.run { () -> Result<ScriptResult.Termination, Errno> in
            do throws(Errno) { return .success(try process.reap()) } catch { return .failure(error) }
        }.get()
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

    /// Has an event come at a time, in place of what was to come then.
    private func announce(_ event: ScriptSupervision.Event, at due: ContinuousClock.Instant) {
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

    /// As much as a pipe holds unless somebody has made it larger.
    private static let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 * 1024, alignment: 16)
    /// The kernel's largest pipe for an ordinary user (/proc/sys/fs/pipe-max-size): what a process that has ended has written and nobody has read.
    private static let largestPipe = 1 << 20

    /// - Returns: how many bytes there were; 0 when there are none now, or none any more.
    private func read(from process: ScriptProcess) -> Int {
        let count = Glibc.read(process.output, Self.buffer.baseAddress, Self.buffer.count)
        if count > 0 {
            output.append(UnsafeRawBufferPointer(rebasing: Self.buffer[..<count]))
            return count
        }
        let error = Errno(rawValue: errno)
        if count < 0, [.resourceTemporarilyUnavailable, .interrupted].contains(error) { return 0 }
        EventLoop.shared.forget(process.output)
        // How the script ends is worth more than what it says: its output tells what is missing.
        if count < 0 {
            Array("\n[the rest of the output could not be read: \(error)]\n".utf8).withUnsafeBytes(output.append)
        }
        return 0
    }

    private func ended(_ process: ScriptProcess) {
        EventLoop.shared.forget(process.handle)
        // What it has written itself is in the pipe; one that escaped may go on writing for ever.
        var count = 0
        while count < Self.largestPipe, case let more = read(from: process), more > 0 { count += more }
        EventLoop.shared.forget(process.output)
        if let timer { EventLoop.shared.cancel(timer) }
        leftNothing = process.session.leavesNothing
        post(.exited)
    }
}
