import Foundation
import Glibc
import TestSupport
import Testing

/// The job commands against the whole daemon.
@Suite struct DaemonJobTests {
    @Test(
        "L1 L6 a job of the settings runs by hand and reports; provisioning jobs are listed too; a failure is explained by its job"
    )
    func wholeDaemon() async throws {
        try await DaemonHarness.run { harness in
            func write(_ name: String, _ text: String) throws -> String {
                let script = harness.directory.appending(path: name)
                try "#!/bin/sh\n\(text)\n".write(to: script, atomically: true, encoding: .utf8)
                try makeExecutable(script.path)
                return script.path
            }
            let nightly = try write(
                "nightly.sh",
                "echo working\n\(DaemonHarness.program.path) report --report_backup_progress 70 || exit 1\nexit 3")
            let home = try write("home.sh", "echo disk is on fire >&2; exit 3")
            try harness.settings(backup: "HOME_SCRIPT = \(home)\n[Job nightly]\nSCRIPT = \(nightly)")
            let daemon = try harness.start()
            try await daemon.says("requests are detected")

            let run = try await harness.command("jobs", "run", "nightly", "--wait")
            #expect(run.status == 0, "\(run.output)")
            #expect(run.output.contains("| working") && run.output.contains("warnings"), "\(run.output)")
            let unknown = try await harness.command("jobs", "run", "weekly")
            #expect(unknown.status == 64 && unknown.output.contains("nightly"), "\(unknown.output)")

            try await harness.add("3724300")
            try await harness.returned("5", "3724300")
            let explained = try await harness.command("accounts", "explain", "3724300")
            #expect(explained.output.contains("last job"), "\(explained.output)")
            #expect(explained.output.contains("home.sh"), "\(explained.output)")
            let listed = try await harness.command("jobs", "list", "--account", "3724300")
            #expect(listed.output.contains("Provisioning") && listed.output.contains("failed"), "\(listed.output)")
            let scripts = try await harness.command("scripts", "list")
            #expect(scripts.status == 0 && scripts.output.contains("nightly.sh"), "\(scripts.output)")

            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
            let after = try await harness.command("jobs", "list", "--account", "nightly")
            #expect(after.status == 0 && after.output.contains("non-fatal error"), "\(after.output)")
        }
    }

    @Test("each command shows times by TIME_ZONE, as the daemon computes them")
    func timeZone() async throws {
        try await DaemonHarness.run { harness in
            let script = try harness.script("nightly.sh", "exit 0")
            try harness.settings(
                service: "TIME_ZONE = Asia/Tokyo",
                backup: "HOME_SCRIPT =\n[Job nightly]\nSCRIPT = \(script)\nSCHEDULE = 30 2 * * *")
            let daemon = try await harness.running()
            try await harness.add("3724300", ["sstProvisioningExecutionDate": "20991231"])
            try await eventually("the request waits") {
                try await harness.json("status").first?["daemon"]["nextDue"].string == "20991230T150000Z"
            }
            let explained = try await harness.command("accounts", "explain", "3724300")
            #expect(explained.output.contains("from 2099-12-31 00:00:00"), "\(explained.output)")
            let scripts = try await harness.command("scripts", "list")
            #expect(scripts.output.contains("02:30:00"), "\(scripts.output)")
            let status = try await harness.command("status").output
            let since = try #require(status.firstMatch(of: /since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d/)).output
            let checked = try await harness.command("check").output
            #expect(checked.contains("ok    daemon: runs: process \(daemon.id) \(since)\n"), "\(checked)")
            await harness.stop(daemon)
        }
    }

    @Test(
        "accounts explain says that a request waits for the window of its hooks, and until when, and to start a daemon if none runs"
    )
    func hookWindow() async throws {
        try await DaemonHarness.run { harness in
            _ = try harness.script("hooks/pre_script.sh", "exit 0")
            let window = DaemonHarness.closedWindow
            try harness.settings(
                backup: """
                    HOME_SCRIPT =
                    [Hooks Provisioning]
                    ENABLED = yes
                    DIRECTORY = \(harness.path("hooks"))
                    WINDOW = \(window)
                    """)
            try await harness.add("3724300")
            let explained = try await harness.command("accounts", "explain", "3724300")
            #expect(explained.output.contains("waits for the WINDOW"), "\(explained.output)")
            #expect(explained.output.contains(" \(window.prefix(5)):00"), "\(explained.output)")
            try await harness.add("3724301", ["sstProvisioningExecutionDate": "20991231"])
            let later = try await harness.command("accounts", "explain", "3724301")
            for (uid, output) in [("3724300", explained.output), ("3724301", later.output)] {
                let hint = "start the daemon: systemctl start prov-backup-rsnapshot; to process it now: "
                #expect(output.contains("\(hint)prov-backup-rsnapshot accounts provision \(uid)\n"), "\(output)")
            }
        }
    }

    @Test("a changed RUNTIME_DIRECTORY takes effect at the restart alone, also for the reports of scripts")
    func runtimeDirectory() async throws {
        try await DaemonHarness.run { harness in
            let report = "\(DaemonHarness.program.path) report -f 1"
            let script = try harness.script("reporting.sh", "\(report) || echo unheard\nexit 0")
            func settings(_ service: String) throws {
                try harness.settings(service: service, backup: "HOME_SCRIPT =\n[Job reporting]\nSCRIPT = \(script)")
            }
            try settings("")
            let daemon = try await harness.running()
            try settings("RUNTIME_DIRECTORY = \(harness.path("elsewhere"))")
            daemon.kill(SIGHUP)
            try await daemon.says("takes effect when the daemon is restarted")
            try settings("")
            let ended = try await harness.ended(harness.run("reporting"))
            #expect(ended.result == .failed, "\(ended)")
            await harness.stop(daemon)
        }
    }

    @Test("an interrupted backup delays neither start nor stop while the LDAP server is away, and continues later")
    func leftOpenWhileAway() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: "HOME_SCRIPT =\n[Backup Jobs]\nWINDOW = \(DaemonHarness.closedWindow)")
            try await harness.add("3724300")
            var daemon = try harness.start()
            try await harness.returned("0", "3724300")
            let asked = try await harness.command("backup", "daily", "--account", "3724300", "--no-wait")
            let id = asked.output.trimmingCharacters(in: .whitespacesAndNewlines)
            #expect(asked.status == 0 && Int(id) != nil, "\(asked.output)")
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
            try await harness.sandbox.kill()
            daemon = try harness.start()
            try await daemon.says("unreachable")
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
            try await harness.sandbox.restart()
            daemon = try harness.start()
            try await daemon.says("requests are detected")
            try await eventually("the job waits again") {
                try await harness.command("jobs", "show", id).output.contains("waiting on start time")
            }
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test("while the LDAP server is away, interrupted scripts are resumed, and interrupted backups can be cancelled")
    func resumedWhileAway() async throws {
        try await DaemonHarness.run { harness in
            let nightly = try harness.waiting("nightly.sh", for: "go")
            try harness.settings(
                backup: """
                    HOME_SCRIPT =
                    SCRIPT_GRACE = 1s
                    [Job nightly]
                    SCRIPT = \(nightly)
                    [Backup Jobs]
                    WINDOW = \(DaemonHarness.closedWindow)
                    """)
            let first = try await harness.running()
            var backups: [UInt64] = []
            for uid in ["3724300", "3724301"] {
                try await harness.add(uid)
                try await harness.returned("0", uid)
                let asked = try await harness.command("backup", "daily", "--account", uid, "--no-wait")
                backups.append(
                    try #require(
                        UInt64(asked.output.trimmingCharacters(in: .whitespacesAndNewlines)), "\(asked.output)"))
            }
            let script = try await harness.run("nightly")
            try await eventually("the script runs") { harness.numbers("nightly.sh").count == 1 }
            first.kill(SIGKILL)
            _ = await first.end()
            try await harness.sandbox.kill()
            try harness.touch("go")

            let second = try harness.start()
            try await second.says("unreachable")
            #expect(try await harness.ended(script).result == .success)
            #expect(try await harness.jobs("--type", "Backup").map(\.status) == [.created, .created])
            let canceled = try await harness.command("jobs", "cancel", "\(backups[0])")
            #expect(canceled.status == 0, "\(canceled.output)")
            #expect(try await harness.details(backups[0]).result == .aborted)
            try await harness.sandbox.restart()
            try await eventually("the other backup waits for its window") {
                try await harness.details(backups[1]).status == .waitingForStartTime
            }
            #expect(try await harness.details(backups[0]).result == .aborted)
            await harness.stop(second)
        }
    }

    @Test("a request whose job was cancelled before the daemon was killed is not carried out by the next start")
    func canceledRequest() async throws {
        try await DaemonHarness.run { harness in
            // The cancellation takes effect at its end.
            _ = try harness.script(
                "hooks/pre_script.sh",
                """
                echo $$ >> \(harness.path("pre_script.sh.pids"))
                while [ ! -e \(harness.path("go")) ] && [ -e "$0" ]; do sleep 0.05; done
                """)
            let home = try harness.script("home.sh", "echo $$ >> \(harness.path("home.sh.pids"))")
            try harness.settings(
                backup: """
                    HOME_SCRIPT = \(home)
                    [Hooks Provisioning]
                    ENABLED = yes
                    DIRECTORY = \(harness.path("hooks"))
                    """)
            let first = try await harness.running()
            try await harness.add("3724300")
            try await eventually("the pre script runs") { harness.numbers("pre_script.sh").count == 1 }
            let job = try #require(try await harness.jobs().last?.id.number)
            let canceled = try await harness.command("jobs", "cancel", "\(job)")
            #expect(canceled.status == 0, "\(canceled.output)")
            first.kill(SIGKILL)
            _ = await first.end()

            let second = try await harness.running()
            try await harness.returned("1", "3724300")
            #expect(harness.numbers("home.sh").isEmpty)
            try await eventually("its job is closed") { try await harness.details(job).result == .aborted }
            await harness.stop(second)
        }
    }

    @Test("a schedule whose job hangs piles up nothing: the times are left out, and the log names the job")
    func hangingSchedule() async throws {
        try await DaemonHarness.run { harness in
            let script = harness.directory.appending(path: "hang.sh")
            let hold = harness.directory.appending(path: "hold")
            try Data().write(to: hold)
            // It ends with the test.
            try "#!/bin/sh\nwhile [ -e \(hold.path) ]; do sleep 0.2; done\n"
                .write(to: script, atomically: true, encoding: .utf8)
            try makeExecutable(script.path)
            try harness.settings(backup: "HOME_SCRIPT =\n[Job hang]\nSCRIPT = \(script.path)\nSCHEDULE = * * * * *")
            let daemon = try harness.start()
            try await daemon.says("requests are detected")
            let asked = try await harness.command("jobs", "run", "hang")
            #expect(asked.status == 0, "\(asked.output)")
            try await eventually("a time is left out") {
                daemon.output.contains("skipped, because the previous job")
            }
            // Two, if the schedule was a moment before the operator.
            #expect(try await harness.jobs("--type", "Admin").count <= 2)
            try FileManager.default.removeItem(at: hold)
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }
}
