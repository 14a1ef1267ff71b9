package import EventLoop

/// Runs scripts.
///
/// The contract with a script:
/// - It is run by its absolute path with exactly the given arguments; there is no shell, no search, no expansion.
/// - Its environment is the given one and nothing else.
/// - Its standard input is `/dev/null`; standard output and error are one pipe. With ``ScriptInvocation/hasReports``,
///   descriptors 3 and 4 are another pipe. No other descriptor is open.
/// - It leads a session of its own without a terminal, so it cannot wait for a person (specification: rows.md L4).
/// - Signals have their default dispositions and none is blocked. Priority, umask and resource limits are those of
///   this process; the soft limit on open files is the one that this process was started with.
/// - With a user it has only that user's privileges and cannot gain others: real, effective and saved ids,
///   supplementary groups, all five sets of capabilities and no_new_privs are set and then read back before its first
///   line. If one of them is wrong, the script is not started. The working directory is entered before that, with the
///   privileges of this process.
/// - It has ended when its own process has ended, even if another process holds the pipe. Leftover processes are then
///   ended and named (specification: rows.md D13). They are found by the script's cgroup or, if this process cannot
///   create cgroups, by an init process that is the script's parent. A script with this process's user can kill that
///   init process: then the result is ``ScriptError/Code/lost``, and leftover processes may continue to run.
/// - At its time limit, or when the task is cancelled, all its processes get SIGTERM (and SIGCONT, so that a stopped
///   one receives it), and SIGKILL after the grace period.
///
/// A running script occupies no thread. The beginning and the end of its output are kept in bounded memory.
public struct ScriptRunner: Sendable {
    private let clock: any SteadyClock
    private let usesCgroups: Bool

    /// A runner by the clock of the machine.
    public init() { self.init(clock: ContinuousClock()) }

    /// - Parameters:
    ///   - clock: measures time limits and grace periods.
    ///   - usesCgroups: false: never, for tests of machines that have none.
    package init(clock: any SteadyClock = ContinuousClock(), usesCgroups: Bool = true) {
        self.usesCgroups = usesCgroups
        self.clock = clock
    }

    /// Runs a script to its end and ends its leftover processes.
    ///
    /// If the task is cancelled while the script runs, it is told to end, and the result says so.
    /// - Parameters:
    ///   - live: receives the output as it comes; one per run. nil: one with the usual limits.
    ///   - prepare: called just before each attempt to start the script; it may block.
    /// - Throws: ``ScriptError`` if the script could not be started, also because the task was cancelled before.
    public func run(
        _ invocation: ScriptInvocation, live: LiveOutput? = nil, prepare: @escaping @Sendable () -> Void = {}
    ) async throws(ScriptError) -> ScriptResult {
        try invocation.validate()
        let live = live ?? LiveOutput()
        let start = ContinuousClock.now
        var result = try await Self.retrying { () throws(ScriptError) in
            let run = await ScriptRun(invocation, output: live, clock: clock, usesCgroups: usesCgroups)
            return try await run.run(after: prepare)
        }
        result.duration = ContinuousClock.now - start
        return result
    }

    /// Repeats a start that failed because of a file that is just being written or a temporary shortage.
    static func retrying<Value>(
        _ start: () async throws(ScriptError) -> Value
    ) async throws(ScriptError) -> Value {
        var pauses = Self.pauses[...]
        while true {
            do throws(ScriptError) { return try await start() } catch {
                guard [.busy, .resources].contains(error.code), let pause = pauses.popFirst() else { throw error }
                // A cancelled task does not wait.
                do { try await Task.sleep(for: pause) } catch { pauses = [] }
            }
        }
    }

    /// The pauses before a failed start is repeated.
    private static let pauses: [Duration] = [
        .milliseconds(10), .milliseconds(50), .milliseconds(250), .milliseconds(1000),
    ]
}

extension Duration {
    /// A century. Much longer times overflow in the clock, and a sleep would end at once.
    static let longestSleep = Duration.seconds(100 * 365 * 24 * 3600)

    var boundedForSleep: Duration { min(max(self, .zero), .longestSleep) }
}
