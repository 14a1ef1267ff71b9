import Daemon
import Foundation
import Glibc
import JobCore
import LDAP
import SystemPackage
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The job commands as they are typed, with real jobs behind them.
@Suite struct JobCommandTests {
    @Test("an error of the LDAP server inside the daemon has the exit status that it has in a command")
    func directoryErrors() async throws {
        try await JobControlHarness.run { harness in
            let codes: [(ResultCode, Int32)] = [(.insufficientAccessRights, 77), (.busy, 69), (.noSuchObject, 1)]
            for (code, status) in codes {
                let error = LDAPError(code, operation: "search", server: "ldap://here")
                await harness.refusesBackups(error)
                let ended = try await harness.command("backup", "daily", "--account", "3724300")
                #expect(ended.status == status, "\(ended.output)")
                #expect(ended.output.contains("\(error)"), "\(ended.output)")
                #expect(CommandFailure(error)?.status.rawValue == status)
            }
        }
    }

    @Test("an error of a file has the hint of the file, and says nothing of what was started")
    func fileErrors() throws {
        let runtime = #expect(throws: CommandFailure.self) { try RuntimeDirectory.prepare("relative") }
        let state = #expect(throws: StateFileError.self) { try JobIDSource(file: "/") }
        for (error, hint) in [(runtime as (any Error)?, runtime?.hint), (state, state?.hint)] {
            let failure = CommandFailure(try #require(error))
            #expect(failure?.hint == hint && failure?.description == error.map { "\($0)" })
        }
    }

    @Test(
        "L1 L6 L8 a script is run by name, reports on itself, and everything of it is shown while it runs and afterwards"
    )
    func wholeLife() async throws {
        try await JobControlHarness.run { harness in
            try await harness.script(
                "nightly",
                """
                echo first line
                $PROGRAM report -r
                $PROGRAM report --report_backup_progress 40
                touch reported
                while [ ! -e go ] && [ -e "$0" ]; do sleep 0.05; done
                echo last line
                $PROGRAM report -f 3
                """)
            let run = try await harness.start(["jobs", "run", "nightly", "--wait"])
            try await harness.appears("reported")
            let id = try #require(await harness.registry.live().first?.id.number)
            try await run.says("\(id)\n")

            let listed = try await harness.command("jobs", "list")
            #expect(listed.status == 0)
            let row = try #require(listed.output.split(separator: "\n").last)
            for cell in ["\(id)", "Admin", "nightly", "R", "running", "40 %"] { #expect(row.contains(cell), "\(row)") }
            let status = try await harness.command("status")
            #expect(status.output.contains("job \(id)  R  Admin nightly"), "\(status.output)")
            #expect(status.output.contains("40 %"))

            let show = try await harness.start(["jobs", "show", "\(id)", "--follow"])
            try await show.says("| first line")
            try await show.says("reporter: the script reports that it has begun")
            let follow = try await harness.start(["jobs", "list", "--follow", "--account", "nightly"])
            try await follow.says("40 %")
            try await harness.touch("go")
            #expect(await show.end() == 0)
            #expect(show.output.contains("| last line"), "\(show.output)")
            #expect(show.output.components(separatedBy: "| first line").count == 2, "told once:\n\(show.output)")
            #expect(await run.end() == 0, "warnings are no failure")
            #expect(run.output.contains("warnings"), "\(run.output)")
            try await follow.says("non-fatal error")
            follow.kill(SIGINT)
            _ = await follow.end()

            let after = try await harness.command("jobs", "show", "\(id)")
            for part in [
                "result     warnings", "\(harness.directory.path)/nightly.sh", "sha256", "owner \(geteuid()), mode 755",
                "exit code 0", "| first line", "| last line", "e  non-fatal error",
            ] { #expect(after.output.contains(part), "\(part) is missing in:\n\(after.output)") }
            let json = try await harness.command("jobs", "show", "\(id)", "--json")
            let details = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
            #expect((details?["steps"] as? [Any])?.isEmpty == false)
            #expect(json.output.contains(#"first line\nlast line\n"#), "\(json.output)")
        }
    }

    @Test("D9 a job is cancelled by its number; one that has ended cannot be, and an unknown one is an error")
    func cancel() async throws {
        try await JobControlHarness.run { harness in
            try await harness.script("long", "touch began\nsleep 1000")
            let run = try await harness.start(["jobs", "run", "long", "--wait"])
            try await harness.appears("began")
            let id = try #require(await harness.registry.live().first?.id.number)
            let cancelled = try await harness.command("jobs", "cancel", "\(id)")
            #expect(cancelled.status == 0 && cancelled.output.contains("jobs show \(id) --follow"))
            #expect(await run.end() == 1)
            #expect(run.output.contains("aborted"), "\(run.output)")
            let again = try await harness.command("jobs", "cancel", "\(id)")
            #expect(again.status == 1 && again.output.contains("has ended already"))
            let never = try await harness.command("jobs", "cancel", "999")
            #expect(never.status == 1 && never.output.contains("there is no job 999"))
            let shown = try await harness.command("jobs", "show", "999")
            #expect(shown.status == 1 && shown.output.contains("jobs list"))
            let listed = try await harness.command("jobs", "list", "--status", "A")
            #expect(listed.output.contains("long") && listed.output.contains("canceled by user"))
        }
    }

    @Test("jobs are listed by account, type, letter and time, the newest last, and as many as are wanted")
    func filters() async throws {
        try await JobControlHarness.run { harness in
            try await harness.script("good", "exit 0")
            try await harness.script("bad", "echo why >&2; exit 1")
            #expect(try await harness.command("jobs", "run", "good", "--wait").status == 0)
            #expect(try await harness.command("jobs", "run", "bad", "--wait").status == 1)
            #expect(try await harness.command("jobs", "run", "good", "--wait").status == 0)
            func ids(_ arguments: String...) async throws -> [Int] {
                let program = try await harness.start(["jobs", "list", "--json"] + arguments)
                #expect(await program.end() == 0)
                return try program.output.split(separator: "\n").map { line in
                    let job = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                    return try #require(job?["id"] as? Int)
                }
            }
            #expect(try await ids() == [1, 2, 3])
            #expect(try await ids("--account", "good") == [1, 3])
            #expect(try await ids("--status", "E") == [2])
            #expect(try await ids("--status", "TE", "--limit", "2") == [2, 3])
            #expect(try await ids("--type", "admin") == [1, 2, 3])
            #expect(try await ids("--type", "backup").isEmpty)
            #expect(try await ids("--since", "1h") == [1, 2, 3])
            #expect(try await ids("--until", "1h").isEmpty)
        }
    }

    @Test("what the settings do not know is refused with the names that there are, and 64")
    func unknownName() async throws {
        try await JobControlHarness.run { harness in
            try await harness.script("nightly", "exit 0")
            let run = try await harness.command("jobs", "run", "weekly")
            #expect(run.status == 64 && run.output.contains("there are: nightly"), "\(run.output)")
        }
    }

    @Test("a backup runs a job for each account, prints the result of each, and ends with 1 if one failed")
    func backup() async throws {
        try await JobControlHarness.run { harness in
            try await harness.script("good", "$PROGRAM report -p 50; exit 0")
            try await harness.script("odd", "exit 3")
            try await harness.script("bad", "exit 1")
            await harness.account("3724300", runs: "good")
            await harness.account("3724301", runs: "odd")
            let good = try await harness.command("backup", "daily")
            #expect(good.status == 0, "\(good.output)")
            #expect(good.output.contains("daily 3724300: success") && good.output.contains("daily 3724301: warnings"))
            #expect(good.output.contains("2 jobs: 1 success, 1 warnings"))
            await harness.account("3724302", runs: "bad")
            let bad = try await harness.command("backup", "weekly", "--account", "3724300", "--account", "3724302")
            #expect(bad.status == 1)
            #expect(bad.output.contains("weekly 3724302: failed") && bad.output.contains("2 jobs: 1 failed, 1 success"))
            let leaving = try await harness.command("backup", "daily", "--no-wait", "--account", "3724300")
            #expect(leaving.status == 0 && leaving.output == "5\n", "\(leaving.output)")
            let unknown = try await harness.command("backup", "daily", "--account", "1")
            #expect(unknown.status == 1 && unknown.output.contains("no account 1"))
        }
    }

    @Test("B10 scripts are listed and handlers reloaded")
    func scripts() async throws {
        try await JobControlHarness.run { harness in
            try await harness.script("nightly", "exit 0")
            let listed = try await harness.command("scripts", "list")
            #expect(listed.status == 0)
            #expect(listed.output.contains("nightly.sh") && listed.output.contains("0 3 * * *"))
            let restarted = try await harness.command("scripts", "restart")
            #expect(restarted.status == 0 && restarted.output == "loaded 1\n")
        }
    }

    @Test("without a daemon what was recorded is read, and what needs one says how to start it, with 69")
    func withoutDaemon() async throws {
        try await JobControlHarness.run { harness in
            try await harness.script("bad", "echo why >&2; exit 1")
            #expect(try await harness.command("jobs", "run", "bad", "--wait").status == 1)
            // Another runtime directory: no daemon there.
            let moved = harness.directory.appending(path: "moved.conf")
            let text = try String(contentsOf: harness.settings, encoding: .utf8)
                .replacing("\(harness.directory.path)/run", with: "\(harness.directory.path)/none")
            try text.write(to: moved, atomically: true, encoding: .utf8)
            chmod(moved.path, 0o600)
            func alone(_ arguments: String...) async throws -> (status: Int32, output: String) {
                let program = try RunningProgram(DaemonHarness.program, arguments + ["-c", moved.path])
                return (await program.end(), program.output)
            }
            let listed = try await alone("jobs", "list")
            #expect(listed.status == 0 && listed.output.contains("terminated with errors"), "\(listed.output)")
            let shown = try await alone("jobs", "show", "1", "--follow")
            #expect(shown.status == 0 && shown.output.contains("| why"), "\(shown.output)")
            #expect(try await alone("jobs", "show", "2").status == 1)
            for arguments in [
                ["jobs", "cancel", "1"], ["jobs", "run", "bad"], ["backup", "daily"], ["scripts", "restart"],
                ["scripts", "list"], ["jobs", "list", "--follow"],
            ] {
                let program = try RunningProgram(DaemonHarness.program, arguments + ["-c", moved.path])
                #expect(await program.end() == 69, "\(arguments)")
                #expect(program.output.contains("systemctl start prov-backup-rsnapshot, or"), "\(program.output)")
                #expect(program.output.contains("run -d -c \(moved.path)"), "\(program.output)")
            }
            let global = harness.directory.appending(path: "our global.conf")
            try "[Global]\n".write(to: global, atomically: true, encoding: .utf8)
            let program = try RunningProgram(
                DaemonHarness.program, ["jobs", "run", "bad", "-c", moved.path, "-g", global.path])
            #expect(await program.end() == 69)
            #expect(
                program.output.contains("run -d -c \(moved.path) -g '\(global.path)'"), "\(program.output)")
        }
    }

    @Test("a daemon without a history still shows what runs, and waiting for a job refers to the log for its end")
    func withoutHistory() async throws {
        try await JobControlHarness.run(hasHistory: false) { harness in
            try await harness.script("long", "touch began\nwhile [ ! -e go ] && [ -e \"$0\" ]; do sleep 0.05; done")
            let run = try await harness.start(["jobs", "run", "long", "--wait"])
            try await harness.appears("began")
            let listed = try await harness.command("jobs", "list")
            #expect(listed.status == 0 && listed.output.contains("long"))
            let shown = try await harness.command("jobs", "show", "1")
            #expect(shown.status == 0 && shown.output.contains("long.1"))
            try await run.says("1\n")
            try await harness.touch("go")
            #expect(await run.end() == 1)
            #expect(run.output.contains("daemon's log"), "\(run.output)")
        }
    }
}
