import Foundation
import Glibc
import JobCore
import SystemPackage
import TestSupport
import Testing

extension Processes {
    /// The end of scripts and their leftover processes.
    @Suite struct Ending {
        let directory: ScriptDirectory
        /// By which time limits and graces go.
        let clock = ManualSteadyClock()
        init() throws { directory = try ScriptDirectory() }

        private func invocation(
            _ body: String, shell: String = "/bin/sh", timeLimit: Duration = .seconds(300)
        ) throws -> ScriptInvocation {
            let script = try directory.script("#!\(shell)\n" + ScriptDirectory.note + body)
            return .test(
                script, environment: ["PATH": "/usr/bin:/bin", "DIR": directory.path.string], timeLimit: timeLimit)
        }

        /// However often a grace is over, this is not.
        private let never = Duration.seconds(1_000_000_000)

        /// Runs a script that notes `ready`, until its time limit: it comes when the script is ready.
        ///
        /// What a shell has just forked may lose a signal until it has taken on its program: so a script is ready when its children run.
        private func runToLimit(
            _ body: String, shell: String = "/bin/sh", isReady: (pid_t) -> Bool = { _ in true }
        ) async throws -> Task<ScriptResult, any Error> {
            let invocation = try invocation(body, shell: shell)
            let running = Task<ScriptResult, any Error> { [clock] in
                try await ScriptRunner(clock: clock).run(invocation)
            }
            let process = try await processNumber(in: directory.path.appending("ready"))
            try await eventually("the script is ready") { isReady(process) }
            clock.advance(by: invocation.timeLimit)
            return running
        }

        @Test(
            "a process that traces a script and hides its end stops nothing else, and the script counts as lost",
            .enabled(if: geteuid() == 0, "needs the right to trace a process that is no child"),
            arguments: [true, false])
        func traced(usesCgroups: Bool) async throws {
            let invocation = try invocation("note ready $$; exec sleep 1000")
            let running = Task { try await ScriptRunner(usesCgroups: usesCgroups).run(invocation) }
            let script = try await processNumber(in: directory.path.appending("ready"))
            // PTRACE_SEIZE.
            let tracer = try directory.script(
                """
                #!/usr/bin/python3
                import ctypes, os, time
                libc = ctypes.CDLL(None)
                libc.ptrace.argtypes = [ctypes.c_long] * 4
                assert libc.ptrace(0x4206, \(script), 0, 0) == 0
                os.kill(\(script), 9)
                open("\(directory.path)/traced", "w").close()
                time.sleep(1000)
                """)
            let tracing = Task { try await ScriptRunner(usesCgroups: false).run(.test(tracer)) }
            try await eventually("it is traced") { access(directory.path.appending("traced").string, F_OK) == 0 }
            let error = await #expect(throws: ScriptError.self) { try await running.value }
            #expect(error?.code == .lost)
            tracing.cancel()
            _ = try await tracing.value
            try await eventually("it is reaped") { kill(script, 0) != 0 }
        }

        @Test("at its time limit a script gets SIGTERM, and its output after that is kept")
        func timeLimit() async throws {
            let result = try await runToLimit(
                "trap 'echo told; exit 9' TERM; echo started; sleep 1000 & runs sleep $!; note ready $$; wait"
            ).value
            #expect(result.termination == .exited(code: 9))
            #expect(result.cause == .timeLimit)
            #expect(result.output.text == "started\ntold\n")
            #expect(result.leftovers == [])
        }

        @Test("many time limits all hold, in any order")
        func timeLimits() async throws {
            let long = try invocation("note long $$; exec sleep 1000")
            let waiting = Task { try await ScriptRunner().run(long) }
            _ = try await processNumber(in: directory.path.appending("long"))
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                for limit in [900, 300, 600, 100] {
                    tasks.addTask {
                        // By the machine's clock.
                        let invocation = ScriptInvocation.test("/bin/sleep", ["1000"], timeLimit: .milliseconds(limit))
                        let result = try await ScriptRunner().run(invocation)
                        #expect(result.cause == .timeLimit)
                        #expect(result.termination == .signaled(number: SIGTERM))
                    }
                }
                try await tasks.waitForAll()
            }
            waiting.cancel()
            #expect(try await waiting.value.cause == .cancellation)
        }

        @Test("a script that ignores SIGTERM gets SIGKILL after the grace period")
        func ignoresTerm() async throws {
            let result = try await clock.passes(
                until: runToLimit("trap '' TERM; echo started; note ready $$; while :; do sleep 0.1; done"))
            #expect(result.termination == .signaled(number: SIGKILL))
            #expect(result.cause == .timeLimit)
            #expect(result.output.text == "started\n")
        }

        @Test("a script that is cancelled after its time limit gets no second SIGTERM, and the time limit is the cause")
        func firstCause() async throws {
            let running = try await runToLimit(
                "trap 'echo told; note told $$' TERM; note ready $$; while :; do sleep 0.1; done")
            _ = try await processNumber(in: directory.path.appending("told"))
            running.cancel()
            let result = try await clock.passes(until: running)
            #expect(result.cause == .timeLimit)
            #expect(result.termination == .signaled(number: SIGKILL))
            // Its shell may also tell of the program that it was running.
            #expect(result.output.text.ranges(of: "told\n").count == 1)
        }

        @Test("a stopped script receives SIGTERM")
        func stopped() async throws {
            let running = try await runToLimit(
                "trap 'exit 4' TERM; note ready $$; kill -STOP $$; while :; do sleep 0.1; done",
                isReady: { state(of: $0) == "T" })
            let result = try await running.value
            #expect(result.termination == .exited(code: 4))
            #expect(result.cause == .timeLimit)
        }

        @Test("the time limit ends the whole session, including other process groups")
        func wholeSession() async throws {
            let result = try await runToLimit(
                "set -m; sleep 1001 & runs sleep $!; note other $!; (sleep 1002 & runs sleep $!; note deep $!; wait) & noted deep; note ready $$; wait",
                shell: "/bin/bash"
            ).value
            #expect(result.cause == .timeLimit)
            #expect(result.leftovers == [])
            for name in ["other", "deep"] {
                let process = try await processNumber(in: directory.path.appending(name))
                #expect(!isAlive(process), "\(name)")
            }
        }

        @Test("a cancelled task ends its script by SIGTERM, and the result says so")
        func cancelled() async throws {
            let invocation = try invocation(
                "trap 'echo told; exit 5' TERM; note running $$; while :; do sleep 0.1; done")
            let task = Task { try await ScriptRunner().run(invocation) }
            _ = try await processNumber(in: directory.path.appending("running"))
            task.cancel()
            let result = try await task.value
            #expect(result.termination == .exited(code: 5))
            #expect(result.cause == .cancellation)
            #expect(result.output.lines.last == "told")
            #expect(ExitProfile.posix.reading(of: result).result == .aborted)
        }

        @Test("a cancelled script that ignores SIGTERM gets SIGKILL after the grace period")
        func cancelledStubborn() async throws {
            let invocation = try invocation(
                "trap '' TERM; note running $$; while :; do sleep 0.1; done", timeLimit: never)
            let task = Task { [clock] in try await ScriptRunner(clock: clock).run(invocation) }
            _ = try await processNumber(in: directory.path.appending("running"))
            task.cancel()
            let result = try await clock.passes(until: task)
            #expect(result.termination == .signaled(number: SIGKILL))
            #expect(result.cause == .cancellation)
        }

        @Test("a task that is already cancelled starts nothing")
        func cancelledBefore() async throws {
            let invocation = try invocation("note started $$")
            let task = Task {
                while !Task.isCancelled { await Task.yield() }
                return try await ScriptRunner().run(invocation)
            }
            task.cancel()
            let error = await #expect(throws: ScriptError.self) { try await task.value }
            #expect(error?.code == .cancelled)
            #expect(!FileManager.default.fileExists(atPath: directory.path.appending("started").string))
        }

        @Test("D13: a background child that holds the pipe does not delay the result; it is ended and named")
        func backgroundChild() async throws {
            let result = try await ScriptRunner().run(
                try invocation("sleep 1000 & runs sleep $!; note child $!; echo done; exit 3"))
            let child = try await processNumber(in: directory.path.appending("child"))
            #expect(result.termination == .exited(code: 3))
            #expect(result.cause == .itself)
            #expect(result.output.text == "done\n")
            #expect(result.leftovers == ["sleep (\(child))"])
            #expect(!isAlive(child))
        }

        @Test("D13: a grandchild whose parent has ended is found, because it is in the session")
        func doubleFork() async throws {
            let result = try await ScriptRunner().run(
                try invocation("(sleep 1000 >/dev/null 2>&1 </dev/null & runs sleep $!; note child $!); exit 0"))
            let child = try await processNumber(in: directory.path.appending("child"))
            #expect(result.termination == .exited(code: 0))
            #expect(result.leftovers == ["sleep (\(child))"])
            #expect(!isAlive(child))
        }

        @Test("D13: a leftover process in another process group that ignores SIGTERM gets SIGKILL")
        func stubbornSurvivor() async throws {
            let invocation = try invocation(
                "note script $$; set -m; (trap '' TERM; note child $BASHPID; while :; do sleep 0.1; done) & noted child",
                shell: "/bin/bash", timeLimit: never)
            let running = Task { [clock] in try await ScriptRunner(clock: clock).run(invocation) }
            let child = try await processNumber(in: directory.path.appending("child"))
            let script = try await processNumber(in: directory.path.appending("script"))
            try await eventually("the script has ended") { !isAlive(script) }
            try await clock.isWatched()
            let result = try await clock.passes(until: running)
            #expect(result.termination == .exited(code: 0))
            #expect(result.leftovers.contains("script.sh (\(child))"))
            #expect(!isAlive(child))
        }

        @Test(
            "a child that takes its time to leave after SIGTERM, but less than the grace, is waited for and is no survivor"
        )
        func slowToLeave() async throws {
            let result = try await runToLimit(
                "(trap 'sleep 0.6; note left $$; exit 0' TERM; note ready $$; while :; do sleep 0.1; done) & wait"
            ).value
            #expect(result.cause == .timeLimit)
            #expect(result.leftovers == [])
            #expect(FileManager.default.fileExists(atPath: directory.path.appending("left").string))
        }

        @Test(
            "D13: a child that ignores SIGTERM for longer than the grace period of a stopped script is ended and named")
        func stubbornChild() async throws {
            let running = try await runToLimit(
                "trap 'exit 6' TERM; (trap '' TERM; note deaf $$; while :; do sleep 0.1; done) & note child $!; noted deaf; note ready $$; wait"
            )
            let script = try await processNumber(in: directory.path.appending("ready"))
            let child = try await processNumber(in: directory.path.appending("child"))
            try await eventually("the script has ended") { !isAlive(script) }
            try await clock.isWatched()
            let result = try await clock.passes(until: running)
            #expect(result.termination == .exited(code: 6))
            #expect(result.cause == .timeLimit)
            #expect(result.leftovers.contains("script.sh (\(child))"))
            #expect(!isAlive(child))
        }

        @Test("64 scripts at once each get their own result, and no zombie and no descriptor is left")
        func manyAtOnce() async throws {
            let script = try directory.script("echo $1; sleep 0.2; exit $1", name: "many.sh")
            // What the library keeps open for good is opened by a first run.
            _ = try await ScriptRunner().run(.test(script, ["0"]))
            let before = try descriptors()
            let results = try await withThrowingTaskGroup(of: (Int32, ScriptResult).self) { tasks in
                for number in 0..<64 as Range<Int32> {
                    tasks.addTask { (number, try await ScriptRunner().run(.test(script, ["\(number)"]))) }
                }
                return try await tasks.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
            for number in 0..<64 as Range<Int32> {
                let result = try #require(results[number])
                #expect(result.termination == .exited(code: number))
                #expect(result.output.text == "\(number)\n")
                #expect(result.leftovers == [])
            }
            // Other tests of this program open files meanwhile.
            try await eventually("descriptors left: \(before) before") { try descriptors() <= before + 32 }
            try await eventually("zombies left") { try zombies() == [] }
        }

        @Test("2,000 runs, eight at once, leave no descriptor and no zombie behind")
        func manyInARow() async throws {
            let plain = ScriptInvocation.test("/bin/true")
            let started = ScriptInvocation.test(
                "/bin/true", user: try await ScriptUser.withAndWithoutStarter().last ?? nil)
            for invocation in [plain, started] { _ = try await ScriptRunner().run(invocation) }
            let before = try descriptors()
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                for lane in 0..<8 {
                    tasks.addTask {
                        for number in 0..<250 {
                            let result = try await ScriptRunner().run((lane + number) % 20 == 0 ? started : plain)
                            #expect(result.termination == .exited(code: 0))
                            #expect(result.leftovers == [])
                        }
                    }
                }
                try await tasks.waitForAll()
            }
            try await eventually("descriptors left: \(before) before") { try descriptors() <= before + 32 }
            try await eventually("zombies left") { try zombies() == [] }
        }

        @Test("200 scripts that are cancelled at any time during their start end, and no process is left")
        func manyCancelled() async throws {
            let script = try directory.script("trap '' TERM; setsid sleep 1000 & sleep 1000", name: "cancelled.sh")
            let environment = ["PATH": "/usr/bin:/bin", "DIR": directory.path.string]
            let before = try descriptors()
            let pauses = (0..<200).map { Duration.microseconds(200 * $0) }
            await withTaskGroup(of: Void.self) { tasks in
                for pause in pauses {
                    tasks.addTask {
                        let task = Task { () async -> Result<ScriptResult, ScriptError> in
                            do throws(ScriptError) {
                                return .success(
                                    try await ScriptRunner().run(
                                        .test(script, environment: environment, grace: .milliseconds(100))))
                            } catch { return .failure(error) }
                        }
                        // Many different times; which ones does not matter.
                        do { try await Task.sleep(for: pause) } catch {}
                        task.cancel()
                        switch await task.value {
                        case .success(let result): #expect(result.cause == .cancellation)
                        case .failure(let error): #expect(error.code == .cancelled || error.code == .resources)
                        }
                    }
                }
            }
            try await eventually("descriptors left: \(before) before") { try descriptors() <= before + 32 }
            try await eventually("zombies left") { try zombies() == [] }
            #expect(try processes(carrying: "DIR=\(directory.path)") == [])
        }

        private func descriptors() throws -> Int {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
        }

        /// Our own children that are not reaped.
        private func zombies() throws -> [Int] {
            try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap(Int.init).filter { process in
                guard let stat = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else {
                    return false
                }
                let fields = stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].split(separator: " ")
                return fields.count > 2 && fields[1] == "Z" && fields[2] == "\(getpid())"
            }
        }
    }
}
