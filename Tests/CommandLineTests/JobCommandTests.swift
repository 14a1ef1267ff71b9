import Daemon
import Foundation
import Glibc
import JobCore
import LDAP
import SystemPackage
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The job commands as they are typed.
@Suite struct JobCommandTests {
    /// Runs a test with a daemon that has a job for each script. They find the program as `$PROGRAM` and run in the harness's directory.
    private static func run(
        _ scripts: [String: String], keys: String = "", _ body: (DaemonHarness) async throws -> Void
    ) async throws {
        try await DaemonHarness.run { harness in
            var sections = "HOME_SCRIPT ="
            for (name, text) in scripts {
                let surroundings = "cd \(harness.directory.path)\nPROGRAM=\(DaemonHarness.program.path)"
                let path = try harness.script("\(name).sh", "\(surroundings)\n\(text)")
                sections += "\n[Job \(name)]\nSCRIPT = \(path)\n\(keys)"
            }
            try harness.settings(backup: sections)
            let daemon = try await harness.running()
            try await body(harness)
            await harness.stop(daemon)
        }
    }

    private static func start(_ arguments: [String], _ harness: DaemonHarness) throws -> RunningProgram {
        try RunningProgram(DaemonHarness.program, arguments + ["-c", harness.settingsFile.path])
    }

    @Test("an error of the LDAP server inside the daemon has the exit status that it has in a command")
    func directoryErrors() {
        let codes: [(ResultCode, Int32)] = [(.insufficientAccessRights, 77), (.busy, 69), (.noSuchObject, 1)]
        for (code, status) in codes {
            let error = LDAPError(code, operation: "search", server: "ldap://here")
            #expect(CommandFailure(error)?.status.rawValue == status)
            #expect(CommandFailure(inDaemon: error) == CommandFailure(error))
        }
    }

    @Test("an error of the LDAP server has its own hint, and says what became of a change only to what makes one")
    func directoryHints() {
        let error = LDAPError(.noSuchObject, operation: "search", server: "ldap://here")
        let withoutHint = LDAPError(.other, operation: "search", server: "ldap://here")
        let failure: CommandFailure = CommandFailure(error)
        #expect(failure.hint == error.hint && failure.description == error.description)
        #expect(CommandFailure(error, consequence: "it stays").hint == error.hint.map { "\($0); it stays" })
        #expect(CommandFailure(error, hint: "look", consequence: nil).hint == "look")
        #expect(!CommandFailure(withoutHint, consequence: nil).hint.isEmpty)
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
        "each account that is refused a backup has a line with the reason, and the last one says that none was submitted"
    )
    func refusals() async throws {
        try await Self.run([:]) { harness in
            let uids = (0..<100).map { "unknown-\($0)" }
            let refused = try Self.start(["backup", "daily"] + uids.flatMap { ["--account", $0] }, harness)
            #expect(await refused.end() == 1)
            let lines = refused.output.split(separator: "\n")
            #expect(lines.count == uids.count, "\(refused.output)")
            for (line, uid) in zip(lines, uids) {
                #expect(line.hasPrefix("prov-backup-rsnapshot: ") && line.contains(uid), "\(line)")
            }
            #expect(lines.last?.hasSuffix("; no backup was submitted") == true, "\(refused.output)")
        }
    }

    @Test(
        "L1 L6 L8 a script is run by name, reports on itself, and everything of it is shown while it runs and afterwards"
    )
    func wholeLife() async throws {
        let nightly = """
            echo first line
            $PROGRAM report -r
            $PROGRAM report --report_backup_progress 40
            touch reported
            while [ ! -e go ] && [ -e "$0" ]; do sleep 0.05; done
            echo last line
            $PROGRAM report -f 3
            """
        try await Self.run(["nightly": nightly]) { harness in
            let run = try Self.start(["jobs", "run", "nightly", "--wait"], harness)
            try await eventually("the script has reported") { harness.exists("reported") }
            let id = try #require(try await harness.jobs().last?.id.number)
            try await run.says("\(id)\n")

            let listed = try await harness.command("jobs", "list")
            #expect(listed.status == 0)
            let row = try #require(listed.output.split(separator: "\n").last)
            for cell in ["\(id)", "Admin", "nightly", "R", "running", "40 %"] { #expect(row.contains(cell), "\(row)") }
            let status = try await harness.command("status")
            #expect(status.output.contains("job \(id)  R  Admin nightly"), "\(status.output)")
            #expect(status.output.contains("40 %"))

            let show = try Self.start(["jobs", "show", "\(id)", "--follow"], harness)
            try await show.says("| first line")
            try await show.says("reporter: the script reports that it has begun")
            let follow = try Self.start(["jobs", "list", "--follow", "--account", "nightly"], harness)
            try await follow.says("40 %")
            try harness.touch("go")
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
        try await Self.run(["long": "touch began\nsleep 1000"]) { harness in
            let run = try Self.start(["jobs", "run", "long", "--wait"], harness)
            try await eventually("the script runs") { harness.exists("began") }
            let id = try #require(try await harness.jobs().last?.id.number)
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
        try await Self.run(["good": "exit 0", "bad": "echo why >&2; exit 1"]) { harness in
            #expect(try await harness.command("jobs", "run", "good", "--wait").status == 0)
            #expect(try await harness.command("jobs", "run", "bad", "--wait").status == 1)
            #expect(try await harness.command("jobs", "run", "good", "--wait").status == 0)
            let lists: [([String], [UInt64])] = [
                ([], [1, 2, 3]), (["--account", "good"], [1, 3]), (["--status", "E"], [2]),
                (["--status", "TE", "--limit", "2"], [2, 3]), (["--type", "admin"], [1, 2, 3]),
                (["--type", "backup"], []), (["--since", "1h"], [1, 2, 3]), (["--until", "1h"], []),
            ]
            for (arguments, ids) in lists {
                let jobs = try await harness.json(["jobs", "list"] + arguments)
                #expect(jobs.map { $0["id"] } == ids.map { .number(Double($0)) }, "\(arguments)")
            }
            for (limit, isCut) in [("2", true), ("4", false)] {
                let list = try await harness.command("jobs", "list", "--limit", limit)
                #expect(list.status == 0 && list.output.contains("--limit") == isCut, "\(list.output)")
            }
        }
    }

    @Test("a backup runs a job for each account, prints the result of each, and ends with 1 if one failed")
    func backup() async throws {
        try await Self.run([:]) { harness in
            let uids = ["3724300", "3724301"]
            for uid in uids {
                try await harness.add(uid)
                try await harness.reached("added", uid)
            }
            // Root's file, which the copy leaves out.
            try "foreign".write(
                to: harness.home(uids[1]).appending(path: "incoming/foreign"), atomically: true, encoding: .utf8)
            let odd = geteuid() == 0 ? "warnings" : "success"
            let good = try await harness.command("backup", "daily")
            #expect(good.status == 0, "\(good.output)")
            #expect(good.output.contains("daily 3724300: success") && good.output.contains("daily 3724301: \(odd)"))
            #expect(good.output.contains(geteuid() == 0 ? "2 jobs: 1 success, 1 warnings" : "2 jobs: 2 success"))
            try "no configuration".write(to: harness.configuration(uids[1]), atomically: true, encoding: .utf8)
            let bad = try await harness.command("backup", "daily", "--force")
            #expect(bad.status == 1)
            #expect(bad.output.contains("daily 3724301: failed") && bad.output.contains("2 jobs: 1 failed, 1 success"))
            let leaving = try await harness.command("backup", "daily", "--no-wait", "--force", "--account", "3724300")
            let newest = try #require(try await harness.jobs("--type", "Backup").last?.id.number)
            #expect(leaving.status == 0 && leaving.output == "\(newest)\n", "\(leaving.output)")
        }
    }

    @Test("B10 scripts are listed with their schedules, and handlers are reloaded")
    func scripts() async throws {
        try await Self.run(["nightly": "exit 0"], keys: "SCHEDULE = 0 3 * * *") { harness in
            let listed = try await harness.command("scripts", "list")
            #expect(listed.status == 0)
            #expect(listed.output.contains("nightly.sh") && listed.output.contains("0 3 * * *"))
            #expect(try await harness.command("scripts", "restart").status == 0)
        }
    }

    @Test("without a daemon what was recorded is read, and what needs one says how to start it, with 69")
    func withoutDaemon() async throws {
        try await Self.run(["bad": "echo why >&2; exit 1"]) { harness in
            #expect(try await harness.command("jobs", "run", "bad", "--wait").status == 1)
            // Other directories than the daemon's, and its history.
            let moved = harness.directory.appending(path: "moved.conf")
            let text =
                try String(contentsOf: harness.settingsFile, encoding: .utf8)
                .replacing("\(harness.directory.path)/run", with: "\(harness.directory.path)/none")
                .replacing(
                    "STATE_DIRECTORY = \(harness.path("state"))", with: "STATE_DIRECTORY = \(harness.path("none"))")
                + "\n[History]\nFILE = \(harness.path("state/history.sqlite"))\n"
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
}
