import EventLoop
import SystemPackage

extension Interpreter {
    /// Whatever handlers may count on is here: nothing is inherited.
    private static let environment = [
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/",
    ]

    /// Starts the process, and begins to take in what it writes.
    ///
    /// - Isolated from what its user may have set up for Python (`-I`), it writes no compiled files (`-B`), and text is UTF-8.
    /// - Its standard input is our pipe, its standard output is for messages, and its standard error is for reports; the module hands them out anew
    ///   before any handler runs.
    func start() async throws(ScriptError) -> ChildProcess {
        let host = configuration.moduleDirectory.appending(HandlerModule.host)
        let marker = ScriptMarker()
        var environment = Self.environment.merging(configuration.environment) { $1 }
        environment[ScriptMarker.variable] = marker.text
        do throws(Errno) {
            let child = try await ChildProcess.start(
                ChildProcess.Program(
                    configuration.interpreter, ["-I", "-B", "-X", "utf8", host.string], environment: environment),
                input: .open, output: .pipe { self.received(message: $0) }, error: .pipe { self.received(report: $0) })
            began(child, await session(of: child.id, carrying: marker))
            return child
        } catch {
            let invocation = ScriptInvocation(
                executable: configuration.interpreter, timeLimit: configuration.timeLimit, grace: configuration.grace)
            throw .start(of: invocation, errno: error)
        }
    }

    /// Stays with the process until it has gone, and its session with it.
    func stay(with child: ChildProcess) async {
        guard let session else { return }
        await child.exited()
        let survivors = await session.sweep(after: .none, grace: configuration.grace.boundedForSleep, by: clock)
        if case .cgroup(let cgroup) = session.extent { await BlockingWork.run { CgroupParent.remove(cgroup) } }
        await leaderIsToBeReaped()
        switch child.reap() {
        case .exited(let code): ended("ended with exit status \(code)", survivors: survivors)
        case .signaled(let signal): ended("was ended by signal \(signal)", survivors: survivors)
        }
    }

    /// All that handlers will start: none of the site's code has run yet, for the interpreter waits to be told what to load.
    private func session(of process: Int32, carrying marker: ScriptMarker) async -> ScriptSession {
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
}
