import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// `DirStartUp.py` with the real daemon.
@Suite struct DaemonHandlerTests {
    private static let job = "[Job nightly]\nSCRIPT = "

    /// Handlers whose events object has these methods, and whose jobs' object has those; indented by four blanks.
    static func python(_ events: String, job: String = "    pass") -> String {
        """
        import bacula, os, sys, time
        class Job:
        \(job)
        class Events:
        \(events)
        bacula.set_events(Events())

        """
    }

    @Test("B1 B12 Bacula's own example runs: its lines stand in the reports of a provisioning job and of a script")
    func sourceExample() async throws {
        try await DaemonHarness.run { harness in
            let example = DaemonHarness.checkout.appending(path: "Tests/JobCoreTests/Events/Fixtures/DirStartUp.py")
            let handlers = try harness.handlers(try String(contentsOf: example, encoding: .utf8))
            let nightly = try harness.script("nightly.sh", "echo working")
            try harness.settings(backup: "HOME_SCRIPT =\n\(Self.job)\(nightly)\n\(handlers)")
            let daemon = try await harness.running()
            let script = try await harness.ended(try await harness.run("nightly"))
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            let account = try await harness.ended(
                try #require(try await harness.newest("Provisioning", of: "3724300")).id)
            for (details, client) in [(script, "nightly"), (account, "3724300")] {
                let id = details.id
                let lines = details.report.filter { $0.source == .handler }.map(\.text)
                #expect(
                    lines == [
                        "Python Dir JobStart: JobId=\(id) Client=\(client) NumVols=1",
                        "Python Dir JobEnd output: JobId=\(id) Client=\(client).",
                    ], "\(lines)")
                #expect(details.result == .success)
                let shown = try await harness.command("jobs", "show", "\(id)")
                #expect(shown.output.contains("Python Dir JobStart: JobId=\(id)"), "\(shown.output)")
            }
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
            #expect(daemon.output.contains("Daemon exiting."))
        }
    }

    @Test(
        "B2 B7 NewVolume chooses the volume of a new home; a name that is none is refused in the report, and the daemon chooses"
    )
    func newVolume() async throws {
        try await DaemonHarness.run { harness in
            let names = ["fast/one", "fast/two", "slow/three", "slow/four"]
            for name in names {
                try FileManager.default.createDirectory(
                    at: harness.homes.appending(path: name), withIntermediateDirectories: true,
                    attributes: [.posixPermissions: 0o755])
            }
            // Which of the pools is asked about depends on the free space of this moment.
            let handlers = try harness.handlers(
                Self.python(
                    """
                        def JobStart(self, job): job.set_events(Job())
                        def JobEnd(self, job):
                            type = os.popen("df --output=fstype \(harness.homes.path)/" + job.Pool).read().split()[1]
                            print("at the end %s %d %s" % (job.Pool, job.NumVols, job.MediaType == type))
                    """,
                    job: """
                            def NewVolume(self, job):
                                names = {"fast": ["one", "two"], "slow": ["three", "four"]}[job.Pool]
                                choice = "\(harness.homes.path)/%s/%s" % (job.Pool, names[job.JobId % 2])
                                if job.Client == "3724302": choice = "/nowhere"
                                job.JobReport = "chosen of %d, exists %d: %s" % (job.NumVols, job.DoesVolumeExist(choice), choice)
                                job.VolumeName = choice
                        """))
            func volumes(_ names: ArraySlice<String>) -> String {
                names.map { harness.homes.appending(path: $0).path }.joined(separator: " ")
            }
            try harness.settings(
                backup: """
                    HOME_SCRIPT =
                    HOME_LAYOUT = hashed
                    [Pool fast]
                    VOLUMES = \(volumes(names[..<2]))
                    [Pool slow]
                    VOLUMES = \(volumes(names[2...]))
                    \(handlers)
                    """)
            let daemon = try await harness.running()
            for uid in ["3724300", "3724301", "3724302"] {
                try await harness.add(uid)
                try await harness.reached("added", uid)
                let made = try FileManager.default.subpathsOfDirectory(atPath: harness.homes.path)
                    .filter { $0.hasSuffix("/\(uid)") }.map { harness.homes.appending(path: $0).path }
                let id = try #require(try await harness.newest("Provisioning", of: uid)).id
                let report = try await harness.ended(id).reportText
                #expect(made.count == 1)
                let volume = String(try #require(made.first).dropLast("/0/300/724/\(uid)".count))
                let isChoice = report.contains("chosen of 2, exists 1: \(volume)\n")
                #expect(isChoice == (uid != "3724302"), "\(volume): \(report)")
                let pool = volume.split(separator: "/").dropLast().last ?? ""
                #expect(report.contains("at the end \(pool) 2 True"), "B7: \(report)")
                #expect(report.contains("\"/nowhere\" is not a volume of the pool") == (uid == "3724302"), "\(report)")
            }
            await harness.stop(daemon)
        }
    }

    @Test("B2 VolumePurged is heard when an archived home is purged, and none is within a day after a long downtime")
    func volumePurged() async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(
                Self.python(
                    "    def JobStart(self, job): job.set_events(Job())",
                    job: "    def VolumePurged(self, job): job.JobReport = 'purged from ' + job.VolumeName"))
            try harness.settings(backup: "HOME_SCRIPT =\nON_DELETE = archive\nPURGE_AFTER_DAYS = 0\n\(handlers)")
            let first = try await harness.running()
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            try await harness.request("3724300", "delete", ["sstIsActive": "FALSE"])
            try await harness.reached("deleted", "3724300")
            await harness.stop(first)
            let archive = harness.homes.appending(path: ".deleted")
            #expect(try FileManager.default.contentsOfDirectory(atPath: archive.path).count == 1)

            // After a long downtime no ages are trusted for a day.
            try harness.wasAlive(at: Date(timeIntervalSinceNow: -2 * 86_400))
            let distrustful = try await harness.running()
            try await distrustful.says("archived homes are not removed before")
            await harness.stop(distrustful)
            #expect(try FileManager.default.contentsOfDirectory(atPath: archive.path).count == 1)

            try harness.wasAlive()
            let second = try await harness.running()
            try await eventually("the home is purged") {
                try FileManager.default.contentsOfDirectory(atPath: archive.path).isEmpty
            }
            let purge = try #require(try await harness.newest("Purge"))
            let report = try await harness.ended(purge.id).reportText
            #expect(report.contains("purged from \(harness.homes.path)"), "\(report)")
            await harness.stop(second)
        }
    }

    @Test("the stop interrupts the removal of archived homes like any other job, instead of waiting for its end")
    func purgeAndStop() async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(
                Self.python(
                    "    def JobStart(self, job): job.set_events(Job())",
                    job: """
                            def VolumePurged(self, job):
                                open("\(harness.path("purging"))", "w").close()
                                time.sleep(1000)
                        """), timeout: "30m")
            try harness.settings(
                service: "STOP_GRACE = 0s",
                backup: "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\nON_DELETE = archive\nPURGE_AFTER_DAYS = 0\n\(handlers)")
            let archived = harness.homes.appending(path: ".deleted/3724300-20260101T000000Z")
            try FileManager.default.createDirectory(at: archived, withIntermediateDirectories: true)
            try harness.wasAlive()
            let daemon = try await harness.running()
            try await eventually("the handler hears of it") { harness.exists("purging") }
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
            #expect(daemon.output.contains("\(archived.path) has been removed"), "\(daemon.output)")
            // The next daemon purges again by itself.
            let next = try await harness.running()
            let interrupted = try #require(try await harness.jobs("--type", "Purge").first)
            #expect(try await harness.ended(interrupted.id).result == .warnings, "no alarm: \(interrupted)")
            await harness.stop(next)
        }
    }

    @Test(
        "a script that has ended is not run again because the daemon was killed during its JobEnd handler",
        arguments: [(0, JobResult.success), (1, .failed)])
    func killedAtJobEnd(status: Int, result: JobResult) async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(
                Self.python(
                    "    def JobEnd(self, job): open('\(harness.path("ending"))', 'w').close(); time.sleep(1000)"),
                timeout: "30m")
            let script = try harness.script("once.sh", "echo run >> \(harness.path("runs")); exit \(status)")
            try harness.settings(backup: "HOME_SCRIPT =\n[Job once]\nSCRIPT = \(script)\n\(handlers)")
            let first = try await harness.running()
            let job = try await harness.run("once")
            try await eventually("the handler hears of the end") { harness.exists("ending") }
            try await eventually("the outcome is recorded") { try await harness.details(job).result == result }
            first.kill(SIGKILL)
            _ = await first.end()
            let second = try await harness.running()
            #expect(try await harness.ended(job).result == result)
            #expect(try String(contentsOfFile: harness.path("runs"), encoding: .utf8) == "run\n")
            await harness.stop(second)
        }
    }

    @Test(
        "B11 a handler that raises, never returns or loses its interpreter: the job finishes, log and report say it, the daemon stays",
        arguments: [
            ("raise ValueError('of mine')", "JobStart failed", "ValueError: of mine"),
            ("time.sleep(1000)", "JobStart did not return within", "JobStart did not return within"),
            (
                "open(job.Job + '.pid', 'w').write(str(os.getpid())); time.sleep(1000)",
                "was ended by signal 9", "was ended by signal 9 while JobStart ran"
            ),
        ])
    func faults(statement: String, log: String, report: String) async throws {
        try await DaemonHarness.run { harness in
            let isKilled = statement.contains("pid")
            let handlers = try harness.handlers(
                Self.python(
                    """
                        def JobStart(self, job):
                            os.chdir("\(harness.directory.path)")
                            if job.Job == "bad": \(statement)
                            job.JobReport = "heard of it"
                    """), timeout: statement.contains("sleep") && !isKilled ? "10s" : "5m")
            let script = try harness.script("some.sh", "echo working")
            try harness.settings(
                backup: "HOME_SCRIPT =\n[Job bad]\nSCRIPT = \(script)\n[Job good]\nSCRIPT = \(script)\n\(handlers)")
            let daemon = try await harness.running()
            let asked = try RunningProgram(
                DaemonHarness.program, ["jobs", "run", "bad", "--wait", "-c", harness.settingsFile.path])
            if isKilled {
                let file = harness.directory.appending(path: "bad.pid")
                var number: pid_t?
                try await eventually("the handler is at work") {
                    number = pid_t((try? String(contentsOf: file, encoding: .utf8)) ?? "")
                    return number != nil
                }
                kill(try #require(number), SIGKILL)
            }
            #expect(await asked.end() == 0, "\(asked.output)")
            let bad = try await harness.ended(
                try #require(try await harness.jobs("--account", "bad").last).id)
            #expect(bad.result == .success && bad.reportText.contains(report), "\(bad.report)")
            try await daemon.says(log)
            let good = try await harness.ended(try await harness.run("good"))
            #expect(good.result == .success && good.reportText.contains("heard of it"), "\(good.report)")
            await harness.stop(daemon)
        }
    }

    @Test("B5 a handler runs another job, with handlers of its own, and cancels one; its own job continues meanwhile")
    func runsAndCancels() async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(
                Self.python(
                    """
                        def JobStart(self, job):
                            if job.Job == "first":
                                job.JobReport = "asked for %d" % job.run("run job=second yes")
                                job.JobReport = "unknown: %d" % job.run("run nobody")
                            elif job.Job == "last":
                                job.JobReport = "cancelled: %d" % job.cancel(self.second)
                            else:
                                self.second = job.JobId
                                job.JobReport = "heard of it"
                    """))
            let hanging = try harness.waiting("hanging.sh", for: "never")
            let quick = try harness.script("quick.sh", "echo working")
            try harness.settings(
                backup:
                    "HOME_SCRIPT =\n[Job first]\nSCRIPT = \(quick)\n[Job second]\nSCRIPT = \(hanging)\n[Job last]\nSCRIPT = \(quick)\n\(handlers)\n\(harness.mailSection())"
            )
            let daemon = try await harness.running()
            let first = try await harness.ended(try await harness.run("first"))
            let second = try #require(try await harness.jobs("--account", "second").last)
            #expect(first.result == .success, "\(first)")
            #expect(
                first.reportText.contains(
                    "asked for \(second.id)\nerror: job.run: there is no job nobody; the settings know first, last, second\nunknown: -1"
                ), "\(first.report)")
            try await daemon.says("there is no job nobody")
            try await eventually("the second runs") { !harness.numbers("hanging.sh").isEmpty }

            let last = try await harness.ended(try await harness.run("last"))
            #expect(last.reportText.contains("cancelled: 1"), "\(last.report)")
            let canceled = try await harness.ended(second.id)
            #expect(
                canceled.result == .aborted && canceled.reportText.contains("heard of it"), "\(canceled)")
            #expect(!harness.numbers("hanging.sh").contains(where: isRunning))
            #expect(canceled.message.hasPrefix(JobOutcome.canceled(by: .handler).message), "\(canceled.message)")
            await harness.stop(daemon)
            // Nobody else knows.
            let mails = try harness.mails().joined()
            #expect(mails.contains("job \(second.id), job second: aborted"), "\(mails)")
        }
    }

    @Test(
        "B5 run as the console has it: keywords in any case, yes anywhere or not at all; what is unknown is refused by name",
        arguments: [
            ("run nightly", "run nightly"), ("run job=nightly yes", "run nightly"),
            ("RUN yes JobName=\"nightly\"", "run nightly"), ("backup daily 1 2", "backup daily 1 2"),
            ("run job=nightly level=Full yes", "run does not know level=Full; write run job=NAME yes"),
            ("run job=nightly client=x", "run does not know client=x;"), ("run a b", "run does not know b;"),
            ("run", "run does not say which job;"), ("run yes", "run yes"),
            ("run yes yes", "run does not say which job;"),
            ("run job= yes", "run does not say which job;"), ("backup", "\"backup\" is no command;"),
            ("status dir", "\"status dir\" is no command; write run job=NAME yes, or backup LEVEL [UID...]"),
            ("", "\"\" is no command;"),
        ])
    func consoleCommand(text: String, meaning: String) {
        do throws(RefusedCommand) {
            #expect(try JobCommand(parsing: text).description == meaning)
        } catch {
            #expect(error.description.hasPrefix(meaning), "\(error)")
        }
    }

    @Test(
        "B5 a handler's backup is refused at once while the LDAP server does not answer", arguments: [true, false])
    func backupWhileAway(isPaused: Bool) async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(
                Self.python(
                    """
                        def JobStart(self, job):
                            job.JobReport = "asked for %d" % job.run("backup daily 3724300")
                    """), timeout: "20s")
            let quick = try harness.script("quick.sh", "echo working")
            try harness.settings(backup: "HOME_SCRIPT =\n\(Self.job)\(quick)\n\(handlers)")
            let daemon = try await harness.running()
            if isPaused { harness.sandbox.pause() } else { try await harness.sandbox.kill() }
            defer { if isPaused { harness.sandbox.resume() } }
            let job = try await harness.ended(try await harness.run("nightly"))
            let text = job.reportText
            #expect(text.contains("error: job.run: ") && text.contains("asked for -1"), "\(text)")
            #expect(text.contains("call job.run again"), "\(text)")
            await harness.stop(daemon)
        }
    }

    @Test("B5 a backup of all accounts that a handler asks for is refused while another one is submitted")
    func backupDuringSubmission() async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(
                Self.python(
                    """
                        def JobStart(self, job):
                            if job.Job in ("daily", "nightly"):
                                job.JobReport = "asked for %d" % job.run("backup weekly")
                    """), timeout: "20s")
            let quick = try harness.script("quick.sh", "echo working")
            try harness.settings(
                backup: """
                    HOME_SCRIPT =
                    [Backup Jobs]
                    WINDOW = \(DaemonHarness.closedWindow)
                    \(Self.job)\(quick)
                    \(handlers)
                    """)
            let daemon = try await harness.running()
            for uid in ["3724300", "3724301"] {
                try await harness.add(uid)
                try await harness.returned("0", uid)
            }
            let asked = try await harness.command("backup", "daily", "--no-wait")
            #expect(asked.status == 0, "\(asked.output)")
            let jobs = try await harness.jobs("--type", "Backup")
            #expect(jobs.map(\.level) == ["daily", "daily"])
            for job in jobs {
                let text = try await harness.details(job.id).reportText
                #expect(text.contains("error: job.run: another backup of all accounts"), "\(text)")
                #expect(text.contains("asked for -1"), "\(text)")
            }
            let later = try await harness.ended(try await harness.run("nightly"))
            let weekly = try #require(try await harness.jobs("--type", "Backup").first { $0.level == "weekly" })
            #expect(later.reportText.contains("asked for \(weekly.id)"), "\(later.reportText)")
            await harness.stop(daemon)
        }
    }

    @Test(
        "a backup of all accounts whose client has gone ends after the job at hand, and the log says how many there are"
    )
    func clientGone() async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(
                Self.python(
                    """
                        def JobStart(self, job):
                            if job.Job != "daily": return
                            open("\(harness.path("beginning"))", "w").close()
                            while not os.path.exists("\(harness.path("go"))"): time.sleep(0.01)
                    """), timeout: "5m")
            try harness.settings(
                backup: """
                    HOME_SCRIPT =
                    [Backup Jobs]
                    WINDOW = \(DaemonHarness.closedWindow)
                    \(handlers)
                    """)
            let daemon = try await harness.running()
            for uid in ["3724300", "3724301"] {
                try await harness.add(uid)
                try await harness.returned("0", uid)
            }
            let client = try RunningProgram(
                DaemonHarness.program, ["backup", "daily", "--force", "--no-wait", "-c", harness.settingsFile.path])
            try await eventually("the first job is submitted") { harness.exists("beginning") }
            client.kill(SIGKILL)
            _ = await client.end()
            try harness.touch("go")
            try await daemon.says("backup daily: the client has gone; submitted jobs: 1, the others were not submitted")
            #expect(try await harness.jobs("--type", "Backup").count == 1)
            await harness.stop(daemon)
        }
    }

    @Test(
        "while handlers hold up the start, failed backups count, and an interrupted job neither runs nor has ended: its cancellation waits or is refused as too early"
    )
    func longStart() async throws {
        try await DaemonHarness.run { harness in
            func waits(for file: String, begins: String) -> String {
                "open('\(harness.path(begins))', 'w').close()\n"
                    + "while not os.path.exists('\(harness.path(file))'): time.sleep(0.01)\n"
            }
            let handlers = try harness.handlers(Self.python("    def JobStart(self, job): pass"), timeout: "5m")
            let names = ["first", "second"]
            let sections = try names.map { "[Job \($0)]\nSCRIPT = \(try harness.waiting("\($0).sh", for: "never"))" }
            try harness.settings(
                backup: "HOME_SCRIPT =\nSCRIPT_GRACE = 1s\n\(sections.joined(separator: "\n"))\n\(handlers)")
            let before = try await harness.running()
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            // A configuration that names another home is refused.
            let file = harness.configuration("3724300")
            try String(contentsOf: file, encoding: .utf8).replacing("3724300", with: "3724309")
                .write(to: file, atomically: true, encoding: .utf8)
            #expect(try await harness.command("backup", "daily", "--account", "3724300").status == 1)
            let first = try await harness.run("first")
            let second = try await harness.run("second")
            try await eventually("both run") { names.allSatisfy { harness.numbers("\($0).sh").count == 1 } }
            before.kill(SIGKILL)
            _ = await before.end()

            _ = try harness.handlers(
                "import os, time\n" + waits(for: "load", begins: "loading")
                    + Self.python(
                        """
                            def JobStart(self, job):
                                if job.Job != "first": return
                                open("\(harness.path("opening"))", "w").close()
                                while not os.path.exists("\(harness.path("open"))"): time.sleep(0.01)
                        """))
            let daemon = try harness.start()
            try await eventually("the handlers are loaded") { harness.exists("loading") }
            let canceled = try RunningProgram(
                DaemonHarness.program, ["jobs", "cancel", "\(first)", "-c", harness.settingsFile.path])
            let listed = try await harness.command("jobs", "list", "--type", "Admin").output
            #expect(listed.split(separator: "\n").count { $0.contains("not ended; not resumed yet") } == 2, "\(listed)")
            let shown = try await harness.command("jobs", "show", "\(first)").output
            #expect(shown.contains("not resumed yet"), "\(shown)")
            let health = try await harness.command("health").output
            #expect(health.contains("failed_backups=1"), "\(health)")
            try harness.touch("load")
            #expect(await canceled.end() == 0, "\(canceled.output)")

            try await eventually("the first is resumed") { harness.exists("opening") }
            let early = try await harness.command("jobs", "cancel", "\(second)")
            #expect(early.status == 75 && early.output.contains("try again"), "\(early.output)")
            try harness.touch("open")
            try await eventually("the second can be cancelled") {
                try await harness.command("jobs", "cancel", "\(second)").status == 0
            }
            for job in [first, second] { #expect(try await harness.ended(job).result == .aborted) }
            await harness.stop(daemon)
        }
    }

    @Test("B3 Priority set in JobStart puts a job before the others that wait")
    func priority() async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(
                Self.python(
                    "    def JobStart(self, job):\n        if job.Job == 'urgent': job.Priority = 1"))
            let blocking = try harness.waiting("blocking.sh", for: "go")
            let names = ["one", "two", "urgent"]
            let sections = try names.map {
                "[Job \($0)]\nSCRIPT = \(try harness.script("\($0).sh", "echo \($0) >> \(harness.path("order"))"))"
            }
            try harness.settings(
                backup: (["HOME_SCRIPT =\n[Job blocking]\nSCRIPT = \(blocking)", handlers, "MAX_JOBS = 1"] + sections)
                    .joined(separator: "\n"))
            let daemon = try await harness.running()
            let first = try await harness.run("blocking")
            try await eventually("it runs") { harness.numbers("blocking.sh").count == 1 }
            var ids: [UInt64] = []
            for name in names { ids.append(try await harness.run(name)) }
            #expect(try await harness.details(ids[2]).priority == 1)
            try harness.touch("go")
            for id in [first] + ids { #expect(try await harness.ended(id).result == .success) }
            #expect(
                try String(contentsOfFile: harness.path("order"), encoding: .utf8) == "urgent\none\ntwo\n")
            await harness.stop(daemon)
        }
    }

    @Test(
        "B12 handlers that cannot be loaded: scripts list and check name the file, Python's last line and what to do; check fails",
        arguments: [
            ("import bacula\nthis is no Python\n", "SyntaxError", "line 2"),
            ("import bacula\nraise ValueError('of mine')\n", "ValueError: of mine", "line 2, in <module>"),
            (
                "import bacula\nimport no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'",
                "line 2"
            ),
            ("import bacula\n", "has no handlers", "bacula.set_events"),
        ])
    func notLoaded(python: String, error: String, place: String) async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(python)
            try harness.settings(backup: "HOME_SCRIPT =\n\(handlers)")
            let daemon = try await harness.running()
            let file = harness.path("scripts/DirStartUp.py")
            let listed = try await harness.command("scripts", "list")
            let checked = try await harness.command("check")
            let line = try #require(checked.output.split(separator: "\n").first { $0.contains("event handlers: ") })
            #expect(line.hasPrefix("NOT ") && checked.status == 1, "\(checked.output)")
            for part in [file, error, place, "correct it, then run: prov-backup-rsnapshot scripts restart"] {
                #expect(listed.output.contains(part) && line.contains(part), "\(part): \(listed.output)\(line)")
            }
            #expect(listed.output.contains("not loaded") && listed.status == 1, "\(listed.output)")

            _ = try harness.handlers(Self.python("    def JobStart(self, job): pass"))
            #expect(try await harness.command("scripts", "restart").status == 0)
            let again = try await harness.command("scripts", "list")
            #expect(again.status == 0 && !again.output.contains("not loaded"), "\(again.output)")
            #expect(try await harness.command("check").output.contains("ok    event handlers: \(file)\n"))
            // Handlers that the next start could not load are reported as well, with or without a daemon.
            _ = try harness.handlers("this is no Python\n")
            #expect(try await harness.command("check").output.contains("SyntaxError"))
            await harness.stop(daemon)
            #expect(try await harness.command("check").output.contains("SyntaxError"))
        }
    }

    @Test(
        "B10 scripts restart reloads the handlers; a wrong script changes nothing and is reported with its line")
    func restart() async throws {
        try await DaemonHarness.run { harness in
            func says(_ word: String) -> String {
                Self.python("    def JobStart(self, job): job.JobReport = '\(word)'")
            }
            let handlers = try harness.handlers(says("old"))
            let script = try harness.script("some.sh", "echo working")
            try harness.settings(backup: "HOME_SCRIPT =\n[Job some]\nSCRIPT = \(script)\n\(handlers)")
            let daemon = try await harness.running()
            func report() async throws -> String { try await harness.ended(try await harness.run("some")).reportText }
            #expect(try await report().contains("old"))
            _ = try harness.handlers(says("new"))
            #expect(try await report().contains("old"))
            let restarted = try await harness.command("scripts", "restart")
            #expect(restarted.status == 0 && restarted.output.contains("handlers for JobStart"), "\(restarted.output)")
            #expect(try await report().contains("new"))
            _ = try harness.handlers("import bacula\nthis is no Python\n")
            let wrong = try await harness.command("scripts", "restart")
            #expect(wrong.status == 1)
            #expect(
                wrong.output.contains("line 2") && wrong.output.contains("the handlers are unchanged"),
                "\(wrong.output)")
            #expect(try await report().contains("new"))
            await harness.stop(daemon)
        }
    }
}
