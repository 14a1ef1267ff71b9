package import EventLoop

/// Runs scripts: the one place where this product starts programs of others.
///
/// The contract with a script:
/// - It is run by its absolute path with just the arguments given; there is no shell, no search, no expansion.
/// - Its environment is the one given, and nothing else.
/// - Its standard input is `/dev/null`, its standard output and error are one pipe; where it is asked for, 3 and 4 are another,
///   for reports (``ScriptInvocation/hasReports``). No other descriptor is open.
/// - It leads a session of its own without a terminal, so it cannot wait for a person (specification: rows.md L4).
/// - Signals have their default dispositions and none is blocked. Its priority, its umask and its resource limits
///   are those of this process; the soft limit on open files is the one that this process was started with.
/// - With a user it has no right that this user has not, and cannot get one: real, effective and saved numbers, supplementary groups, all five
///   sets of capabilities and no_new_privs are set and then read back before its first line. If one does not hold, it is not started. The
///   working directory is entered before that, with the rights of this process.
/// - It is over when its own process has ended, whoever may still hold the pipe. Whatever it has started and outlives it is ended and named
///   (specification: rows.md D13): by a cgroup of its own, or where this process can make none by an init process of its own, which is then its parent. A script
///   that runs as this process's user can kill that: it is ``ScriptError/Code/lost`` then, and what it has started may run on.
/// - At its time limit, or when the task is cancelled, all its processes get SIGTERM (and SIGCONT, so that a stopped one hears it), and
///   after the grace SIGKILL.
///
/// A running script holds no thread. Of its output the beginning and the end are kept, in memory of a fixed size.
public struct ScriptRunner: Sendable {
    private let headLimit: Int
    private let tailLimit: Int
    private let clock: any SteadyClock
    private let usesCgroups: Bool

    /// - Parameters:
    ///   - headLimit: how many of the first bytes of output are kept.
    ///   - tailLimit: how many of the last bytes of output are kept.
    public init(headLimit: Int = 16 * 1024, tailLimit: Int = 48 * 1024) {
        self.init(headLimit: headLimit, tailLimit: tailLimit, usesCgroups: true)
    }

    package init(headLimit: Int = 16 * 1024, tailLimit: Int = 48 * 1024, clock: any SteadyClock) {
        self.init(headLimit: headLimit, tailLimit: tailLimit, clock: clock, usesCgroups: true)
    }

    /// - Parameters:
    ///   - clock: by which time limits and graces go.
    ///   - usesCgroups: where this process can make them; false is for tests of what holds elsewhere.
    package init(
        headLimit: Int = 16 * 1024, tailLimit: Int = 48 * 1024, clock: any SteadyClock = ContinuousClock(),
        usesCgroups: Bool
    ) {
        self.usesCgroups = usesCgroups
        self.headLimit = headLimit
        self.tailLimit = tailLimit
        self.clock = clock
    }

    /// Runs a script to its end, and everything that it has started with it.
    ///
    /// When the task is cancelled, the script is told to leave, and the result says so: it is not thrown.
    /// - Parameters:
    ///   - live: takes the output as it comes; one for each run.
    ///   - prepare: is called just before each try to start it, where it may block.
    /// - Throws: ``ScriptError`` when the script could not be started.
    public func run(
        _ invocation: ScriptInvocation, live: LiveOutput? = nil, prepare: @escaping @Sendable () -> Void = {}
    ) async throws(ScriptError) -> ScriptResult {
        try invocation.validate()
        let live = live ?? LiveOutput()
        await live.begin(headLimit: headLimit, tailLimit: tailLimit)
        let start = ContinuousClock.now
        var pauses = Self.pauses[...]
        while true {
            do throws(ScriptError) {
                var result = try await attempt(
                    await ScriptRun(invocation, output: live, clock: clock, usesCgroups: usesCgroups), prepare)
                result.duration = ContinuousClock.now - start
                return result
            } catch {
                guard [.busy, .resources].contains(error.code), let pause = pauses.popFirst() else { throw error }
                // A cancelled task does not wait, and the next try refuses to begin.
                do { try await Task.sleep(for: pause) } catch { pauses = [] }
            }
        }
    }

    /// How often a start is tried again that met a passing hindrance (somebody is just saving the script, many others are just being started),
    /// and after which pause.
    private static let pauses: [Duration] = [
        .milliseconds(10), .milliseconds(50), .milliseconds(250), .milliseconds(1000),
    ]

    private func attempt(
        _ run: ScriptRun, _ prepare: @escaping @Sendable () -> Void
    ) async throws(ScriptError) -> ScriptResult {
        let result = await withTaskCancellationHandler {
            await run.run(after: prepare)
        } onCancel: {
            run.cancel()
        }
        return try result.get()
    }
}

extension Duration {
    /// A century. Far longer times overflow in the clock beneath, and a sleep would end at once.
    static let longestSleep = Duration.seconds(100 * 365 * 24 * 3600)

    var boundedForSleep: Duration { min(max(self, .zero), .longestSleep) }
}
