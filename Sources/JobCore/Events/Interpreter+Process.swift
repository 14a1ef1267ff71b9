import EventLoop
import Glibc
import Subprocess
import SystemPackage

extension Interpreter {
    /// Whatever handlers may count on is here: nothing is inherited.
    private static let environment: [Environment.Key: String] = [
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/",
    ]

    /// Starts the process, takes in what it writes, and stays with it until it has gone, and its session with it.
    ///
    /// - Isolated from what its user may have set up for Python (`-I`), it writes no compiled files (`-B`), and text is UTF-8.
    /// - It leads a session of its own without a terminal. Its standard input is our pipe, its standard output is for messages, and its
    ///   standard error is for reports; the module hands them out anew before any handler runs.
    nonisolated func live(input: FileDescriptor) async {
        let host = configuration.moduleFolder.appending(HandlerModule.host)
        let marker = ScriptMarker()
        var environment = Self.environment
        for (name, value) in configuration.environment {
            environment[Environment.Key(stringLiteral: name)] = value
        }
        environment[Environment.Key(stringLiteral: ScriptMarker.variable)] = marker.text
        var options = PlatformOptions()
        options.createSession = true
        do {
            let reservation = try StartReservation()
            let outcome = try await Subprocess.run(
                .path(configuration.interpreter),
                arguments: ["-I", "-B", "-X", "utf8", host.string],
                environment: .custom(environment), workingDirectory: "/", platformOptions: options,
                input: .fileDescriptor(input, closeAfterSpawningProcess: false), output: .sequence, error: .sequence
            ) { execution in
                reservation.release()
                let session = await session(of: execution.processIdentifier.value, carrying: marker)
                await began(session)
                async let messages: Void = read(execution.standardOutput) { await self.received(message: $0) }
                async let report: Void = read(execution.standardError) { await self.received(report: $0) }
                await exit(of: execution)
                // The leader is a zombie from here until this closure returns, so the session's number cannot be given away.
                let survivors = await session.sweep(
                    after: .none, grace: configuration.grace.boundedForSleep, by: clock)
                if case .cgroup(let cgroup) = session.extent {
                    await BlockingWork.run { CgroupParent.remove(cgroup) }
                }
                await messages
                await report
                await leaderIsToBeReaped()
                return survivors
            }
            let how =
                switch outcome.terminationStatus {
                case .exited(let code): "ended with exit status \(code)"
                case .signaled(let signal): "was ended by signal \(signal)"
                }
            await ended(how, survivors: outcome.closureResult)
        } catch {
            await ended("could not be started: \(startFailure(error))", survivors: [])
        }
    }

    /// All that handlers will start: none of the site's code has run yet, for the interpreter waits to be told what to load.
    private nonisolated func session(of process: pid_t, carrying marker: ScriptMarker) async -> ScriptSession {
        let instance = configuration.environment[RunningAttempt.reportSocketVariable]
        let cgroup = await BlockingWork.run { () -> ScriptCgroup? in
            guard let cgroup = try? CgroupParent.own.get().make(for: instance) else { return nil }
            if cgroup.take(process) { return cgroup }
            CgroupParent.remove(cgroup)
            return nil
        }
        return cgroup.map { ScriptSession(leader: process, extent: .cgroup($0)) }
            ?? ScriptSession(leader: process, carrying: marker)
    }

    /// The library lets go of a pipe that others still hold when the process itself has ended.
    private nonisolated func read(
        _ output: SubprocessOutputSequence, _ take: @Sendable ([UInt8]) async -> Void
    ) async {
        do {
            for try await chunk in output { await take(chunk.withUnsafeBytes { Array($0) }) }
        } catch {
            await take(Array("\n[the rest could not be read: \(error)]\n".utf8))
        }
    }

    private nonisolated func startFailure(_ error: any Error) -> ScriptError {
        let invocation = ScriptInvocation(
            executable: configuration.interpreter, timeLimit: configuration.timeLimit, grace: configuration.grace)
        return .start(of: invocation, errno: error as? Errno ?? (error as? SubprocessError)?.underlyingError)
    }
}
