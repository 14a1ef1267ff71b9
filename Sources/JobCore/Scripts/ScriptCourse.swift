import EventLoop
import Glibc
import Synchronization
import SystemPackage

/// One try to run a script, from its start to the end of all that it has started: what happens to it comes from three sides (the thread that starts it,
/// the watch, whoever cancels), and the one task that runs it deals with each in turn.
final class ScriptCourse: Sendable {
    private enum Happening: Sendable {
        case refused(ScriptError)
        case came(ScriptSupervision.Event)
    }

    private struct State {
        var running: (process: ScriptProcess, watch: ScriptWatch)?
        var isCancelled = false
    }

    let invocation: ScriptInvocation
    private let output: LiveOutput
    private let clock: any SteadyClock
    private let usesCgroups: Bool
    private let happenings = Inbox<Happening>()
    private let state = Mutex(State())

    /// - Parameter usesCgroups: where this process can make them.
    init(_ invocation: ScriptInvocation, output: LiveOutput, clock: any SteadyClock, usesCgroups: Bool) {
        self.usesCgroups = usesCgroups
        self.invocation = invocation
        self.output = output
        self.clock = clock
    }

    /// Starts the script. It blocks.
    func begin() {
        do throws(ScriptError) { try start() } catch { happenings.post(.refused(error)) }
    }

    /// May be called at any time.
    func cancel() {
        let isRunning = state.withLock { state in
            state.isCancelled = true
            return state.running != nil
        }
        if isRunning { happenings.post(.came(.cancelled)) }
    }

    private func start() throws(ScriptError) {
        guard !state.withLock({ $0.isCancelled }) else {
            throw ScriptError(
                .cancelled, path: invocation.executable, reason: "was not started: the job was cancelled before",
                cure: "nothing to fix")
        }
        let watch: ScriptWatch
        do throws(Errno) { watch = try ScriptWatch.get() } catch { throw .start(of: invocation, errno: error) }
        let end = clock.now + invocation.timeLimit.boundedForSleep
        let process = try ScriptProcess(starting: invocation, in: usesCgroups ? try? CgroupParent.own.get() : nil)
        // Before anything can be told of it.
        let isCancelled = state.withLock { state in
            state.running = (process, watch)
            return state.isCancelled
        }
        do throws(Errno) {
            try watch.add(process, output: output, timeLimit: end, by: clock) { [happenings] in
                happenings.post(.came($0))
            }
        } catch {
            state.withLock { $0.running = nil }
            throw process.lost(errno: error, of: invocation)
        }
        if isCancelled { happenings.post(.came(.cancelled)) }
    }

    /// Waits for the script's process to end, and makes it end when there is a reason.
    /// - Returns: how it ended, or why it was not started.
    func supervise() async -> Result<ScriptResult, ScriptError> {
        var supervision = ScriptSupervision()
        while true {
            let event: ScriptSupervision.Event
            switch await happenings.next() {
            case .refused(let error): return .failure(error)
            case .came(let what): event = what
            }
            guard let (process, watch) = state.withLock({ $0.running }) else { continue }
            switch supervision.handle(event) {
            case .nothing: break
            case .terminate:
                await process.session.signal(SIGTERM, SIGCONT)
                watch.announce(
                    .graceOver, of: process, at: clock.now + invocation.grace.boundedForSleep, by: clock)
            case .kill: await process.session.signal(SIGKILL)
            case .sweep: return await end(process, watch, supervision)
            }
        }
    }

    private func end(
        _ process: ScriptProcess, _ watch: ScriptWatch, _ supervision: ScriptSupervision
    ) async -> Result<ScriptResult, ScriptError> {
        // The leader is a zombie until it is reaped, so the session's number cannot be given away.
        var survivors: [String] = []
        if !process.hasLeftNothing {
            // A task of its own, which nobody cancels: it waits.
            survivors = await Task { [invocation, clock] in
                await process.session.sweep(
                    after: supervision.pressure, grace: invocation.grace.boundedForSleep, by: clock)
            }.value
        }
        watch.forget(process)
        defer { BlockingWork.begin(on: .steps) { process.removeCgroup() } }
        let termination: ScriptResult.Termination
        do throws(Errno) { termination = try await reaped(process) } catch {
            return .failure(.lostEnd(of: invocation, process.session, errno: error))
        }
        if let failure = process.starter?.failure() { return .failure(failure) }
        return .success(
            ScriptResult(
                termination: termination, cause: supervision.cause, output: output.captured,
                reports: process.reports(), survivors: survivors))
    }

    private func reaped(_ process: ScriptProcess) async throws(Errno) -> ScriptResult.Termination {
        // An init process may have to wait until the machine runs it.
        guard case .descendants = process.session.extent else { return try process.reap() }
        return try await BlockingWork.run { () -> Result<ScriptResult.Termination, Errno> in
            do throws(Errno) { return .success(try process.reap()) } catch { return .failure(error) }
        }.get()
    }
}
