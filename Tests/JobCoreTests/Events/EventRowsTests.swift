import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

extension Processes {
    /// Specification: rows.md B1 to B13, against a real interpreter.
    @Suite struct EventRows {
        let harness: EventHarness
        init() throws { harness = try EventHarness() }

        private var host: RecordingHost { harness.host }

        @Test("B1 without DirStartUp.py one notice names its full path and says that scripting is off")
        func noScript() async throws {
            try await harness.run { handlers in
                #expect(await !handlers.isActive)
                #expect(await handlers.jobStart(EventHarness.job()) == .none)
                await handlers.jobEnd(EventHarness.job())
                let processes = try harness.processes()
                #expect(processes == [])
            }
            #expect(host.notices == [CoreNotice(.info, "handlers: \(harness.script) does not exist: scripting is off")])
        }

        @Test("B1 an existing script is run when the handlers are started")
        func script() async throws {
            try harness.install("    def JobStart(self, job): job.JobReport = 'hello'")
            try await harness.run { handlers in
                #expect(await handlers.isActive)
                #expect(host.notices.map(\.level) == [.info])
                #expect(host.log.contains("\(harness.script) was loaded, handlers for JobStart"))
                #expect(await handlers.jobStart(EventHarness.job()) == .none)
                #expect(host.report() == ["hello"])
            }
        }

        @Test("B2 each event reaches its method, in the order in which it was sent")
        func events() async throws {
            try harness.install(
                """
                    def JobStart(self, job): job.set_events(Job()); print("JobStart", job.JobId)
                    def JobEnd(self, job): print("JobEnd", job.JobId)
                    def Exit(self): print("Exit")
                """,
                job: """
                        def JobInit(self, job): print("JobInit", job.JobId)
                        def JobRun(self, job): print("JobRun", job.JobId)
                        def NewVolume(self, job): print("NewVolume", job.JobId)
                        def VolumePurged(self, job): print("VolumePurged", job.JobId, job.VolumeName)
                    """)
            try await harness.run { handlers in
                let job = EventHarness.job(3)
                _ = await handlers.jobStart(job)
                _ = await handlers.jobInit(job)
                _ = await handlers.jobRun(job)
                #expect(await handlers.newVolume(job, volumes: ["one"]) == .none)
                await handlers.volumePurged(EventHarness.job(3, volumeName: "one"))
                await handlers.jobEnd(job)
                #expect(
                    host.report(3) == [
                        "JobStart 3", "JobInit 3", "JobRun 3", "NewVolume 3", "VolumePurged 3 one", "JobEnd 3",
                    ])
            }
            #expect(host.log.hasSuffix("handlers: Exit"))
        }

        @Test("B2 Exit is called with one argument or with two, as its method is written", arguments: ["", ", job"])
        func exit(arguments: String) async throws {
            try harness.install("    def Exit(self\(arguments)): print('leaving')")
            try await harness.run { #expect(await $0.isActive) }
            #expect(host.log.hasSuffix("handlers: leaving"))
        }

        @Test("B3 handlers are registered for each job; an event without one does nothing, other methods are ignored")
        func registration() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        if job.JobId == 1: job.set_events(Job("first"))
                        if job.JobId == 2: job.set_events(Job("second"))
                    def JobInit(self, job): print("not for the daemon's object")
                    def Other(self, job): print("no event")
                """,
                job: """
                        def __init__(self, name): self.name = name
                        def JobRun(self, job): print(self.name, "runs")
                        def JobEnd(self, job): print("not for the job's object")
                        NewVolume = "not to be called"
                        def Other(self, job): print("no event")
                    """)
            try await harness.run { handlers in
                for number in 1...3 as ClosedRange<UInt64> {
                    let job = EventHarness.job(number)
                    _ = await handlers.jobStart(job)
                    _ = await handlers.jobInit(job)
                    _ = await handlers.jobRun(job)
                    _ = await handlers.newVolume(job, volumes: [])
                    await handlers.volumePurged(job)
                    await handlers.jobEnd(job)
                }
                #expect(host.report(1) == ["first runs"])
                #expect(host.report(2) == ["second runs"])
                #expect(host.report(3) == [])
            }
        }

        @Test("B3 job events can be registered within JobStart only")
        func lateRegistration() async throws {
            try harness.install(
                "    def JobStart(self, job): job.set_events(Job())\n    def JobEnd(self, job): job.set_events(Job())",
                job: "    def JobRun(self, job): job.set_events(Job())")
            try await harness.run { handlers in
                _ = await handlers.jobStart(EventHarness.job())
                _ = await handlers.jobRun(EventHarness.job())
                #expect(host.report().first?.hasPrefix("error: job.set_events: ") == true)
                #expect(host.report().last?.hasPrefix("RuntimeError: job.set_events: ") == true)
                let count = host.report().count
                await handlers.jobEnd(EventHarness.job())
                #expect(host.report().count == 2 * count)
            }
        }

        @Test("B4 the daemon's attributes can be read but not set")
        func daemon() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        print([bacula.Name, bacula.ConfigFile, bacula.WorkingDir, bacula.Version])
                        for name in ("Name", "ConfigFile", "WorkingDir", "Version"):
                            try: setattr(bacula, name, "other")
                            except AttributeError as error: print(error)
                            try: delattr(bacula, name)
                            except AttributeError as error: print(error)
                        print(bacula.Name)
                """)
            try await harness.run { handlers in
                _ = await handlers.jobStart(EventHarness.job())
                let refusals = ["Name", "ConfigFile", "WorkingDir", "Version"].flatMap {
                    ["bacula.\($0) can be read but not set", "bacula.\($0) cannot be deleted"]
                }
                #expect(
                    host.report() == ["['prov-test', '/etc/test.conf', '/var/lib/test', '1.2 2026-01-02']"] + refusals
                        + ["prov-test"])
            }
        }

        @Test("B5 run gives the new job's number or -1, cancel and DoesVolumeExist 1 or 0, write goes to the report")
        func methods() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        job.write("a")
                        job.write("b\\nc")
                        print(job.run("run nightly"), job.run("run nothing"), file=job)
                        print(job.cancel(7), job.cancel(8), job.cancel(-1), job.cancel(10**30))
                        print(job.DoesVolumeExist("one"), job.DoesVolumeExist("three"))
                        print([name for name in dir(job) if callable(getattr(type(job), name, None))])
                        for call in (job.run, job.write, job.cancel, job.DoesVolumeExist):
                            try: call(1.5)
                            except TypeError as error: print("refused")
                """)
            try await harness.run { handlers in
                _ = await handlers.jobStart(EventHarness.job())
                let report = host.report()
                #expect(
                    report.prefix(7) == [
                        "ab", "c", "error: job.run: there is no such job", "99 -1", "1 0 0 0", "1 0",
                        "['DoesVolumeExist', 'cancel', 'run', 'set_events', 'write']",
                    ])
                #expect(report.count { $0 == "refused" } == 4)
                #expect(report.count { $0.hasPrefix("error: job.") } == 5)
                #expect(host.commands == ["run nightly", "run nothing"])
                #expect(host.cancelled == [JobID(7), JobID(8)])
            }
        }

        @Test("B6 Priority and Level can be read and set until the job runs, and come back")
        func parameters() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        job.set_events(Job())
                        print(job.Priority, job.Level)
                        job.Priority = 3
                        job.Level = "weekly"
                        print(job.Priority, job.Level)
                    def JobEnd(self, job): job.Priority = 1
                """,
                job: """
                        def JobInit(self, job): job.Priority = job.Priority + 1
                        def JobRun(self, job): job.Level = "hourly"
                        def NewVolume(self, job): job.Level = "weekly"
                    """)
            try await harness.run { handlers in
                #expect(await handlers.jobStart(EventHarness.job()) == EventEffect(priority: 3, level: "weekly"))
                #expect(host.report() == ["10 daily", "3 weekly"])
                #expect(await handlers.jobInit(EventHarness.job(priority: 3)) == EventEffect(priority: 4))
                #expect(await handlers.jobRun(EventHarness.job(priority: 4)) == EventEffect(level: "hourly"))
                #expect(await handlers.newVolume(EventHarness.job(), volumes: ["one"]) == .none)
                await handlers.jobEnd(EventHarness.job())
                let refusals = host.report().filter { $0.hasPrefix("error: job.") }
                #expect(
                    refusals == [
                        "error: job.Level can be set only before the job runs: in JobStart, JobInit or JobRun of the same job",
                        "error: job.Priority can be set only before the job runs: in JobStart, JobInit or JobRun of the same job",
                    ])
            }
        }

        @Test(
            "B6 what a handler sets last is what JobEnd sees, and a job keeps its handlers when scripting is turned off"
        )
        func parametersAtTheEnd() async throws {
            try harness.install(
                """
                    def JobStart(self, job): job.set_events(Job())
                    def JobEnd(self, job): print(job.Priority, job.Level, job.JobStatus)
                """,
                job: """
                        def JobRun(self, job):
                            job.Priority = 7
                            job.Level = "weekly"
                    """)
            let jobs = try JobBench()
            try await harness.run { handlers in
                var executor = jobs.executor()
                executor.events = handlers
                let runner = JobRunner(
                    executor: { [executor] in executor }, ids: jobs.ids, scheduler: JobScheduler(), slots: { 1 })
                let script = harness.script.string
                let request = jobs.request { _ in
                    try FileManager.default.removeItem(atPath: script)
                    _ = await handlers.restart()
                    return .success
                }
                let job = try #require(try await runner.submit(request))
                #expect(await job.outcome()?.result == .success)
                #expect(host.report(job.id.number) == ["7 weekly T"])
                #expect(await !handlers.isActive)
                await runner.stop(grace: .zero)
            }
        }

        @Test("B6 a wrong priority or level is refused and has no effect")
        func wrongParameters() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        for name, value in (("Priority", 0), ("Priority", "high"), ("Priority", True), ("Priority", 1 << 40),
                                            ("Level", "yearly"), ("Level", 5)):
                            try: setattr(job, name, value)
                            except (TypeError, ValueError) as error: print(type(error).__name__)
                        print(job.Priority, job.Level)
                """)
            try await harness.run { handlers in
                #expect(await handlers.jobStart(EventHarness.job()) == .none)
                let report = host.report()
                #expect(report.count { $0.hasPrefix("error: job.Priority") } == 4)
                #expect(
                    report.contains(
                        "error: job.Level: 'yearly' is not a level of a job of type Backup (hourly, daily, weekly)"))
                #expect(
                    report.filter { $0.hasSuffix("Error") } == [
                        "ValueError", "TypeError", "TypeError", "ValueError", "ValueError", "TypeError",
                    ])
                #expect(report.last == "10 daily")
            }
        }

        @Test("B7 every attribute of the job can be read but not set, and the password is redacted")
        func attributes() async throws {
            let names = [
                "Type", "JobId", "Client", "NumVols", "Pool", "Storage", "Catalog", "MediaType", "Job", "JobName",
                "JobStatus", "CatalogRes",
            ]
            try harness.install(
                """
                    def JobStart(self, job):
                        job.set_events(Job())
                        for name in "\(names.joined(separator: " "))".split():
                            print(name, repr(getattr(job, name)))
                            try: setattr(job, name, 1)
                            except AttributeError: pass
                        print(type(job.CatalogRes).__name__, len(job.CatalogRes))
                    def JobEnd(self, job): print(job.JobStatus)
                """, job: "    def JobRun(self, job): print(job.JobStatus)")
            try await harness.run { handlers in
                _ = await handlers.jobStart(EventHarness.job(4))
                let report = host.report(4)
                #expect(
                    report.filter { !$0.hasPrefix("error:") } == [
                        "Type 'Backup'", "JobId 4", "Client '40004'", "NumVols 2", "Pool 'main'", "Storage 'backup1'",
                        "Catalog 'directory'", "MediaType 'ext4'", "Job 'daily'", "JobName 'daily.4'", "JobStatus 'C'",
                        "CatalogRes ('dc=example', 'ldap.example', 'cn=admin', 'redacted', '', 389, 'OpenLDAP')",
                        "tuple 7",
                    ])
                #expect(
                    report.filter { $0.hasPrefix("error:") }
                        == names.map { "error: job.\($0) can be read but not set" })
                _ = await handlers.jobRun(EventHarness.job(4, status: .running))
                await handlers.jobEnd(EventHarness.job(4, status: .nonFatalError))
                #expect(host.report(4).suffix(2) == ["R", "e"])
            }
        }

        @Test("B8 each setting of JobReport is a line; it cannot be read")
        func jobReport() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        print("unfinished", end="")
                        job.JobReport = "first"
                        job.JobReport = "second\\n"
                        job.JobReport = "third\\nfourth"
                        try: print(job.JobReport)
                        except AttributeError: print("cannot be read")
                        try: job.JobReport = 5
                        except TypeError: print("no line")
                        try: del job.JobReport
                        except AttributeError: print("stays")
                """)
            try await harness.run { handlers in
                _ = await handlers.jobStart(EventHarness.job())
                #expect(
                    host.report() == [
                        "unfinished", "first", "second", "third", "fourth",
                        "error: job.JobReport can be set but not read", "cannot be read",
                        "error: job.JobReport: a line is a string, not int", "no line",
                        "error: job.JobReport cannot be deleted", "stays",
                    ])
            }
        }

        @Test("B8 VolumeName can be set within NewVolume only, and to one of the pool's volumes")
        func volumeName() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        job.set_events(Job())
                        try: job.VolumeName = "one"
                        except AttributeError: print("too early")
                """,
                job: """
                        def NewVolume(self, job):
                            job.VolumeName = {1: "two", 2: "elsewhere", 3: 5}[job.JobId]
                            print("chosen", job.VolumeName)
                        def VolumePurged(self, job): job.VolumeName = "one"
                    """)
            try await harness.run { handlers in
                for id in 1...3 as ClosedRange<UInt64> { _ = await handlers.jobStart(EventHarness.job(id)) }
                let tooEarly = "error: job.VolumeName can be set only within NewVolume of the same job"
                #expect(host.report(1) == [tooEarly, "too early"])
                let volumes = ["one", "two"]
                #expect(
                    await handlers.newVolume(EventHarness.job(1), volumes: volumes) == EventEffect(volumeName: "two"))
                #expect(host.report(1).last == "chosen two")
                #expect(await handlers.newVolume(EventHarness.job(2), volumes: volumes) == .none)
                #expect(
                    host.report(2).last
                        == "error: NewVolume: \"elsewhere\" is not a volume of the pool \"main\" (one, two): the daemon chooses"
                )
                #expect(await handlers.newVolume(EventHarness.job(3), volumes: volumes) == .none)
                #expect(host.report(3).last == "TypeError: job.VolumeName is a string, not int")
                await handlers.volumePurged(EventHarness.job(1, volumeName: "two"))
                #expect(host.report(1).count { $0 == tooEarly } == 2)
            }
        }

        @Test(
            "B10 handlers are reloaded; a running job keeps those it began with, and the old interpreter its memory")
        func restart() async throws {
            func version(_ name: String) throws {
                try harness.install(
                    "    def JobStart(self, job): job.set_events(Job()); print('\(name) starts')\n    def JobEnd(self, job): print('\(name) ends')",
                    job: "    def JobRun(self, job): print('\(name) runs')")
            }
            try version("old")
            try await harness.run { handlers in
                _ = await handlers.jobStart(EventHarness.job(1))
                try version("new")
                let text = await handlers.restart()
                #expect(
                    text.contains(
                        "was loaded, handlers for JobEnd, JobStart; 1 jobs keep their old handlers"
                    ))
                _ = await handlers.jobStart(EventHarness.job(2))
                #expect(try harness.processes().count == 2)
                for id in 1...2 as ClosedRange<UInt64> {
                    _ = await handlers.jobRun(EventHarness.job(id))
                    await handlers.jobEnd(EventHarness.job(id))
                }
                #expect(host.report(1) == ["old starts", "old runs", "old ends"])
                #expect(host.report(2) == ["new starts", "new runs", "new ends"])
                try await eventually("the old interpreter is gone") { try harness.processes().count == 1 }
            }
        }

        @Test("B10 a script that cannot be loaded changes nothing, one that is removed turns scripting off")
        func brokenRestart() async throws {
            try harness.install(
                "    def JobStart(self, job): print('old')\n    def JobEnd(self, job): print('old ends')")
            try await harness.run { handlers in
                try harness.write("this is no Python")
                let text = await handlers.restart()
                #expect(text.contains("\(harness.script) cannot be loaded: SyntaxError: "))
                #expect(text.contains("the handlers are unchanged"))
                #expect(await handlers.isActive)
                _ = await handlers.jobStart(EventHarness.job(1))
                #expect(host.report() == ["old"])
                #expect(try harness.processes().count == 1)
                try FileManager.default.removeItem(atPath: harness.script.string)
                #expect(await handlers.restart() == "\(harness.script) does not exist: scripting is off")
                #expect(await handlers.isActive, "a job that runs keeps its handlers")
                _ = await handlers.jobStart(EventHarness.job(2))
                #expect(host.report(2) == [])
                await handlers.jobEnd(EventHarness.job(1))
                #expect(host.report() == ["old", "old ends"])
                #expect(await !handlers.isActive)
                try await eventually("the old interpreter is gone") { try harness.processes().isEmpty }
            }
        }

        @Test("B10 handlers that were off are loaded by a restart")
        func lateStart() async throws {
            try await harness.run { handlers in
                try harness.install("    def JobStart(self, job): print('there')")
                _ = await handlers.restart()
                #expect(await handlers.isActive)
                _ = await handlers.jobStart(EventHarness.job(1))
                #expect(host.report() == ["there"])
            }
        }

        @Test("B11 what handlers and their programs write goes to the report of their job, in its order")
        func output() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        print("print")
                        print("errors", file=sys.stderr)
                        os.write(1, b"descriptor 1\\n")
                        os.write(2, b"descriptor 2\\n")
                        subprocess.run(["/bin/sh", "-c", "echo shell; echo shell errors >&2; cat"], check=True)
                        job.JobReport = "line"
                        os.system("echo system")
                        print("no end", end="")
                """)
            try await harness.run { handlers in
                for id in 1...2 as ClosedRange<UInt64> {
                    _ = await handlers.jobStart(EventHarness.job(id))
                    #expect(
                        host.report(id) == [
                            "print", "errors", "descriptor 1", "descriptor 2", "shell", "shell errors", "line",
                            "system",
                            "no end",
                        ])
                }
            }
        }

        @Test("B11 a handler that raises costs its event, and report and log say so")
        func raises() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        job.set_events(Job())
                        job.Priority = 1
                        raise ValueError("wrong " + str(job.JobId))
                    def JobEnd(self, job): sys.exit(3)
                """, job: "    def JobRun(self, job): print('still there')")
            try await harness.run { handlers in
                #expect(await handlers.jobStart(EventHarness.job()) == .none)
                #expect(host.report().first == "error: JobStart failed:")
                #expect(host.report().contains { $0.contains("\(harness.script)\", line 8, in JobStart") })
                #expect(host.report().last == "ValueError: wrong 1")
                #expect(!host.report().contains { $0.contains("bacula_host") })
                #expect(
                    host.notices.last
                        == CoreNotice(.error, "handlers: JobStart failed: ValueError: wrong 1", job: JobID(1)))
                _ = await handlers.jobRun(EventHarness.job())
                #expect(host.report().last == "still there")
                await handlers.jobEnd(EventHarness.job())
                #expect(host.report().last == "SystemExit: 3")
                _ = await handlers.jobStart(EventHarness.job(2))
                #expect(host.report(2).last == "ValueError: wrong 2")
            }
        }

        @Test(
            "B12 the words of the loader are always visible",
            arguments: [
                ("import nowhere\n", "ModuleNotFoundError: No module named 'nowhere'"),
                ("def broken(:\n", "SyntaxError: "),
                ("raise SystemExit('not today')\n", "SystemExit: not today"),
                (
                    "import bacula\nbacula.set_events(dict)\n",
                    "TypeError: bacula.set_events: give an object, not its class"
                ),
                ("import os\nos.write(2, b'last words')\nos._exit(3)\n", "the interpreter ended with exit code 3"),
                ("import os\nos.kill(os.getpid(), 9)\n", "the interpreter was ended by signal"),
            ])
        func loader(script: String, words: String) async throws {
            try harness.write(script)
            try await harness.run { handlers in
                #expect(await !handlers.isActive)
                let error = try #require(host.notices.first { $0.level == .error })
                #expect(error.text.contains("\(harness.script) cannot be loaded: "))
                #expect(error.text.contains(words))
                #expect(error.text.hasSuffix(": scripting is off"))
                #expect(host.log.contains("last words") == script.contains("last words"))
                #expect(await handlers.jobStart(EventHarness.job()) == .none)
                let processes = try harness.processes()
                #expect(processes == [])
            }
        }

        @Test("B12 the traceback of the loader and the output of the script during loading are in the log")
        func traceback() async throws {
            try harness.write("print('loading')\ndef f():\n    return 1 / 0\nf()\n")
            try await harness.run { _ in
                #expect(host.log.contains("handlers: loading\n"))
                #expect(host.log.contains("\(harness.script)\", line 3, in f"))
                #expect(!host.log.contains("bacula_host"))
            }
        }

        @Test("B13 Bacula's example script runs unchanged except that print statements are calls")
        func example() async throws {
            let fixture = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/DirStartUp.py")
            try harness.write(String(contentsOf: fixture, encoding: .utf8))
            try await harness.run { handlers in
                let job = EventHarness.job(5)
                #expect(await handlers.jobStart(job) == .none)
                #expect(host.report(5) == ["Python Dir JobStart: JobId=5 Client=40005 NumVols=2"])
                #expect(await handlers.jobInit(job) == .none)
                #expect(await handlers.jobRun(job) == .none)
                #expect(await handlers.newVolume(job, volumes: ["one", "two"]) == .none)
                #expect(
                    host.report(5).dropFirst() == [
                        "('dc=example', 'ldap.example', 'cn=admin', 'redacted', '', 389, 'OpenLDAP')",
                        "JobId=5 Client=40005 NumVols=2", "Python before New Volume set for Job.", "Exists=0 TestA-2",
                        "Python after New Volume set for Job.",
                        "error: NewVolume: \"TestA-2\" is not a volume of the pool \"main\" (one, two): the daemon chooses",
                    ])
                #expect(
                    await handlers.newVolume(job, volumes: ["TestA-1", "TestA-2"])
                        == EventEffect(volumeName: "TestA-2"))
                await handlers.volumePurged(job)
                await handlers.jobEnd(job)
                #expect(host.report(5).last == "Python Dir JobEnd output: JobId=5 Client=40005.")
            }
            #expect(host.log.hasSuffix("handlers: Daemon exiting."))
            #expect(host.notices.allSatisfy { $0.level == .info })
        }

        @Test("the shipped sample runs and shows every event")
        func sample() async throws {
            let checkout = URL(filePath: #filePath).appending(path: "../../../..").standardizedFileURL
            let text = try String(
                contentsOf: checkout.appending(path: "etc/Provisioning/scripts/DirStartUp.py.sample"), encoding: .utf8)
            for event in ["JobStart", "JobEnd", "Exit", "JobInit", "JobRun", "NewVolume", "VolumePurged"] {
                #expect(text.contains("    def \(event)(self"))
            }
            try harness.write(text)
            try await harness.run { handlers in
                let job = EventHarness.job()
                #expect(await handlers.jobStart(job) == .none)
                #expect(await handlers.jobInit(job) == .none)
                #expect(await handlers.jobRun(job) == .none)
                #expect(await handlers.newVolume(job, volumes: ["one"]) == .none)
                await handlers.volumePurged(EventHarness.job(volumeName: "one"))
                await handlers.jobEnd(EventHarness.job(status: .terminatedWithErrors))
                #expect(
                    host.report() == [
                        "an archived home on one has been purged", "daily.1 on backup1 needs to be looked at",
                    ])
            }
            #expect(host.log.hasSuffix("handlers: prov-test ends"))
        }
    }
}
