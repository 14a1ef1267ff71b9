import EventLoop
import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// How the processes of a script are distinguished from others.
enum TreeWay: CaseIterable {
    case cgroup
    case descent

    /// Why this process can make no cgroups; nil: it can.
    static let obstacle = LeftoverProcesses.escape
    /// Those that this machine allows. The suite `Cgroups` is skipped with the obstacle, where there is one.
    static let possible = allCases.filter { $0 == .descent || obstacle == nil }

    func runner(_ clock: any SteadyClock = ContinuousClock()) -> ScriptRunner {
        ScriptRunner(clock: clock, usesCgroups: self == .cgroup)
    }
}

extension Processes {
    /// Specification: rows.md D13, with processes that try to escape.
    @Suite struct Survivors {
        let directory: ScriptDirectory
        let environment: [String: String]
        /// What every process that a script of this test starts carries, unless it wipes its environment.
        let sign: String

        init() throws {
            directory = try ScriptDirectory()
            environment = ["PATH": "/usr/bin:/bin", "DIR": directory.path.string]
            sign = "DIR=\(directory.path)"
        }

        private func run(
            _ body: String, by way: TreeWay, grace: Duration = .seconds(60), clock: any SteadyClock = ContinuousClock()
        ) async throws -> ScriptResult {
            let script = try directory.script(ScriptDirectory.note + body)
            return try await way.runner(clock).run(.test(script, environment: environment, grace: grace))
        }

        private func number(_ name: String) async throws -> pid_t {
            try await processNumber(in: directory.path.appending(name))
        }

        @Test("D13: a process that made a session of its own is found, ended and named", arguments: TreeWay.possible)
        func ownSession(way: TreeWay) async throws {
            let result = try await run(
                "setsid sleep 1000 >/dev/null 2>&1 & runs sleep $!; note child $!; exit 3", by: way)
            let child = try await number("child")
            #expect(result.termination == .exited(code: 3))
            #expect(result.leftovers == ["sleep (\(child))"])
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
            #expect(result.leftovers == ["perl (\(child))"])
            #expect(try processes(carrying: sign) == [])
        }

        @Test("D13: a leftover process with many threads is one process", arguments: TreeWay.possible, ["", "setsid "])
        func threads(way: TreeWay, prefix: String) async throws {
            let result = try await run(
                #"""
                THREADS='import os, threading, time
                for _ in range(9): threading.Thread(target=time.sleep, args=(1000,)).start()
                open(os.environ["DIR"] + "/ready", "w").close()'
                \#(prefix)python3 -c "$THREADS" & note child $!; noted ready
                """#, by: way)
            let child = try await number("child")
            #expect(result.leftovers == ["python3 (\(child))"])
            #expect(try processes(carrying: sign) == [])
        }

        @Test("D13: a process of a session of its own that ignores SIGTERM gets SIGKILL", arguments: TreeWay.possible)
        func stubborn(way: TreeWay) async throws {
            let result = try await run(
                "setsid sh -c 'trap \"\" TERM; echo $$ > $DIR/x; mv $DIR/x $DIR/child; while :; do sleep 0.1; done' & noted child",
                by: way, grace: .milliseconds(300))
            let child = try await number("child")
            #expect(result.termination == .exited(code: 0))
            #expect(result.leftovers.contains("sh (\(child))"))
            #expect(try processes(carrying: sign) == [])
        }

        @Test("D13: a process that keeps making new sessions is ended", arguments: TreeWay.possible)
        func chain(way: TreeWay) async throws {
            // Every SIGTERM makes two more of it, each in a session of its own.
            let again = try directory.script(
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
                FileManager.default.fileExists(atPath: directory.path.appending("1").string)
            }
            let result = try await clock.passes(until: running)
            #expect(result.termination == .exited(code: 0))
            #expect(result.leftovers.count > 1)
            #expect(!result.leftovers.contains { $0.contains("did not end after SIGKILL") })
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
            #expect(FileManager.default.fileExists(atPath: directory.path.appending("left").string))
            #expect(result.leftovers == [])
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
            #expect(Set(result.leftovers) == ["sleep (\(far))", "sleep (\(near))"])
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
            #expect(result.leftovers == ["yes (\(child))"])
            #expect(try processes(carrying: sign) == [])
        }

        @Test(
            "D13: daemons that made sessions of their own and wiped their environments are found, ended and named",
            arguments: TreeWay.possible)
        func wiped(way: TreeWay) async throws {
            let result = try await run(
                #"""
                for name in one two three; do
                    (setsid env -i sleep 1000 >/dev/null 2>&1 & runs sleep $!; note $name $!)
                done
                """#, by: way)
            let children = try await [number("one"), number("two"), number("three")]
            #expect(result.termination == .exited(code: 0))
            #expect(result.leftovers == children.sorted().map { "sleep (\($0))" })
            for child in children { #expect(!isAlive(child)) }
        }

        @Test(
            "D13: one that wiped its environment and writes on without end does not hold the result",
            arguments: TreeWay.possible)
        func wipedWriter(way: TreeWay) async throws {
            let result = try await run("setsid env -i yes & runs yes $!; note child $!; exit 4", by: way)
            let child = try await number("child")
            #expect(result.termination == .exited(code: 4))
            #expect(result.leftovers == ["yes (\(child))"])
            #expect(!isAlive(child))
        }

        @Test(
            "D13: a stopped process of a session of its own is ended, and one whose parents were stopped as well",
            arguments: TreeWay.possible)
        func stopped(way: TreeWay) async throws {
            let result = try await run(
                #"""
                stop() { kill -STOP $1; while [ "$(sed 's/.*) //; s/ .*//' /proc/$1/stat)" != T ]; do sleep 0.02; done; }
                setsid env -i sleep 1000 & runs sleep $!; note one $!; stop $!
                setsid sh -c 'sleep 1001 & echo $! > "$DIR/x"; mv "$DIR/x" "$DIR/two"; wait' & noted two; stop $!
                stop $(cat "$DIR/two")
                """#, by: way)
            let children = try await [number("one"), number("two")]
            #expect(result.leftovers.count == 3)
            #expect(!result.leftovers.contains { $0.contains("did not end after SIGKILL") }, "\(result.leftovers)")
            for child in children { #expect(!isAlive(child)) }
            #expect(try processes(carrying: sign) == [])
        }

        @Test(
            "D13: a chain in which each process starts the next in a session of its own, without environment, and ends at once is ended",
            arguments: TreeWay.possible, ["", "POSIX::setsid(); "])
        func fastChain(way: TreeWay, step: String) async throws {
            // The chain itself ends after 120 seconds, and says that it did: one that escapes does not burden the machine for ever.
            let result = try await run(
                #"""
                cat > "$DIR/chain.pl" <<'END'
                use POSIX; my $dir = shift; exit 0 if fork; POSIX::setsid(); my $end = time + 120; my $made = 0;
                while (time < $end) { my $child = fork; exit 0 if $child; \#(step)
                    if (!$made++) { open F, ">$dir/made.new"; print F $$; close F; rename "$dir/made.new", "$dir/made" } }
                open F, ">$dir/escaped"; close F;
                END
                env -i /usr/bin/perl "$DIR/chain.pl" "$DIR" </dev/null >/dev/null 2>&1; noted made
                """#, by: way, grace: .milliseconds(300))
            #expect(result.termination == .exited(code: 0))
            #expect(!result.leftovers.isEmpty)
            #expect(!result.leftovers.contains { $0.contains("did not end after SIGKILL") }, "\(result.leftovers)")
            #expect(!FileManager.default.fileExists(atPath: directory.path.appending("escaped").string))
            #expect(try processes(naming: "\(directory.path)/chain.pl") == [])
        }

        @Test("processes of others and of other scripts are not affected", arguments: TreeWay.possible)
        func others(way: TreeWay) async throws {
            let other = try directory.script(
                "echo $$ > \"$DIR/x\"; mv \"$DIR/x\" \"$DIR/other\"; exec sleep 1000", name: "other.sh")
            let task = Task { try await way.runner().run(.test(other, environment: environment)) }
            let process = try await number("other")
            let result = try await run("setsid sleep 1000 & runs sleep $!; note child $!", by: way)
            #expect(result.leftovers == ["sleep (\(try await number("child")))"])
            #expect(isAlive(process))
            task.cancel()
            #expect(try await task.value.termination == .signaled(number: SIGTERM))
        }
    }
}
