import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

extension Processes {
    /// A script that has no cgroup runs below an init process of its own. What goes out of its way to stay (specification: rows.md D13) is in `Survivors`.
    @Suite struct InitProcesses {
        let directory: ScriptDirectory
        let environment: [String: String]
        let runner = ScriptRunner(usesCgroups: false)

        init() throws {
            directory = try ScriptDirectory()
            environment = ["PATH": "/usr/bin:/bin", "DIR": directory.path.string]
        }

        private func run(_ body: String, grace: Duration = .seconds(60)) async throws -> ScriptResult {
            let script = try directory.script(ScriptDirectory.note + body)
            return try await runner.run(.test(script, environment: environment, grace: grace))
        }

        private func number(_ name: String) async throws -> pid_t {
            try await processNumber(in: directory.path.appending(name))
        }

        @Test("exit codes and signals of a script are unchanged, with and without a starter")
        func ends() async throws {
            for user in try await ScriptUser.withAndWithoutStarter() {
                for code in [0, 1, 126, 127, 128, 255] as [Int32] {
                    let result = try await runner.run(.test("/bin/sh", ["-c", "exit \(code)"], user: user))
                    #expect(result.termination == .exited(code: code))
                }
                for signal in [SIGHUP, SIGABRT, SIGKILL, SIGSEGV, SIGTERM, SIGCHLD + 17] {
                    let result = try await runner.run(.test("/bin/sh", ["-c", "kill -\(signal) $$"], user: user))
                    #expect(result.termination == .signaled(number: signal))
                }
            }
        }

        @Test("the init process shows its name, has no descriptor but its socket, and is the script's parent")
        func shown() async throws {
            // It closes what is the script's after it has started it.
            let result = try await run(
                """
                cat /proc/$PPID/comm; tr '\\0' ' ' < /proc/$PPID/cmdline | head -c 11; echo; readlink /proc/$PPID/cwd
                for _ in $(seq 200); do fds=$(echo $(ls /proc/$PPID/fd)); [ "$fds" = 0 ] && break; sleep 0.05; done; echo $fds
                """)
            #expect(result.output.lines == ["script init", "script init", "/", "0"])
        }

        @Test(
            "a script that may not signal the daemon's user cannot end its init process, and what it leaves is ended and named",
            .enabled(if: geteuid() == 0, "only root can become another user"))
        func otherUser() async throws {
            let user = try await ScriptUser.named("nobody")
            #expect(chown(directory.path.string, user.uid, user.gid) == 0)
            let script = try directory.script(
                ScriptDirectory.note
                    + "kill -9 $PPID 2>/dev/null || echo held; setsid env -i sleep 1000 & runs sleep $!; note child $!"
            )
            let result = try await runner.run(
                .test(script, environment: environment, user: user))
            let child = try await number("child")
            #expect(result.termination == .exited(code: 0))
            #expect(result.output.lines == ["held"])
            #expect(result.leftovers == ["sleep (\(child))"])
            #expect(!isAlive(child))
        }

        @Test("a script that kills its init process is lost, for any exit code")
        func killed() async throws {
            let error = await #expect(throws: ScriptError.self) { try await run("kill -9 $PPID; exit 0") }
            #expect(error?.code == .lost)
        }

        @Test("a script that kills its init process is killed with it and not retried", arguments: ["", "sleep 0.3; "])
        func killedWithIt(pause: String) async throws {
            let error = await #expect(throws: ScriptError.self) {
                try await run("echo >> \"$DIR/tries\"; \(pause)kill -9 $PPID; exec sleep 1000")
            }
            #expect(error?.code == .lost)
            #expect(try String(contentsOfFile: directory.path.appending("tries").string, encoding: .utf8) == "\n")
            try await eventually("it has ended") { try processes(carrying: "DIR=\(directory.path)") == [] }
        }

        @Test("D13: a process whose first thread has ended while another runs is ended and named")
        func firstThreadEnded() async throws {
            let result = try await run(
                #"""
                THREAD='import ctypes, os, sys, threading, time
                threading.Thread(target=time.sleep, args=(1000,)).start()
                open(sys.argv[1], "w").write(str(os.getpid()) + "\n")
                ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)'
                setsid env -i /usr/bin/python3 -c "$THREAD" "$DIR/new" & while [ ! -s "$DIR/new" ]; do sleep 0.02; done
                while [ "$(sed 's/.*) //; s/ .*//' /proc/$!/stat)" != Z ]; do sleep 0.02; done; mv "$DIR/new" "$DIR/child"
                """#)
            let child = try await number("child")
            #expect(result.leftovers == ["python3 (\(child))"])
            #expect(state(of: child) == nil)
        }

        @Test("a script that stops its init process does not delay its own end")
        func stopped() async throws {
            let result = try await run("setsid env -i sleep 1000 & runs sleep $!; note child $!; kill -STOP $PPID")
            #expect(result.termination == .exited(code: 0))
            #expect(result.leftovers == ["sleep (\(try await number("child")))"])
        }

        @Test("a script that cannot be started is refused with the same reason as in a cgroup, and leaves no process")
        func refused() async throws {
            let plain = try directory.script("exit 0", name: "plain.sh", mode: 0o644)
            let noInterpreter = try directory.script("#!/nonexistent/sh\n", name: "none.sh")
            let before = try Held()
            for _ in 0..<20 {
                for (path, code) in [
                    ("/nonexistent", .notFound), (plain, .notExecutable), (noInterpreter, .interpreter),
                    ("/usr", .notAFile),
                ] as [(FilePath, ScriptError.Code)] {
                    let error = await #expect(throws: ScriptError.self) { try await runner.run(.test(path)) }
                    #expect(error?.code == code, "\(path)")
                }
                let error = await #expect(throws: ScriptError.self) {
                    try await runner.run(.test("/bin/true", workingDirectory: "/nonexistent"))
                }
                #expect(error?.code == .workingDirectory)
            }
            try await nothingIsLeft(since: before)
        }

        @Test(
            "a script that its user may not execute is refused for that reason",
            .enabled(if: geteuid() == 0, "only root can become another user"))
        func noPermission() async throws {
            let user = try await ScriptUser.named("nobody")
            let script = try directory.script("exit 0", mode: 0o700)
            let error = await #expect(throws: ScriptError.self) { try await runner.run(.test(script, user: user)) }
            #expect(error?.code == .user)
            #expect(error?.errno == .permissionDenied)
        }

        @Test(
            "after its time limit and the grace period a script and a chain of processes that start each other are killed"
        )
        func timeLimit() async throws {
            let script = try directory.script(
                ScriptDirectory.note
                    + #"""
                    trap '' TERM
                    setsid env -i /usr/bin/perl -e 'my ($dir, $end) = (shift, time + 120);
                        while (time < $end) { exit 0 if fork } open F, ">$dir/escaped"' "$DIR" >/dev/null 2>&1
                    note ready $$; while :; do sleep 0.1; done
                    """#)
            let clock = ManualSteadyClock()
            let runner = ScriptRunner(clock: clock, usesCgroups: false)
            let invocation = ScriptInvocation.test(script, environment: environment)
            let running = Task { try await runner.run(invocation) }
            _ = try await number("ready")
            clock.advance(by: .seconds(300))
            let result = try await clock.passes(until: running)
            #expect(result.termination == .signaled(number: SIGKILL))
            #expect(result.cause == .timeLimit)
            #expect(!FileManager.default.fileExists(atPath: directory.path.appending("escaped").string))
            #expect(try processes(naming: directory.path.string) == [])
        }

        @Test("a cancelled script gets SIGTERM, and so do its processes in sessions of their own")
        func cancelled() async throws {
            let running = Task {
                try await run(
                    """
                    setsid env -i sh -c 'trap ": > $1/left; exit" TERM; : > $1/child; while :; do sleep 0.1; done' sh "$DIR" &
                    noted child; note ready $$; wait
                    """)
            }
            _ = try await number("ready")
            running.cancel()
            let result = try await running.value
            #expect(result.cause == .cancellation)
            #expect(result.termination == .signaled(number: SIGTERM))
            #expect(result.leftovers == [])
            #expect(FileManager.default.fileExists(atPath: directory.path.appending("left").string))
        }

        @Test("1,000 processes that ignore SIGTERM, each in a session of its own, are ended and named")
        func many() async throws {
            let result = try await run(
                #"""
                env -i /usr/bin/perl -e 'use POSIX; $SIG{TERM} = "IGNORE";
                    for (1..1000) { next if fork; POSIX::setsid(); sleep 1000; exit }'
                """#, grace: .milliseconds(1))
            #expect(result.termination == .exited(code: 0))
            #expect(result.leftovers.count == 1_000)
            #expect(!result.leftovers.contains { $0.contains("did not end after SIGKILL") })
        }

        @Test("200 scripts at once each get their own result, and leave no init process, no zombie and no descriptor")
        func parallel() async throws {
            let script = try directory.script("setsid env -i sleep 1000 & exit $1")
            _ = try await runner.run(.test(script, ["0"]))
            let before = try Held()
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                for number in 0..<200 as Range<Int32> {
                    tasks.addTask {
                        let result = try await runner.run(.test(script, ["\(number)"]))
                        #expect(result.termination == .exited(code: number))
                        #expect(result.leftovers.count == 1)
                    }
                }
                try await tasks.waitForAll()
            }
            try await nothingIsLeft(since: before)
        }

        /// What this process has; other tests of it open files and run scripts meanwhile.
        private struct Held {
            let descriptors: Int
            /// Its children that are init processes or zombies.
            let children: Set<pid_t>

            init() throws {
                descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
                let own = try ProcessStat.all().filter {
                    $0.value.parent == getpid() && (!$0.value.isAlive || $0.value.name == ScriptInit.name)
                }
                children = Set(own.keys)
            }
        }

        private func nothingIsLeft(since before: Held) async throws {
            try await eventually("no init process, no zombie and no descriptor is left") {
                let now = try Held()
                return now.children.isSubset(of: before.children) && now.descriptors <= before.descriptors + 32
            }
        }

        /// Runs a script by a daemon that is killed when the script has noted `ready`.
        private func runAndKillDaemon(_ script: FilePath, isTied: Bool) async throws {
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [script = script.string as String, directory = directory.path.string as String, isTied = isTied as Bool]
                in
                var invocation = ScriptInvocation.test(
                    FilePath(script), environment: ["PATH": "/usr/bin:/bin", "DIR": directory])
                invocation.isTiedToProcess = isTied
                let running = Task { [invocation] in try await ScriptRunner(usesCgroups: false).run(invocation) }
                try await eventually("ready") { access(directory + "/ready", F_OK) == 0 }
                kill(getpid(), SIGKILL)
                _ = try await running.value
            }
        }

        @Test("D13: when the daemon is killed a script continues, and its leftover processes are ended after it")
        func daemonKilled() async throws {
            let script = try directory.script(
                ScriptDirectory.note
                    + "setsid env -i sleep 1000 & runs sleep $!; note child $!; note init $PPID; note ready $$; noted go; note done $$"
            )
            try await runAndKillDaemon(script, isTied: false)
            let (child, root, leader) = try await (number("child"), number("init"), number("ready"))
            #expect(isAlive(child) && isAlive(root) && isAlive(leader))
            try Data().write(to: URL(filePath: directory.path.appending("go").string))
            _ = try await number("done")
            try await eventually("they have ended") { ![child, root, leader].contains(where: isAlive) }
        }

        @Test("when the daemon is killed, a script that is tied to it is killed with its processes")
        func daemonKilledTied() async throws {
            let script = try directory.script(
                ScriptDirectory.note
                    + "trap '' TERM; setsid env -i sleep 1000 & runs sleep $!; note child $!; note init $PPID; note ready $$; noted go"
            )
            try await runAndKillDaemon(script, isTied: true)
            for name in ["child", "init", "ready"] {
                let process = try await number(name)
                try await eventually("\(name) has ended") { !isAlive(process) }
            }
        }
    }
}
