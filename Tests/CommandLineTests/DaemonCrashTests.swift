import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The next start after a daemon that was killed or has crashed.
@Suite struct DaemonCrashTests {
    @Test(
        "D13 killed with -9 while a script runs: the next start ends that script, marks the attempt lost, and runs the job again"
    )
    func scriptJob() async throws {
        try await DaemonHarness.run { harness in
            // The second one writes only after it has looked for the first.
            let nightly = try harness.script(
                "nightly.sh",
                """
                trap '' TERM
                echo $$ >> \(harness.path("nightly.sh.pids"))
                for other in $(cat \(harness.path("nightly.sh.pids"))); do
                    [ $other = $$ ] || ! grep '^State:' /proc/$other/status 2>/dev/null | grep -qv 'State:.Z' || echo two at once
                done
                while [ ! -e \(harness.path("go")) ] && [ -e "$0" ]; do sleep 0.05; done
                """)
            try harness.settings(
                backup: "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\n[Job nightly]\nSCRIPT = \(nightly)")
            let first = try await harness.running()
            let id = try await harness.run("nightly")
            try await eventually("the script runs") { harness.numbers("nightly.sh").count == 1 }
            let old = try #require(harness.numbers("nightly.sh").first)
            // The start of the attempt is recorded before the script begins.
            first.kill(SIGKILL)
            #expect(await first.end() == -SIGKILL)
            #expect(isRunning(old))

            let second = try harness.start()
            try await eventually("the script runs again") { harness.numbers("nightly.sh").count == 2 }
            #expect(!isRunning(old))
            try await second.says("previous daemon: nightly.sh (\(old))")
            try harness.touch("go")
            let ended = try await harness.ended(id)
            #expect(
                ended.result == .success && ended.attempts.map(\.fate) == [.lost, .ended], "\(ended)")
            let output = ended.steps.compactMap(\.script?.output).map {
                String(decoding: $0.head, as: UTF8.self)
            }
            #expect(output == [""], "\(output)")
            await harness.stop(second)
            #expect(harness.numbers("nightly.sh").count == 2)
        }
    }

    @Test(
        "a second daemon with the same STATE_DIRECTORY ends with 75 and the script of the first one continues, even if RUNTIME_DIRECTORY is removed",
        arguments: [true, false])
    func secondDaemon(runtimeIsRemoved: Bool) async throws {
        try await DaemonHarness.run { harness in
            let nightly = try harness.waiting("nightly.sh", for: "go")
            let job = "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\n[Job nightly]\nSCRIPT = \(nightly)"
            try harness.settings(backup: job)
            let first = try await harness.running()
            _ = try await harness.run("nightly")
            try await eventually("the script runs") { harness.numbers("nightly.sh").count == 1 }
            let script = try #require(harness.numbers("nightly.sh").first)
            if runtimeIsRemoved {
                try FileManager.default.removeItem(atPath: harness.path("run"))
            } else {
                try harness.settings(service: "RUNTIME_DIRECTORY = \(harness.path("run2"))", backup: job)
            }
            try await harness.add("3724300", ["sstProvisioningExecutionDate": "20991231"])
            for arguments in [["run"], ["run", "--once"], ["accounts", "provision", "3724300"]] {
                let second = try RunningProgram(
                    DaemonHarness.program, arguments + ["-c", harness.settingsFile.path])
                #expect(await second.end() == 75, "\(arguments)")
                #expect(second.output.contains("process \(first.id) holds the lock"), "\(second.output)")
                #expect(second.output.contains("STATE_DIRECTORY"), "\(second.output)")
                #expect(isRunning(script), "\(arguments)")
            }
            #expect(try await harness.command("run", "--dry-run", "--once").status == 0)
            #expect(isRunning(script))
            try harness.touch("go")
            await harness.stop(first)
        }
    }

    @Test(
        "a second daemon with directories of its own for the same accounts ends with 75 unless they share claims, since both would carry out each request"
    )
    func secondDaemonOfTheAccounts() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let first = try await harness.running()
            let own =
                "STATE_DIRECTORY = \(harness.path("state2"))\nRUNTIME_DIRECTORY = \(harness.path("run2"))"
            try harness.settings(service: own)
            let second = try await harness.command("run", "--once")
            #expect(second.status == 75, "\(second.output)")
            #expect(second.output.contains("process \(first.id) holds the lock"), "\(second.output)")
            try harness.settings(service: own + "\n[Attributes]\nCLAIM = provisioningClaim")
            #expect(try await harness.command("run", "--once").status == 0)
            await harness.stop(first)
        }
    }

    @Test("STATE_DIRECTORY and RUNTIME_DIRECTORY may be the same directory")
    func oneDirectory() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(service: "RUNTIME_DIRECTORY = \(harness.path("state"))")
            await harness.stop(try await harness.running())
        }
    }

    @Test("a job that was accepted outlasts kill -9 right after the answer: it runs after the next start")
    func acceptedJobs() async throws {
        try await DaemonHarness.run { harness in
            let nightly = try harness.script(
                "nightly.sh",
                "[ -e \(harness.path("go")) ] || exec sleep 1000\necho $PROV_JOB_ID >> \(harness.path("ran"))"
            )
            try harness.settings(
                backup: "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\n[Job nightly]\nSCRIPT = \(nightly)")
            var ids: [UInt64] = []
            for _ in 0..<4 {
                let daemon = try await harness.running()
                ids.append(try await harness.run("nightly"))
                daemon.kill(SIGKILL)
                #expect(await daemon.end() == -SIGKILL)
            }
            try harness.touch("go")
            let daemon = try await harness.running()
            for id in ids { #expect(try await harness.ended(id).result == .success) }
            let ran = try String(contentsOfFile: harness.path("ran"), encoding: .utf8)
            #expect(Set(ran.split(separator: "\n").compactMap { UInt64($0) }) == Set(ids))
            await harness.stop(daemon)
        }
    }

    @Test("a script with ON_INTERRUPT = fail that was killed with the daemon has failed, and is not run again")
    func notRepeated() async throws {
        try await DaemonHarness.run { harness in
            let nightly = try harness.waiting("nightly.sh", for: "never")
            try harness.settings(
                backup: "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\n[Job nightly]\nSCRIPT = \(nightly)\nON_INTERRUPT = fail")
            let first = try await harness.running()
            let id = try await harness.run("nightly")
            try await eventually("the script runs") { harness.numbers("nightly.sh").count == 1 }
            first.kill(SIGKILL)
            #expect(await first.end() == -SIGKILL)
            let second = try await harness.running()
            let ended = try await harness.ended(id)
            #expect(ended.result == .failed && ended.attempts.map(\.fate) == [.lost], "\(ended)")
            await harness.stop(second)
            #expect(harness.numbers("nightly.sh").count == 1)
        }
    }

    @Test(
        "D9 killed with -9 while a cancelled job comes to its end: the next start ends it as cancelled, and does not run it"
    )
    func cancelledJob() async throws {
        try await DaemonHarness.run { harness in
            let nightly = try harness.waiting("nightly.sh", for: "never")
            _ = try harness.script("hooks/pre_script.sh", "")
            _ = try harness.waiting("hooks/post_script.sh", for: "never")
            try harness.settings(
                backup: """
                    HOME_SCRIPT =
                    [Hooks Admin]
                    ENABLED = yes
                    DIRECTORY = \(harness.path("hooks"))
                    [Job nightly]
                    SCRIPT = \(nightly)
                    """)
            let first = try await harness.running()
            let id = try await harness.run("nightly")
            try await eventually("the script runs") { harness.numbers("nightly.sh").count == 1 }
            #expect(try await harness.command("jobs", "cancel", "\(id)").status == 0)
            try await eventually("the post script runs") {
                harness.numbers("hooks/post_script.sh").count == 1
            }
            #expect(try await harness.details(id).status == .canceled)
            try await eventually("it is recorded") {
                try await harness.details(id).statuses.last?.letter == .canceled
            }
            first.kill(SIGKILL)
            #expect(await first.end() == -SIGKILL)

            let second = try await harness.running()
            let ended = try await harness.ended(id)
            #expect(ended.result == .aborted && ended.attempts.map(\.fate) == [.lost], "\(ended)")
            #expect(
                Set(ended.statuses.map(\.letter)) == [.running, .canceled] && ended.status == .canceled,
                "\(ended)")
            await harness.stop(second)
            #expect(harness.numbers("nightly.sh").count == 1)
        }
    }

    @Test(
        "D13 killed with -9 while a home script runs: the old one is ended, and the account goes on with the next attempt of the same job; without a history it is another job's second",
        arguments: [true, false])
    func homeScript(hasHistory: Bool) async throws {
        try await DaemonHarness.run { harness in
            let home = try harness.waiting(
                "home.sh", for: "go",
                then: "mkdir -p \"$PROV_HOME\"; echo \"$PROV_JOB_ID $PROV_ATTEMPT\" > \(harness.path("attempt"))")
            try harness.settings(backup: "HOME_SCRIPT = \(home)\nOWNERSHIP = none")
            let first = try await harness.running()
            try await harness.add("3724300")
            try await eventually("the script runs") { harness.numbers("home.sh").count == 1 }
            let old = try #require(harness.numbers("home.sh").first)
            first.kill(SIGKILL)
            #expect(await first.end() == -SIGKILL)
            if !hasHistory {
                for suffix in ["", "-wal", "-shm"] { unlink(harness.path("state/history.sqlite\(suffix)")) }
            }

            let second = try harness.start()
            try await eventually("the script runs again") { harness.numbers("home.sh").count == 2 }
            #expect(!isRunning(old))
            try await second.says("previous daemon: home.sh (\(old))")
            try harness.touch("go")
            try await harness.reached("added", "3724300")
            let attempt = try String(contentsOfFile: harness.path("attempt"), encoding: .utf8)
            #expect(hasHistory ? attempt == "1 2\n" : attempt.hasSuffix(" 2\n") && attempt != "1 2\n")
            await harness.stop(second)
        }
    }

    @Test("a damaged history is set aside at the start, with a message, and the daemon continues with a new one")
    func damagedHistory() async throws {
        try await DaemonHarness.run { harness in
            let nightly = try harness.script("nightly.sh", "echo done")
            try harness.settings(backup: "HOME_SCRIPT =\n[Job nightly]\nSCRIPT = \(nightly)")
            let state = harness.directory.appending(path: "state")
            try FileManager.default.createDirectory(
                at: state, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            let history = state.appending(path: "history.sqlite")
            let rubbish = Data(repeating: 0x55, count: 20_000)
            try rubbish.write(to: history)
            let daemon = try await harness.running()
            let id = try await harness.run("nightly")
            #expect(try await harness.ended(id).result == .success)
            try await daemon.says("history.sqlite")
            let others = try FileManager.default.contentsOfDirectory(atPath: state.path).filter {
                $0.hasPrefix("history.sqlite") && (try? Data(contentsOf: state.appending(path: $0))) == rubbish
            }
            #expect(others.count == 1 && others != ["history.sqlite"], "\(others)")
            await harness.stop(daemon)
        }
    }
}
