import Glibc
import Subprocess
import Synchronization
import SystemPackage

/// Runs scripts: the one place where this product starts programs of others.
///
/// The contract with a script:
/// - It is run by its absolute path with just the arguments given; there is no shell, no search, no expansion.
/// - Its environment is the one given and `PROV_SESSION`, a random number by which its processes are known, and nothing else.
/// - Its standard input is `/dev/null`, its standard output and error are one pipe, no other descriptor is open.
/// - It leads a session of its own without a terminal, so it cannot wait for a person (row L4).
/// - Signals have their default dispositions and none is blocked. Its priority is that of this process, and so are its umask and
///   resource limits where none are given.
/// - With a user it has no right that this user has not, and cannot get one: real, effective and saved numbers, supplementary groups, all five
///   sets of capabilities and no_new_privs are set and then read back before its first line. If one does not hold, it is not started. The
///   working folder is entered before that, with the rights of this process.
/// - It is over when its own process has ended, whoever may still hold the pipe. Whatever it has started and outlives it is ended and named
///   (row D13), also in a session of its own. Not found is a process that did that and wiped its environment, or that did that and went over to a
///   third user (neither root's, nor this process's, nor the script's).
/// - At its time limit, or when the task is cancelled, all its processes get SIGTERM (and SIGCONT, so that a stopped one hears it), and
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

    /// Runs a script to its end, and everything that it has started with it.
    ///
    /// When the task is cancelled, the script is told to leave, and the result says so: it is not thrown.
    /// - Parameter live: takes the output as it comes; one for each run.
    /// - Throws: ``ScriptError`` when the script could not be started.
    public func run(
        _ invocation: ScriptInvocation, live: LiveOutput? = nil
    ) async throws(ScriptError) -> ScriptResult {
        try invocation.validate()
        let live = live ?? LiveOutput()
        live.begin(headLimit: headLimit, tailLimit: tailLimit)
        let request = Request(invocation: invocation, output: live)
        let result = await withTaskCancellationHandler {
            // A task of its own, which nobody cancels: the library would answer a cancellation in its own way, and stop reading. It begins
            // only here, where a cancellation that came before is known.
            await Task { await self.run(request) }.value
        } onCancel: {
            request.cancel()
        }
        return try result.get()
    }

    /// What is asked for, and what happens to it meanwhile.
    private final class Request: Sendable {
        let invocation: ScriptInvocation
        let output: LiveOutput
        let events: AsyncStream<ScriptSupervision.Event>
        let source: AsyncStream<ScriptSupervision.Event>.Continuation
        private let cancelled = Atomic(false)

        init(invocation: ScriptInvocation, output: LiveOutput) {
            self.invocation = invocation
            self.output = output
            (events, source) = AsyncStream.makeStream()
        }

        var isCancelled: Bool { cancelled.load(ordering: .sequentiallyConsistent) }

        func cancel() {
            cancelled.store(true, ordering: .sequentiallyConsistent)
            source.yield(.cancelled)
        }
    }

    /// How often a start is tried again that met a passing hindrance (somebody is just saving the script, many others are just being started),
    /// and after which pause.
    private static let pauses: [Duration] = [
        .milliseconds(10), .milliseconds(50), .milliseconds(250), .milliseconds(1000),
    ]

    private func run(_ request: Request) async -> Result<ScriptResult, ScriptError> {
        let start = ContinuousClock.now
        var pauses = Self.pauses[...]
        while true {
            do throws(ScriptError) {
                var result = try await attempt(request)
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

    private func attempt(_ request: Request) async throws(ScriptError) -> ScriptResult {
        let invocation = request.invocation
        if request.isCancelled {
            throw ScriptError(
                .cancelled, path: invocation.executable, reason: "was not started: the job was cancelled before",
                cure: "nothing to mend")
        }
        let reservation: StartReservation
        let starter: ScriptStarter?
        do throws(Errno) {
            reservation = try StartReservation()
            starter = try ScriptStarter(for: invocation)
        } catch {
            throw .start(of: invocation, errno: error)
        }
        guard let starter else {
            return try await attempt(
                request, .path(invocation.executable), Arguments(invocation.arguments), input: .none, reservation)
        }
        let result = try await attempt(
            request, starter.executable, starter.arguments,
            input: .fileDescriptor(starter.input, closeAfterSpawningProcess: false), reservation)
        if let failure = starter.failure() { throw failure }
        return result
    }

    private func attempt(
        _ request: Request, _ executable: Executable, _ arguments: Arguments, input: some InputProtocol,
        _ reservation: StartReservation
    ) async throws(ScriptError) -> ScriptResult {
        let invocation = request.invocation
        var options = PlatformOptions()
        options.createSession = true
        let marker = ScriptMarker()
        var variables = invocation.environment
        variables[ScriptMarker.variable] = marker.text
        let environment = variables.map { (Environment.Key(stringLiteral: $0.key), $0.value) }
        do {
            let outcome = try await Subprocess.run(
                executable, arguments: arguments,
                environment: .custom(Dictionary(environment, uniquingKeysWith: { first, _ in first })),
                workingDirectory: invocation.workingDirectory, platformOptions: options, input: input,
                output: .sequence, error: .combinedWithOutput
            ) { execution in
                reservation.release()
                let reader = OutputReader(request.output)
                async let reading: Void = reader.read(execution.standardOutput)
                let session = ScriptSession(
                    leader: execution.processIdentifier.value, marker: marker, user: invocation.user?.uid)
                let supervision = await supervise(session, request, exit: { await exit(of: execution) })
                // The leader is a zombie from here until this closure returns, so the session's number cannot be given away.
                reader.writerHasEnded()
                let survivors = await session.sweep(
                    after: supervision.pressure, grace: invocation.grace.boundedForSleep)
                await reading
                return (cause: supervision.cause, survivors: survivors)
            }
            let termination: ScriptResult.Termination =
                switch outcome.terminationStatus {
                case .exited(let code): .exited(code: code)
                case .signaled(let signal): .signaled(number: signal)
                }
            let seen = outcome.closureResult
            return ScriptResult(
                termination: termination, cause: seen.cause, output: request.output.captured,
                survivors: seen.survivors)
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
        _ session: ScriptSession, _ request: Request, exit: @escaping @Sendable () async -> Void
    ) async -> ScriptSupervision {
        let invocation = request.invocation
        let source = request.source
        return await withTaskGroup(of: Void.self) { tasks in
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
            waiting: for await event in request.events {
                switch supervision.handle(event) {
                case .nothing: break
                case .terminate:
                    await session.signal(SIGTERM, SIGCONT)
                    tasks.addTask { await yield(.graceOver, after: invocation.grace) }
                case .kill: await session.signal(SIGKILL)
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

    private let output: LiveOutput
    /// How much is still to be read after the writer has ended; nil before.
    private let remaining = Mutex<Int?>(nil)

    init(_ output: LiveOutput) { self.output = output }

    /// A process that escaped may write for ever: what the script itself has written fits into the pipe.
    func writerHasEnded() { remaining.withLock { $0 = Self.largestPipe } }

    /// Returns at the end of the pipe, or when the process has ended and the pipe is empty.
    func read(_ pipe: SubprocessOutputSequence) async {
        do {
            for try await chunk in pipe {
                chunk.withUnsafeBytes { output.append($0) }
                let wantsMore = remaining.withLock { remaining in
                    guard let left = remaining else { return true }
                    remaining = left - chunk.count
                    return left > chunk.count
                }
                if !wantsMore { break }
            }
        } catch {
            // How the script ends is worth more than what it says: its output tells what is missing.
            output.append(Array("\n[the rest of the output could not be read: \(error)]\n".utf8))
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
