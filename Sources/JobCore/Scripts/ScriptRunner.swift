import Glibc
import Subprocess
import Synchronization
import SystemPackage

/// Runs scripts: the one place where this product starts processes of others.
///
/// The contract with a script:
/// - It is run by its absolute path with just the arguments given; there is no shell, no search, no expansion.
/// - Its environment is the one given and nothing else.
/// - Its standard input is `/dev/null`, its standard output and error are one pipe, no other descriptor is open.
/// - It leads a session of its own without a terminal, so it cannot wait for a person (row L4).
/// - Signals have their default dispositions and none is blocked. Its umask, resource limits and priority are those of this process:
///   the library beneath cannot set them, so a daemon sets its umask once when it starts.
/// - It is over when its own process has ended, whoever may still hold the pipe. Whatever of its session outlives it is ended and named
///   (row D13). A process that made a session of its own is not seen.
/// - At its time limit, or when the task is cancelled, the whole session gets SIGTERM (and SIGCONT, so that a stopped process hears it), and
///   after the grace SIGKILL.
///
/// A running script holds no thread. Of its output the beginning and the end are kept, in memory of a fixed size.
public struct ScriptRunner: Sendable {
    private let headLimit: Int
    private let tailLimit: Int

    /// - Parameters:
    ///   - headLimit: how many of the first bytes of output are kept.
    ///   - tailLimit: how many of the last bytes of output are kept.
    public init(headLimit: Int = 16 * 1024, tailLimit: Int = 48 * 1024) {
        self.headLimit = headLimit
        self.tailLimit = tailLimit
    }

    /// Runs a script to its end, and its session with it.
    ///
    /// When the task is cancelled, the script is told to leave, and the result says so: it is not thrown.
    /// - Throws: ``ScriptError`` when the script could not be started.
    public func run(
        _ invocation: ScriptInvocation, live: LiveOutput? = nil
    ) async throws(ScriptError) -> ScriptResult {
        try invocation.validate()
        if Task.isCancelled {
            throw ScriptError(
                .cancelled, path: invocation.executable, reason: "was not started: the job was cancelled before",
                cure: "nothing to mend")
        }
        let (events, source) = AsyncStream<ScriptSupervision.Event>.makeStream()
        // A task of its own, which nobody cancels: the library would answer a cancellation in its own way, and stop reading.
        let run = Task { await self.run(invocation, events: events, source: source) }
        let result = await withTaskCancellationHandler {
            await run.value
        } onCancel: {
            source.yield(.cancelled)
        }
        return try result.get()
    }

    /// How often a start is tried again that met a passing hindrance (somebody is just saving the script, many others are just being started),
    /// and after which pause.
    private static let pauses: [Duration] = [
        .milliseconds(10), .milliseconds(50), .milliseconds(250), .milliseconds(1000),
    ]

    private func run(
        _ invocation: ScriptInvocation, events: AsyncStream<ScriptSupervision.Event>,
        source: AsyncStream<ScriptSupervision.Event>.Continuation
    ) async -> Result<ScriptResult, ScriptError> {
        let start = ContinuousClock.now
        var pauses = Self.pauses[...]
        while true {
            do throws(ScriptError) {
                var result = try await attempt(invocation, events: events, source: source)
                result.duration = ContinuousClock.now - start
                return .success(result)
            } catch {
                guard [.busy, .resources].contains(error.code), let pause = pauses.popFirst() else {
                    return .failure(error)
                }
                do { try await Task.sleep(for: pause) } catch { pauses = [] }
            }
        }
    }

    private func attempt(
        _ invocation: ScriptInvocation, events: AsyncStream<ScriptSupervision.Event>,
        source: AsyncStream<ScriptSupervision.Event>.Continuation
    ) async throws(ScriptError) -> ScriptResult {
        var options = PlatformOptions()
        options.createSession = true
        let reservation: StartReservation
        do { reservation = try StartReservation() } catch { throw .start(of: invocation, errno: error) }
        let variables = invocation.environment.map { (Environment.Key(stringLiteral: $0.key), $0.value) }
        do {
            let outcome = try await Subprocess.run(
                .path(invocation.executable), arguments: Arguments(invocation.arguments),
                environment: .custom(Dictionary(variables, uniquingKeysWith: { first, _ in first })),
                workingDirectory: invocation.workingDirectory, platformOptions: options, input: .none,
                output: .sequence,
                error: .combinedWithOutput
            ) { execution in
                reservation.release()
                let reader = OutputReader(OutputCapture(headLimit: headLimit, tailLimit: tailLimit))
                async let reading: Void = reader.read(execution.standardOutput)
                let session = ScriptSession(leader: execution.processIdentifier.value)
                let supervision = await supervise(
                    session, invocation: invocation, events: events, source: source, exit: { await exit(of: execution) }
                )
                // The leader is a zombie from here until this closure returns, so the session's number cannot be given away.
                reader.writerHasEnded()
                let survivors = await session.sweep(
                    after: supervision.pressure, grace: invocation.grace.boundedForSleep)
                await reading
                return (cause: supervision.cause, survivors: survivors, output: reader.captured)
            }
            let termination: ScriptResult.Termination =
                switch outcome.terminationStatus {
                case .exited(let code): .exited(code: code)
                case .signaled(let signal): .signaled(number: signal)
                }
            let seen = outcome.closureResult
            return ScriptResult(
                termination: termination, cause: seen.cause, output: seen.output, survivors: seen.survivors)
        } catch let error as SubprocessError {
            throw ScriptError(error, of: invocation)
        } catch {
            throw ScriptError(
                .lost, path: invocation.executable, reason: "was started and then lost sight of (\(error))",
                cure: "look for what is left of it before it is run again")
        }
    }

    /// Waits for the script's process to end, and makes it end when there is a reason.
    private func supervise(
        _ session: ScriptSession, invocation: ScriptInvocation, events: AsyncStream<ScriptSupervision.Event>,
        source: AsyncStream<ScriptSupervision.Event>.Continuation, exit: @escaping @Sendable () async -> Void
    ) async -> ScriptSupervision {
        await withTaskGroup(of: Void.self) { tasks in
            @Sendable func yield(_ event: ScriptSupervision.Event, after time: Duration) async {
                do { try await Task.sleep(for: time.boundedForSleep) } catch { return }
                source.yield(event)
            }
            tasks.addTask {
                await exit()
                source.yield(.exited)
            }
            tasks.addTask { await yield(.timeLimitReached, after: invocation.timeLimit) }
            var supervision = ScriptSupervision()
            waiting: for await event in events {
                switch supervision.handle(event) {
                case .nothing: break
                case .terminate:
                    session.signal(SIGTERM)
                    session.signal(SIGCONT)
                    tasks.addTask { await yield(.graceOver, after: invocation.grace) }
                case .kill: session.signal(SIGKILL)
                case .sweep: break waiting
                }
            }
            tasks.cancelAll()
            return supervision
        }
    }
}

/// Waits until the process has ended, without reaping it.
///
/// The library offers a teardown but no wait. A teardown whose first step is signal 0, which the kernel never delivers, is one: it returns
/// when the process has ended. (Its last step would be SIGKILL, after the longest time one can sleep.)
func exit<Input, Output, Failure>(of execution: Execution<Input, Output, Failure>) async {
    await execution.teardown(using: [
        .send(signal: Signal(rawValue: 0), allowedDurationToNextStep: .longestSleep)
    ])
}

/// Reads a script's output while it runs, and for as long afterwards as its own words can be in the pipe.
private final class OutputReader: Sendable {
    /// The kernel's largest pipe for an ordinary user (/proc/sys/fs/pipe-max-size).
    private static let largestPipe = 1 << 20

    private struct State {
        var capture: OutputCapture
        /// How much is still to be read after the writer has ended; nil before.
        var remaining: Int?
    }

    private let state: Mutex<State>

    init(_ capture: OutputCapture) { state = Mutex(State(capture: capture)) }

    var captured: CapturedOutput { state.withLock { $0.capture.captured } }

    /// A process that escaped may write for ever: what the script itself has written fits into the pipe.
    func writerHasEnded() { state.withLock { $0.remaining = Self.largestPipe } }

    /// Returns at the end of the pipe, or when the process has ended and the pipe is empty.
    func read(_ output: SubprocessOutputSequence) async {
        do {
            for try await chunk in output {
                let wantsMore = state.withLock { state in
                    chunk.withUnsafeBytes { state.capture.append($0) }
                    guard let remaining = state.remaining else { return true }
                    state.remaining = remaining - chunk.count
                    return remaining > chunk.count
                }
                if !wantsMore { break }
            }
        } catch {
            // How the script ends is worth more than what it says: its output tells what is missing.
            state.withLock { $0.capture.append(Array("\n[the rest of the output could not be read: \(error)]\n".utf8)) }
        }
    }
}

extension ScriptError {
    fileprivate init(_ error: SubprocessError, of invocation: ScriptInvocation) {
        switch error.code {
        case .spawnFailed, .executableNotFound, .asyncIOFailed:
            self = .start(of: invocation, errno: error.underlyingError)
        case .failedToChangeWorkingDirectory:
            self = .workingDirectory(invocation.workingDirectory, errno: error.underlyingError)
        default:
            self.init(
                .lost, path: invocation.executable, errno: error.underlyingError,
                reason: "was started and then lost sight of (\(error))",
                cure: "look for what is left of it before it is run again")
        }
    }
}

extension Duration {
    /// A century. Far longer times overflow in the clock beneath, and a sleep would end at once.
    static let longestSleep = Duration.seconds(100 * 365 * 24 * 3600)

    var boundedForSleep: Duration { min(max(self, .zero), .longestSleep) }
}
