import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// How what a script has started is told from everything else.
enum TreeWay: CaseIterable {
    case cgroup
    case session

    /// Why this process can make no cgroups; nil: it can.
    static let obstacle = LeftoverScripts.escape
    /// Those that this machine allows. The suite `Cgroups` is skipped with the obstacle, where there is one.
    static let possible = allCases.filter { $0 == .session || obstacle == nil }

    func runner(_ clock: any SteadyClock = ContinuousClock()) -> ScriptRunner {
        ScriptRunner(clock: clock, usesCgroups: self == .cgroup)
    }
}

extension Processes {
    /// Row D13 against what goes out of its way to stay.
    @Suite struct Survivors {
        let folder: ScriptFolder
        let environment: [String: String]
        /// What every process that a script of this test starts carries, unless it wipes its environment.
        let sign: String

        init() throws {
            folder = try ScriptFolder()
            environment = ["PATH": "/usr/bin:/bin", "DIR": folder.path.string]
            sign = "DIR=\(folder.path)"
        }

        private func run(
            _ body: String, by way: TreeWay, grace: Duration = .seconds(60), clock: any SteadyClock = ContinuousClock()
        ) async throws -> ScriptResult {
            let script = try folder.script(ScriptFolder.note + body)
            return try await way.runner(clock).run(.test(script, environment: environment, grace: grace))
        }

        private func number(_ name: String) async throws -> pid_t {
            try await processNumber(in: folder.path.appending(name))
        }

        @Test("D13: a process that made a session of its own is found, ended and named", arguments: TreeWay.possible)
        func ownSession(way: TreeWay) async throws {
            let result = try await run(
                "setsid sleep 1000 >/dev/null 2>&1 & runs sleep $!; note child $!; exit 3", by: way)
            let child = try await number("child")
            #expect(result.termination == .exited(code: 3))
            #expect(result.survivors == ["sleep (\(child))"])
            #expect(try processes(carrying: sign) == [])
        }

        @Test(
            "D13: a daemon that forked twice and made a session in between is found, ended and named",
            arguments: TreeWay.possible)
        func daemon(way: TreeWay) async throws {
            let result = try await run(
                #"""
                perl -e 'use POSIX; exit 0 if fork; POSIX::setsid(); exit 0 if fork; chdir "/";
                    open STDIN, "</dev/null"; open STDOUT, ">/dev/null"; open STDERR, ">/dev/null";
                    open F, ">$ENV{DIR}/child.new"; print F $$; close F; rename "$ENV{DIR}/child.new", "$ENV{DIR}/child";
                    sleep 1000'
                noted child
                """#, by: way)
            let child = try await number("child")
            #expect(result.termination == .exited(code: 0))
            #expect(result.survivors == ["perl (\(child))"])
            #expect(try processes(carrying: sign) == [])
        }

        @Test("D13: a survivor with many threads is one process", arguments: TreeWay.possible, ["", "setsid "])
        func threads(way: TreeWay, prefix: String) async throws {
            let result = try await run(
                #"""
                THREADS='import os, threading, time
                for _ in range(9): threading.Thread(target=time.sleep, args=(1000,)).start()
                open(os.environ["DIR"] + "/ready", "w").close()'
                \#(prefix)python3 -c "$THREADS" & note child $!; noted ready
                """#, by: way)
            let child = try await number("child")
            #expect(result.survivors == ["python3 (\(child))"])
            #expect(try processes(carrying: sign) == [])
        }

        @Test("D13: a process of a session of its own that ignores SIGTERM gets SIGKILL", arguments: TreeWay.possible)
        func stubborn(way: TreeWay) async throws {
            let result = try await run(
                "setsid sh -c 'trap \"\" TERM; echo $$ > $DIR/x; mv $DIR/x $DIR/child; while :; do sleep 0.1; done' & noted child",
                by: way, grace: .milliseconds(300))
            let child = try await number("child")
            #expect(result.termination == .exited(code: 0))
            #expect(result.survivors.contains("sh (\(child))"))
            #expect(try processes(carrying: sign) == [])
        }

        @Test("D13: one that goes on making new sessions is hunted down to the last", arguments: TreeWay.possible)
        func chain(way: TreeWay) async throws {
            // Every SIGTERM makes two more of it, each in a session of its own.
            let again = try folder.script(
                """
                trap 'setsid "$0" $(($1 + 1)) & setsid "$0" $(($1 + 1)) & exit' TERM
                [ $1 -lt 3 ] || trap '' TERM
                : > "$DIR/$1"
                while :; do sleep 0.05; done
                """, name: "again.sh")
            let clock = ManualSteadyClock()
            let running = Task {
                try await run("setsid '\(again)' 0 >/dev/null 2>&1 & noted 0", by: way, clock: clock)
            }
            // The first has been told to leave, and the grace is over while others of it run.
            try await eventually("it has made more of it") {
                FileManager.default.fileExists(atPath: folder.path.appending("1").string)
            }
            let result = try await clock.passes(until: running)
            #expect(result.termination == .exited(code: 0))
            #expect(result.survivors.count > 1)
            #expect(!result.survivors.contains { $0.contains("SIGKILL has not ended") })
            #expect(try processes(carrying: sign) == [])
        }

        @Test(
            "D13: the time limit tells also the processes of other sessions, and what leaves within the grace is no survivor",
            arguments: TreeWay.possible)
        func timeLimit(way: TreeWay) async throws {
            let clock = ManualSteadyClock()
            async let running = run(
                """
                setsid sh -c 'trap ": > $DIR/left; exit" TERM; : > $DIR/child; while :; do sleep 0.1; done' &
                noted child; note ready $$; wait
                """, by: way, clock: clock)
            _ = try await number("ready")
            clock.advance(by: .seconds(300))
            let result = try await running
            #expect(result.cause == .timeLimit)
            #expect(FileManager.default.fileExists(atPath: folder.path.appending("left").string))
            #expect(result.survivors == [])
            #expect(try processes(carrying: sign) == [])
        }

        @Test(
            "D12, D13: a script killed with -9 from outside leaves nothing, wherever its children have gone",
            arguments: TreeWay.possible)
        func killedFromOutside(way: TreeWay) async throws {
            async let running = run(
                "setsid sleep 1000 & runs sleep $!; note far $!; sleep 1001 & runs sleep $!; note near $!; note self $$; wait",
                by: way)
            let script = try await number("self")
            let far = try await number("far")
            let near = try await number("near")
            #expect(kill(script, SIGKILL) == 0)
            let result = try await running
            #expect(result.termination == .signaled(number: SIGKILL))
            #expect(result.cause == .itself)
            #expect(Set(result.survivors) == ["sleep (\(far))", "sleep (\(near))"])
            #expect(try processes(carrying: sign) == [])
        }

        @Test(
            "D13: a child that keeps the pipe and writes on when the script has ended is ended, in the session or out of it",
            arguments: TreeWay.possible, ["", "setsid "])
        func writesOn(way: TreeWay, prefix: String) async throws {
            let result = try await run("echo first; \(prefix)yes & runs yes $!; note child $!; exit 5", by: way)
            let child = try await number("child")
            #expect(result.termination == .exited(code: 5))
            #expect(result.output.head.starts(with: "first\n".utf8))
            #expect(result.survivors == ["yes (\(child))"])
            #expect(try processes(carrying: sign) == [])
        }

        @Test(
            "without a cgroup one that wiped its environment and made a session of its own is not found, and does not hold the result, silent or not",
            arguments: ["sleep 1000", "yes"])
        func wiped(command: String) async throws {
            let result = try await run(
                "env -i setsid \(command) & runs \(command.prefix { $0 != " " }) $!; note child $!; exit 0",
                by: .session)
            let child = try await number("child")
            #expect(result.termination == .exited(code: 0))
            #expect(result.survivors == [])
            // yes meets the end of its pipe; sleep is ours to end.
            kill(child, SIGKILL)
            try await eventually("\(command) still runs") { !isAlive(child) }
        }

        @Test("processes of others, and those of another script, are left alone", arguments: TreeWay.possible)
        func others(way: TreeWay) async throws {
            let other = try folder.script(
                "echo $$ > \"$DIR/x\"; mv \"$DIR/x\" \"$DIR/other\"; exec sleep 1000", name: "other.sh")
            let task = Task { try await way.runner().run(.test(other, environment: environment)) }
            let process = try await number("other")
            let result = try await run("setsid sleep 1000 & runs sleep $!; note child $!", by: way)
            #expect(result.survivors == ["sleep (\(try await number("child")))"])
            #expect(isAlive(process))
            task.cancel()
            #expect(try await task.value.termination == .signaled(number: SIGTERM))
        }

        @Test("a marker is found wherever it stands in an environment of any size")
        func largeEnvironment() async throws {
            let result = try await run(
                """
                i=0; while [ $i -lt 12 ]; do export BIG$i=$(head -c 12345 /dev/zero | tr '\\0' x); i=$((i + 1)); done
                setsid sleep 1000 & runs sleep $!; note child $!; setsid env -u PROV_SESSION PROV_SESSION=$PROV_SESSION sleep 1001 & runs sleep $!; note last $!
                """, by: .session)
            #expect(
                Set(result.survivors) == [
                    "sleep (\(try await number("child")))", "sleep (\(try await number("last")))",
                ])
            #expect(try processes(carrying: sign) == [])
        }
    }
}
