import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// What the next start finds when the daemon did not end in order.
@Suite struct DaemonCrashTests {
    @Test(
        "D13 killed with -9 while a script runs: the next start ends that script, marks the attempt lost, and runs the job again"
    )
    func scriptJob() async throws {
        try await DaemonBench.run { bench in
            // The second one writes only after it has looked for the first.
            let nightly = try bench.script(
                "nightly.sh",
                """
                trap '' TERM
                echo $$ >> \(bench.path("nightly.sh.pids"))
                for other in $(cat \(bench.path("nightly.sh.pids"))); do
                    [ $other = $$ ] || ! kill -0 $other 2>/dev/null || grep -q '^State:.Z' /proc/$other/status || echo two at once
                done
                while [ ! -e \(bench.path("go")) ] && [ -e "$0" ]; do sleep 0.05; done
                """)
            try bench.settings(
                backup: "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\n[Job nightly]\nSCRIPT = \(nightly)")
            let first = try await bench.running()
            let id = try await bench.run("nightly")
            try await eventually("the script runs") { bench.numbers("nightly.sh").count == 1 }
            let old = try #require(bench.numbers("nightly.sh").first)
            // The start of the attempt is recorded before the script begins.
            first.kill(SIGKILL)
            #expect(await first.end() == -SIGKILL)
            #expect(isRunning(old))

            let second = try bench.start()
            try await eventually("the script runs again") { bench.numbers("nightly.sh").count == 2 }
            #expect(!isRunning(old))
            try await second.says("left nightly.sh (\(old)) running")
            try bench.touch("go")
            let ended = try await bench.ended(id)
            #expect(
                ended.result == .success && ended.attempts.map(\.fate) == [.lost, .ended], "\(ended)")
            let output = ended.steps.compactMap(\.script?.output).map {
                String(decoding: $0.head, as: UTF8.self)
            }
            #expect(output == [""], "\(output)")
            await bench.stop(second)
            #expect(bench.numbers("nightly.sh").count == 2)
        }
    }

    @Test(
        "a second daemon with the same STATE_DIRECTORY ends with 75 and the first one's script goes on, whatever happens to RUNTIME_DIRECTORY",
        arguments: [true, false])
    func secondDaemon(runtimeIsRemoved: Bool) async throws {
        try await DaemonBench.run { bench in
            let nightly = try bench.waiting("nightly.sh", for: "go")
            let job = "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\n[Job nightly]\nSCRIPT = \(nightly)"
            try bench.settings(backup: job)
            let first = try await bench.running()
            _ = try await bench.run("nightly")
            try await eventually("the script runs") { bench.numbers("nightly.sh").count == 1 }
            let script = try #require(bench.numbers("nightly.sh").first)
            if runtimeIsRemoved {
                try FileManager.default.removeItem(atPath: bench.path("run"))
            } else {
                try bench.settings(service: "RUNTIME_DIRECTORY = \(bench.path("run2"))", backup: job)
            }
            try await bench.add("3724300", ["sstProvisioningExecutionDate": "20991231"])
            for arguments in [["run"], ["run", "--once"], ["accounts", "provision", "3724300"]] {
                let second = try RunningProgram(
                    DaemonBench.program, arguments + ["-c", bench.settingsFile.path])
                #expect(await second.end() == 75, "\(arguments)")
                #expect(second.output.contains("process \(first.id) holds the lock"), "\(second.output)")
                #expect(second.output.contains("STATE_DIRECTORY"), "\(second.output)")
                #expect(isRunning(script), "\(arguments)")
            }
            #expect(try await bench.command("run", "--dry-run", "--once").status == 0)
            #expect(isRunning(script))
            try bench.touch("go")
            await bench.stop(first)
        }
    }

    @Test("STATE_DIRECTORY and RUNTIME_DIRECTORY may be the same directory")
    func oneDirectory() async throws {
        try await DaemonBench.run { bench in
            try bench.settings(service: "RUNTIME_DIRECTORY = \(bench.path("state"))")
            await bench.stop(try await bench.running())
        }
    }

    @Test("a job that was accepted outlasts kill -9 right after the answer: it runs after the next start")
    func acceptedJobs() async throws {
        try await DaemonBench.run { bench in
            let nightly = try bench.script(
                "nightly.sh", "[ -e \(bench.path("go")) ] || exec sleep 1000\necho $PROV_JOB_ID >> \(bench.path("ran"))"
            )
            try bench.settings(
                backup: "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\n[Job nightly]\nSCRIPT = \(nightly)")
            var ids: [UInt64] = []
            for _ in 0..<4 {
                let daemon = try await bench.running()
                ids.append(try await bench.run("nightly"))
                daemon.kill(SIGKILL)
                #expect(await daemon.end() == -SIGKILL)
            }
            try bench.touch("go")
            let daemon = try await bench.running()
            for id in ids { #expect(try await bench.ended(id).result == .success) }
            let ran = try String(contentsOfFile: bench.path("ran"), encoding: .utf8)
            #expect(Set(ran.split(separator: "\n").compactMap { UInt64($0) }) == Set(ids))
            await bench.stop(daemon)
        }
    }

    @Test("a script with ON_INTERRUPT = fail that was killed with the daemon has failed, and is not run again")
    func notRepeated() async throws {
        try await DaemonBench.run { bench in
            let nightly = try bench.waiting("nightly.sh", for: "never")
            try bench.settings(
                backup: "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\n[Job nightly]\nSCRIPT = \(nightly)\nON_INTERRUPT = fail")
            let first = try await bench.running()
            let id = try await bench.run("nightly")
            try await eventually("the script runs") { bench.numbers("nightly.sh").count == 1 }
            first.kill(SIGKILL)
            #expect(await first.end() == -SIGKILL)
            let second = try await bench.running()
            let ended = try await bench.ended(id)
            #expect(ended.result == .failed && ended.attempts.map(\.fate) == [.lost], "\(ended)")
            await bench.stop(second)
            #expect(bench.numbers("nightly.sh").count == 1)
        }
    }

    @Test(
        "D9 killed with -9 while a cancelled job comes to its end: the next start ends it as cancelled, and does not run it"
    )
    func cancelledJob() async throws {
        try await DaemonBench.run { bench in
            let nightly = try bench.waiting("nightly.sh", for: "never")
            _ = try bench.script("hooks/pre_script.sh", "")
            _ = try bench.waiting("hooks/post_script.sh", for: "never")
            try bench.settings(
                backup: """
                    HOME_SCRIPT =
                    [Hooks Admin]
                    ENABLED = yes
                    DIRECTORY = \(bench.path("hooks"))
                    [Job nightly]
                    SCRIPT = \(nightly)
                    """)
            let first = try await bench.running()
            let id = try await bench.run("nightly")
            try await eventually("the script runs") { bench.numbers("nightly.sh").count == 1 }
            #expect(try await bench.command("jobs", "cancel", "\(id)").status == 0)
            try await eventually("the post script runs") {
                bench.numbers("hooks/post_script.sh").count == 1
            }
            #expect(try await bench.details(id).status == .canceled)
            try await eventually("it is recorded") {
                try await bench.details(id).statuses.last?.letter == .canceled
            }
            first.kill(SIGKILL)
            #expect(await first.end() == -SIGKILL)

            let second = try await bench.running()
            let ended = try await bench.ended(id)
            #expect(ended.result == .aborted && ended.attempts.map(\.fate) == [.lost], "\(ended)")
            #expect(
                Set(ended.statuses.map(\.letter)) == [.running, .canceled] && ended.status == .canceled,
                "\(ended)")
            await bench.stop(second)
            #expect(bench.numbers("nightly.sh").count == 1)
        }
    }

    @Test(
        "D13 killed with -9 while a home script runs: the old one is ended, and the account goes on with the next attempt of the same job; without a history it is another job's second",
        arguments: [true, false])
    func homeScript(hasHistory: Bool) async throws {
        try await DaemonBench.run { bench in
            let home = try bench.waiting(
                "home.sh", for: "go",
                then: "mkdir -p \"$PROV_HOME\"; echo \"$PROV_JOB_ID $PROV_ATTEMPT\" > \(bench.path("attempt"))")
            try bench.settings(backup: "HOME_SCRIPT = \(home)\nOWNERSHIP = none")
            let first = try await bench.running()
            try await bench.add("3724300")
            try await eventually("the script runs") { bench.numbers("home.sh").count == 1 }
            let old = try #require(bench.numbers("home.sh").first)
            first.kill(SIGKILL)
            #expect(await first.end() == -SIGKILL)
            if !hasHistory {
                for suffix in ["", "-wal", "-shm"] { unlink(bench.path("state/history.sqlite\(suffix)")) }
            }

            let second = try bench.start()
            try await eventually("the script runs again") { bench.numbers("home.sh").count == 2 }
            #expect(!isRunning(old))
            try await second.says("left home.sh (\(old)) running")
            try bench.touch("go")
            try await bench.reached("added", "3724300")
            let attempt = try String(contentsOfFile: bench.path("attempt"), encoding: .utf8)
            #expect(hasHistory ? attempt == "1 2\n" : attempt.hasSuffix(" 2\n") && attempt != "1 2\n")
            await bench.stop(second)
        }
    }

    @Test("a damaged history is set aside at the start, with a message, and the daemon goes on with a new one")
    func damagedHistory() async throws {
        try await DaemonBench.run { bench in
            let nightly = try bench.script("nightly.sh", "echo done")
            try bench.settings(backup: "HOME_SCRIPT =\n[Job nightly]\nSCRIPT = \(nightly)")
            let state = bench.directory.appending(path: "state")
            try FileManager.default.createDirectory(
                at: state, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            let history = state.appending(path: "history.sqlite")
            let rubbish = Data(repeating: 0x55, count: 20_000)
            try rubbish.write(to: history)
            let daemon = try await bench.running()
            let id = try await bench.run("nightly")
            #expect(try await bench.ended(id).result == .success)
            try await daemon.says("history.sqlite")
            let others = try FileManager.default.contentsOfDirectory(atPath: state.path).filter {
                $0.hasPrefix("history.sqlite") && (try? Data(contentsOf: state.appending(path: $0))) == rubbish
            }
            #expect(others.count == 1 && others != ["history.sqlite"], "\(others)")
            await bench.stop(daemon)
        }
    }
}
