import Foundation
import Glibc
import JobCore
import Sandbox
import SystemPackage
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The daemon and its commands with a history that cannot be used.
@Suite struct DaemonHistoryTests {
    /// The output of `jobs list` and `jobs show` while the job runs and the history cannot be read.
    private static func expectLiveOnly(_ harness: DaemonHarness, _ id: UInt64, hint: String) async throws {
        for arguments in [["jobs", "list"], ["jobs", "show", "\(id)"]] {
            for json in [[], ["--json"]] {
                let shown = try RunningProgram(
                    DaemonHarness.program, arguments + json + ["-c", harness.settingsFile.path])
                #expect(await shown.end() == 1, "what is missing is no success: \(shown.output)")
                #expect(shown.output.contains("waiting"), "\(shown.output)")
                let problem = try #require(
                    shown.output.split(separator: "\n").last { $0.contains("only open jobs are shown: ") })
                #expect(problem.contains(hint), "\(problem)")
            }
        }
        let follow = try RunningProgram(
            DaemonHarness.program, ["jobs", "list", "--follow", "-c", harness.settingsFile.path])
        try await follow.says(hint)
        follow.kill(SIGINT)
        _ = await follow.end()
    }

    /// Another program that keeps the history locked until it is killed.
    private static func lock(_ harness: DaemonHarness) async throws -> RunningProgram {
        let holder = try RunningProgram(
            URL(filePath: "/usr/bin/python3"),
            [
                "-c",
                """
                import sqlite3, sys, time
                database = sqlite3.connect(sys.argv[1], isolation_level=None)
                database.execute("BEGIN EXCLUSIVE")
                print("held", flush=True)
                time.sleep(600)
                """, harness.path("state/history.sqlite"),
            ])
        try await holder.says("held")
        return holder
    }

    @Test("run --once that fails has recorded and mailed what it did before")
    func onceThatFails() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(
                database: "SERVICE_SUBTREE = ou=none,\(SandboxTree.accountsDN)",
                backup: "HOME_SCRIPT =\n\(try harness.mailSection())")
            try FileManager.default.createDirectory(
                atPath: harness.path("state"), withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o700])
            let file = FilePath(harness.path("state/history.sqlite"))
            let history = JobHistory(file: file, ids: nil) { Issue.record("\($0.text)") }
            for number: UInt64 in 1...2 {
                history.record(
                    Job(
                        id: JobID(number), type: .provisioning, name: "add", level: "add",
                        subject: JobSubject("f3f1c6b2-6a52-4a0f-9f0e-5a0d6d3c1b70"), client: "3724300",
                        created: SystemWallClock().now))
            }
            await history.close()
            let once = try await harness.command("run", "--once")
            #expect(once.status == 1 && once.output.contains("noSuchObject"), "\(once.output)")
            #expect(try HistoryReader(file: file).job(JobID(1))?.result == .failed)
            #expect(try harness.mails().contains { $0.contains("the account has a later job") })
        }
    }

    @Test("accounts explain tells that the last jobs are unknown when the history cannot be read")
    func explain() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            try await harness.add("3724300")
            try FileManager.default.createDirectory(
                atPath: harness.path("state"), withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o700])
            try Data("no database, and long enough to be looked at as one".utf8).write(
                to: URL(filePath: harness.path("state/history.sqlite")))
            let explained = try await harness.command("accounts", "explain", "3724300")
            #expect(explained.status == 0, "\(explained.output)")
            #expect(explained.output.contains("unknown      the last jobs: "), "\(explained.output)")
        }
    }

    /// The start of a program that listens in the daemon's place, and ends each connection without an answer.
    private static let silentDaemon = """
        import socket, sys
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(sys.argv[1])
        listener.listen()
        print("listening", flush=True)
        while True:
            listener.accept()[0].close()
        """

    @Test(
        "a daemon that does not answer: jobs list and show and accounts explain use the history; jobs run and backup end with 75"
    )
    func daemonDoesNotAnswer() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: "HOME_SCRIPT =\n[Job quick]\nSCRIPT = /bin/true")
            let daemon = try await harness.running()
            try await harness.add("3724300")
            let id = try await harness.run("quick")
            _ = try await harness.ended(id)
            try await harness.reached("added", "3724300")
            await harness.stop(daemon)
            let silent = try RunningProgram(
                URL(filePath: "/usr/bin/python3"), ["-c", Self.silentDaemon, harness.path("run/control.sock")])
            defer { silent.kill(SIGKILL) }
            try await silent.says("listening")

            for arguments in [["jobs", "list"], ["jobs", "show", "\(id)"]] {
                let shown = try RunningProgram(
                    DaemonHarness.program, arguments + ["-c", harness.settingsFile.path])
                #expect(await shown.end() == 0, "\(shown.output)")
                #expect(shown.output.contains("quick") && shown.output.contains("warning: "), "\(shown.output)")
            }
            let explained = try await harness.command("accounts", "explain", "3724300")
            #expect(explained.status == 0 && explained.output.contains("last job "), "\(explained.output)")
            for arguments in [
                ["jobs", "run", "quick"], ["backup", "daily", "--no-wait"], ["jobs", "list", "--follow"],
            ] {
                let failed = try RunningProgram(
                    DaemonHarness.program, arguments + ["-c", harness.settingsFile.path])
                #expect(await failed.end() == 75, "\(failed.output)")
            }
        }
    }

    @Test(
        "while another program keeps the history locked, jobs list and show tell what is open, what is missing and the hint, and end with 1; when it lets go the history is written again"
    )
    func locked() async throws {
        try await DaemonHarness.run { harness in
            let script = try harness.waiting("waiting.sh", for: "go")
            try harness.settings(backup: "HOME_SCRIPT =\n[Job waiting]\nSCRIPT = \(script)")
            try FileManager.default.createDirectory(
                atPath: harness.path("state"), withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o700])
            let holder = try await Self.lock(harness)
            defer { holder.kill(SIGKILL) }
            let daemon = try await harness.running()
            try await daemon.says("another program keeps the history locked; find it among those that fuser -v ")
            let id = try await harness.run("waiting")
            try await eventually("it runs") { harness.numbers("waiting.sh").count == 1 }
            try await Self.expectLiveOnly(harness, id, hint: "fuser -v ")
            let health = try await harness.command("health")
            #expect(health.status == 1 && health.output.contains("history.sqlite"), "\(health.output)")

            holder.kill(SIGKILL)
            _ = await holder.end()
            try await eventually("the history is there again") {
                try await harness.command("jobs", "list").status == 0
            }
            let next = try await harness.run("waiting")
            try harness.touch("go")
            #expect(try await harness.ended(next).result == .success)
            try await daemon.says("the history is written again; ")
            let after = try await harness.command("health")
            #expect(after.status == 0, "\(after.output)")
            await harness.stop(daemon)
            #expect(try await harness.jobs().contains { $0.id.number == next && $0.result == .success })
        }
    }

    @Test(
        "jobs that a crash interrupted continue when another program lets go of the history, unless another job was submitted for the same work"
    )
    func interruptedBehindLock() async throws {
        try await DaemonHarness.run { harness in
            let (one, other) = (
                try harness.waiting("one.sh", for: "go"), try harness.waiting("other.sh", for: "go")
            )
            try harness.settings(
                service: "RETRY_MAX_DELAY = 1s",
                backup: "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\n[Job one]\nSCRIPT = \(one)\n[Job other]\nSCRIPT = \(other)")
            let crashed = try await harness.running()
            let (first, second) = (try await harness.run("one"), try await harness.run("other"))
            try await eventually("both run") {
                harness.numbers("one.sh").count == 1 && harness.numbers("other.sh").count == 1
            }
            crashed.kill(SIGKILL)
            _ = await crashed.end()
            let holder = try await Self.lock(harness)
            defer { holder.kill(SIGKILL) }
            let daemon = try await harness.running()
            try await daemon.says("interrupted jobs cannot be read from the history: ")
            let third = try await harness.run("other")
            try await eventually("it runs") { harness.numbers("other.sh").count == 2 }

            holder.kill(SIGKILL)
            _ = await holder.end()
            try await daemon.says("interrupted jobs that are recovered: 2")
            let replaced = try await harness.ended(second)
            #expect(replaced.result == .aborted, "\(replaced)")
            #expect(replaced.message.contains("job \(third) was submitted for the same work"), "\(replaced)")
            try await eventually("the other one is repeated") { harness.numbers("one.sh").count == 2 }
            try harness.touch("go")
            #expect(try await harness.ended(first).result == .success)
            #expect(try await harness.ended(third).result == .success)
            await harness.stop(daemon)
        }
    }

    @Test(
        "while others can write to the history's directory, the open jobs are seen with the hint; when it was followed, all jobs are recorded"
    )
    func untrusted() async throws {
        try await DaemonHarness.run { harness in
            let script = try harness.waiting("waiting.sh", for: "go")
            let past = harness.directory.appending(path: "past")
            try FileManager.default.createDirectory(at: past, withIntermediateDirectories: false)
            chmod(past.path, 0o755)
            try harness.settings(
                backup:
                    "HOME_SCRIPT =\n[Job waiting]\nSCRIPT = \(script)\n[History]\nFILE = \(past.path)/history.sqlite")
            let daemon = try await harness.running()
            // The start would refuse this.
            chmod(past.path, 0o777)
            unlink(past.appending(path: "history.sqlite").path)
            let asked = try await harness.command("jobs", "run", "waiting")
            #expect(asked.status == 0, "the job is accepted all the same: \(asked.output)")
            #expect(
                asked.output.contains("cannot be recorded") && asked.output.contains("chmod go-w \(past.path)"),
                "\(asked.output)")
            let id = try #require(asked.output.split(separator: "\n").compactMap { UInt64($0) }.first)
            try await eventually("it runs") { harness.numbers("waiting.sh").count == 1 }
            try await Self.expectLiveOnly(harness, id, hint: "chmod go-w \(past.path)")
            try harness.touch("go")
            try await eventually("it has ended") {
                try await !harness.command("jobs", "list").output.contains("waiting.sh")
            }
            let gone = try await harness.command("jobs", "show", "\(id)")
            #expect(gone.status == 1 && gone.output.contains("chmod go-w"), "\(gone.output)")
            let awaited = try await harness.command("jobs", "run", "waiting", "--wait")
            #expect(awaited.status == 1 && awaited.output.contains("daemon's log"), "\(awaited.output)")

            chmod(past.path, 0o755)
            try await daemon.says("the history is written again; ")
            #expect(try await harness.ended(id).result == .success)
            #expect(try await harness.ended(try await harness.run("waiting")).result == .success)
            await harness.stop(daemon)
        }
    }

    @Test("reading the history without a daemon leaves no files in its directory")
    func atRest() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(
                backup: "HOME_SCRIPT =\n[Job quick]\nSCRIPT = \(try harness.script("quick.sh", "exit 0"))")
            let daemon = try await harness.running()
            try await harness.ended(try await harness.run("quick"))
            await harness.stop(daemon)
            let state = harness.directory.appending(path: "state")
            for suffix in ["-wal", "-shm"] {
                // Of no use any more, and there or not as SQLite likes.
                unlink(state.appending(path: "history.sqlite\(suffix)").path)
            }
            let before = try harness.tree(state)
            #expect(try await harness.command("check").output.contains("ok    history: "))
            #expect(try await harness.jobs().contains { $0.client == "quick" && $0.result == .success })
            #expect(try await harness.command("jobs", "show", "1").status == 0)
            #expect(try harness.tree(state) == before)
        }
    }
}
