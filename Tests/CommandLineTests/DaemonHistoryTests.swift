import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// What the daemon and its commands make of a history that cannot be used.
@Suite struct DaemonHistoryTests {
    /// What `jobs list` and `jobs show` say while the one job runs and its history is out of reach.
    private static func expectLiveOnly(_ bench: DaemonBench, _ id: UInt64, hint: String) async throws {
        for arguments in [["jobs", "list"], ["jobs", "show", "\(id)"]] {
            for json in [[], ["--json"]] {
                let shown = try RunningProgram(
                    DaemonBench.program, arguments + json + ["-c", bench.settingsFile.path])
                #expect(await shown.end() == 1, "what is missing is no success: \(shown.output)")
                #expect(shown.output.contains("waiting"), "\(shown.output)")
                let problem = try #require(shown.output.split(separator: "\n").last { $0.contains(" is missing: ") })
                #expect(problem.contains(hint), "\(problem)")
            }
        }
        let follow = try RunningProgram(
            DaemonBench.program, ["jobs", "list", "--follow", "-c", bench.settingsFile.path])
        try await follow.says(hint)
        follow.kill(SIGINT)
        _ = await follow.end()
    }

    @Test(
        "while another program keeps the history locked, jobs list and show tell what is open, what is missing and the hint, and end with 1; when it lets go the history is written again"
    )
    func locked() async throws {
        try await DaemonBench.run { bench in
            let script = try bench.waiting("waiting.sh", for: "go")
            try bench.settings(backup: "HOME_SCRIPT =\n[Job waiting]\nSCRIPT = \(script)")
            try FileManager.default.createDirectory(
                atPath: bench.path("state"), withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o700])
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
                    """, bench.path("state/history.sqlite"),
                ])
            defer { holder.kill(SIGKILL) }
            try await holder.says("held")
            let daemon = try await bench.running()
            try await daemon.says("another program keeps the history locked; find it with fuser")
            let id = try await bench.run("waiting")
            try await eventually("it runs") { bench.numbers("waiting.sh").count == 1 }
            try await Self.expectLiveOnly(bench, id, hint: "find it with fuser")

            holder.kill(SIGKILL)
            _ = await holder.end()
            try await eventually("the history is there again") {
                try await bench.command("jobs", "list").status == 0
            }
            let next = try await bench.run("waiting")
            try bench.touch("go")
            #expect(try await bench.ended(next).result == .success)
            try await daemon.says("the history is written again; ")
            await bench.stop(daemon)
            #expect(try await bench.jobs().contains { $0.id.number == next && $0.result == .success })
        }
    }

    @Test("a history that is given up until the next start leaves the open jobs to be seen, with what mends it")
    func givenUp() async throws {
        try await DaemonBench.run { bench in
            let script = try bench.waiting("waiting.sh", for: "go")
            let past = bench.directory.appending(path: "past")
            try FileManager.default.createDirectory(at: past, withIntermediateDirectories: false)
            chmod(past.path, 0o755)
            try bench.settings(
                backup:
                    "HOME_SCRIPT =\n[Job waiting]\nSCRIPT = \(script)\n[History]\nFILE = \(past.path)/history.sqlite")
            let daemon = try await bench.running()
            // The start would refuse this.
            chmod(past.path, 0o777)
            unlink(past.appending(path: "history.sqlite").path)
            let asked = try await bench.command("jobs", "run", "waiting")
            #expect(asked.status == 0, "the job is accepted all the same: \(asked.output)")
            #expect(
                asked.output.contains("cannot be recorded") && asked.output.contains("chmod go-w \(past.path)"),
                "\(asked.output)")
            let id = try #require(asked.output.split(separator: "\n").compactMap { UInt64($0) }.first)
            try await eventually("it runs") { bench.numbers("waiting.sh").count == 1 }
            try await Self.expectLiveOnly(bench, id, hint: "chmod go-w \(past.path)")
            try bench.touch("go")
            try await eventually("it has ended") {
                try await !bench.command("jobs", "list").output.contains("waiting.sh")
            }
            let gone = try await bench.command("jobs", "show", "\(id)")
            #expect(gone.status == 1 && gone.output.contains("chmod go-w"), "\(gone.output)")
            await bench.stop(daemon)
        }
    }

    @Test("who looks at the history while no daemon runs leaves nothing beside it")
    func atRest() async throws {
        try await DaemonBench.run { bench in
            try bench.settings(backup: "HOME_SCRIPT =\n[Job quick]\nSCRIPT = \(try bench.script("quick.sh", "exit 0"))")
            let daemon = try await bench.running()
            try await bench.ended(try await bench.run("quick"))
            await bench.stop(daemon)
            let state = bench.directory.appending(path: "state")
            for suffix in ["-wal", "-shm"] {
                // Of no use any more, and there or not as SQLite likes.
                unlink(state.appending(path: "history.sqlite\(suffix)").path)
            }
            let before = try bench.tree(state)
            #expect(try await bench.command("check").output.contains("ok    history: "))
            #expect(try await bench.jobs().contains { $0.client == "quick" && $0.result == .success })
            #expect(try await bench.command("jobs", "show", "1").status == 0)
            #expect(try bench.tree(state) == before)
        }
    }
}
