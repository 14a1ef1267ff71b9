import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

extension Processes {
    /// What handlers can do wrong, and what that costs.
    @Suite struct EventFaults {
        let harness: EventHarness
        /// By which the limits go of those that exceed them.
        let clock = ManualSteadyClock()
        init() throws { harness = try EventHarness() }

        private var host: RecordingHost { harness.host }
        private let limit = EventHarness.timeLimit

        @Test(
            "B11 a handler that never returns costs its event: its interpreter is ended, and later jobs get a new one")
        func neverReturns() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        job.set_events(Job())
                        job.Priority = 1
                        if job.JobId == 2:
                            print("before")
                            while True: time.sleep(0.01)
                    def JobEnd(self, job): print("end")
                """, job: "    def JobRun(self, job): print('runs')")
            try await harness.run(clock: clock) { handlers in
                _ = await handlers.jobStart(EventHarness.job(1))
                async let effect = handlers.jobStart(EventHarness.job(2))
                try await eventually("the handler is at work") { host.report(2) == ["before"] }
                clock.advance(by: limit)
                #expect(await effect == .none)
                let hung = "JobStart did not return within \(limit), and its interpreter was ended"
                #expect(
                    host.report(2) == ["before", "error: \(hung): the job continues without handlers until JobEnd"])
                #expect(
                    host.notices.contains(
                        CoreNotice(
                            .error, "handlers: \(hung): the job continues without handlers until JobEnd", job: JobID(2))
                    ))
                #expect(await handlers.jobStart(EventHarness.job(3)) == EventEffect(priority: 1))
                for id in 1...3 as ClosedRange<UInt64> {
                    _ = await handlers.jobRun(EventHarness.job(id))
                    await handlers.jobEnd(EventHarness.job(id))
                }
                #expect(
                    host.report(1) == [
                        "error: the interpreter was lost before JobRun: the job continues without handlers until JobEnd",
                        "end",
                    ])
                #expect(host.report(2).count == 3 && host.report(2).last == "end")
                #expect(host.report(3) == ["runs", "end"])
            }
        }

        @Test("B11 a handler that never returns and ignores SIGTERM is ended by SIGKILL, with what it has started")
        func ignoresTerm() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        import signal
                        signal.signal(signal.SIGTERM, signal.SIG_IGN)
                        subprocess.Popen(["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done", "\(harness.directory.path)"])
                        time.sleep(100000)
                """)
            try await harness.run(clock: clock) { handlers in
                async let effect = handlers.jobStart(EventHarness.job())
                try await eventually("both ignore SIGTERM") { host.report() == ["deaf"] }
                clock.advance(by: limit)
                #expect(await effect == .none)
                #expect(host.report().count { $0.contains("did not return within") } == 1)
                try await clock.passes(
                    until: Task { [harness] in
                        try await eventually("all are gone") { try harness.processes().isEmpty }
                    })
            }
        }

        /// How many events wait for their turn.
        @MainActor private func waiting(_ handlers: EventHandlers) -> Int { handlers.current?.waiters.count ?? 0 }

        @Test("B11 a JobStart that waited behind a handler that never returns is called by the next interpreter")
        func queue() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        print("begins")
                        if job.JobId == 1: time.sleep(100000)
                """)
            try await harness.run(clock: clock) { handlers in
                try await withThrowingTaskGroup { tasks in
                    tasks.addTask { _ = await handlers.jobStart(EventHarness.job(1)) }
                    try await eventually("the first hangs") { host.report(1) == ["begins"] }
                    for id in 2...9 as ClosedRange<UInt64> {
                        tasks.addTask { _ = await handlers.jobStart(EventHarness.job(id)) }
                    }
                    try await eventually("the others wait") { await waiting(handlers) == 8 }
                    clock.advance(by: limit)
                    try await tasks.waitForAll()
                }
                #expect(host.report(1).last?.contains("JobStart did not return within \(limit)") == true)
                for id in 2...9 as ClosedRange<UInt64> { #expect(host.report(id) == ["begins"]) }
            }
        }

        @Test("B11 the JobEnd of a job whose task is cancelled while it waits for its turn is called")
        func cancelledInLine() async throws {
            let go = "\(harness.directory.path)/go"
            try harness.install(
                """
                    def JobStart(self, job): pass
                    def JobEnd(self, job):
                        print("ends")
                        while job.JobId == 1 and not os.path.exists("\(go)"): time.sleep(0.01)
                """)
            try await harness.run(clock: clock) { handlers in
                for id in 1...2 as ClosedRange<UInt64> { _ = await handlers.jobStart(EventHarness.job(id)) }
                func end(_ id: UInt64) -> Task<Void, Never> {
                    Task { await handlers.ended(EventHarness.job(id).job, JobResult.success.status) }
                }
                let first = end(1)
                try await eventually("the first runs") { host.report(1) == ["ends"] }
                let second = end(2)
                try await eventually("the second waits") { await waiting(handlers) == 1 }
                second.cancel()
                try "".write(toFile: go, atomically: true, encoding: .utf8)
                await first.value
                await second.value
                #expect(host.report(2) == ["ends"])
            }
        }

        @Test("B11 an event waits for its turn however long the handlers before it take together, and the log says so")
        func slowOthers() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        job.set_events(Job())
                        print("begins")
                        while job.JobId > 1 and not os.path.exists("\(harness.directory.path)/go%d" % job.JobId): time.sleep(0.01)
                """, job: "    def NewVolume(self, job): job.VolumeName = 'two'")
            try await harness.run(clock: clock) { handlers in
                _ = await handlers.jobStart(EventHarness.job(1))
                async let second = handlers.jobStart(EventHarness.job(2))
                try await eventually("the second runs") { host.report(2) == ["begins"] }
                async let third = handlers.jobStart(EventHarness.job(3))
                try await eventually("the third waits") { await waiting(handlers) == 1 }
                async let volume = handlers.newVolume(EventHarness.job(1), volumes: ["one", "two"])
                try await eventually("the first waits, too") { await waiting(handlers) == 2 }
                for job in [2, 3] as [UInt64] {
                    try await eventually("it runs") { host.report(job) == ["begins"] }
                    clock.advance(by: limit * 3 / 5)
                    try "".write(toFile: "\(harness.directory.path)/go\(job)", atomically: true, encoding: .utf8)
                }
                #expect(await volume.volumeName == "two")
                #expect(host.report(1) == ["begins"])
                #expect(host.notices.filter { $0.level == .warning }.map(\.job) == [JobID(1)])
                _ = await (second, third)
            }
        }

        @Test(
            "B11 an interpreter that ends in the middle of an event costs that event, and later jobs get a new one",
            arguments: [
                ("os._exit(3)", "ended with exit code 3"), ("os.kill(os.getpid(), 9)", "was ended by signal 9"),
                ("os.closerange(3, 100)", "ended with exit code"), ("os.abort()", "was ended by signal 6"),
                ("[os.write(fd, b'garbage\\n') for fd in range(3, 6) if fd != 3]", "an invalid message"),
                // Well-formed, and not meant for this moment.
                (
                    #"[os.write(fd, b'{"done": 0, "events": []}\n') for fd in range(3, 6) if fd != 3]"#,
                    "an invalid message"
                ),
            ])
        func dies(statement: String, words: String) async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        print("before")
                        if job.JobId == 1: \(statement)
                        print("after")
                """)
            try await harness.run { handlers in
                #expect(await handlers.jobStart(EventHarness.job(1)) == .none)
                // Messages and reports use two pipes, so their order is not fixed.
                try await eventually("its report is whole") { host.report(1).contains("before") }
                let loss = host.report(1).first { $0.contains(words) }
                #expect(
                    loss?.hasSuffix(": the job continues without handlers until JobEnd") == true, "\(host.report(1))")
                _ = await handlers.jobStart(EventHarness.job(2))
                #expect(host.report(2) == ["before", "after"])
                await handlers.jobEnd(EventHarness.job(1))
                #expect(host.report(1).count { $0.contains("continues without handlers") } == 1)
            }
        }

        @Test("B11 an interpreter that is killed during an event or between two is replaced")
        func killed() async throws {
            try harness.install(
                "    def JobStart(self, job):\n        print('there')\n        if job.JobId == 1: time.sleep(100000)")
            try await harness.run { handlers in
                async let effect = handlers.jobStart(EventHarness.job(1))
                try await eventually("the handler is at work") { host.report(1) == ["there"] }
                let first = try #require(try harness.processes().first)
                kill(first, SIGKILL)
                #expect(await effect == .none)
                #expect(
                    host.report(1).last
                        == "error: the interpreter was ended by signal 9 while JobStart ran: the job continues without handlers until JobEnd"
                )
                #expect(host.log.contains("handlers: the interpreter of \(harness.script) was ended by signal 9"))
                _ = await handlers.jobStart(EventHarness.job(2))
                #expect(host.report(2) == ["there"])
                let idle = try #require(try harness.processes().first)
                kill(idle, SIGKILL)
                try await eventually("it is gone") { !isAlive(idle) }
                _ = await handlers.jobStart(EventHarness.job(3))
                #expect(host.report(3) == ["there"])
            }
        }

        @Test("B11 after several lost interpreters there is a pause, which a restart ends")
        func pause() async throws {
            try harness.install("    def JobStart(self, job): os._exit(1)")
            try await harness.run { handlers in
                for id in 1...5 as ClosedRange<UInt64> { _ = await handlers.jobStart(EventHarness.job(id)) }
                #expect(host.log.contains("3 interpreters in a row were lost"))
                #expect(host.report(3).last?.contains("ended with exit code 1 while JobStart ran") == true)
                #expect(host.report(5) == ["error: JobStart was not called: the previous interpreters were lost"])
                #expect(await handlers.scriptingError?.contains("3 interpreters in a row were lost") == true)
                try harness.install("    def JobStart(self, job): print('corrected')")
                _ = await handlers.restart()
                _ = await handlers.jobStart(EventHarness.job(6))
                #expect(host.report(6) == ["corrected"])
                #expect(await handlers.scriptingError == nil)
            }
        }

        @Test("B11 a job whose interpreter was lost between two events has its JobEnd with the next one")
        func lostBeforeEnd() async throws {
            try harness.install(
                """
                    def JobStart(self, job): job.set_events(Job())
                    def JobEnd(self, job): print("ended", job.JobStatus, len(sys.modules["__main__"]._jobs))
                """)
            try await harness.run { handlers in
                for id in 1...3 as ClosedRange<UInt64> { _ = await handlers.jobStart(EventHarness.job(id)) }
                let process = try #require(try harness.processes().first)
                kill(process, SIGKILL)
                try await eventually("it is gone") { !isAlive(process) }
                for id in 1...3 as ClosedRange<UInt64> {
                    await handlers.jobEnd(EventHarness.job(id, status: .successful))
                    #expect(host.report(id) == ["ended T 1"])
                }
            }
        }

        @Test(
            "B12 a script that cannot be loaded after a loss is tried again after a pause, and until then the reason is known"
        )
        func notLoadedAgain() async throws {
            let handler = "    def JobStart(self, job): print('there')"
            try harness.install(handler)
            try await harness.run(clock: clock) { handlers in
                _ = await handlers.jobStart(EventHarness.job(1))
                #expect(await handlers.scriptingError == nil)
                try harness.write("this is no Python\n")
                let process = try #require(try harness.processes().first)
                kill(process, SIGKILL)
                try await eventually("it is gone") { !isAlive(process) }
                for id in 2...3 as ClosedRange<UInt64> {
                    _ = await handlers.jobStart(EventHarness.job(id))
                    #expect(host.report(id) == ["error: JobStart was not called: the previous interpreters were lost"])
                }
                #expect(host.notices.count { $0.text.contains("cannot be loaded: SyntaxError") } == 1)
                #expect(await handlers.scriptingError?.contains("SyntaxError") == true)
                try harness.install(handler)
                clock.advance(by: InterpreterBackoff.firstPause)
                _ = await handlers.jobStart(EventHarness.job(4))
                #expect(host.report(4) == ["there"])
                #expect(await handlers.scriptingError == nil)
                #expect(await handlers.fault == nil)
            }
        }

        @Test("B11 of ten megabytes of output the report gets the beginning and the number of omitted bytes")
        func flood() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        for number in range(100_000): print("%099d" % number)
                        os.write(1, b"x" * 1_000_000)
                        for number in range(1000): job.JobReport = "line"
                    def JobEnd(self, job): print("end")
                """)
            try await harness.run { handlers in
                _ = await handlers.jobStart(EventHarness.job())
                let report = host.report()
                #expect(report.prefix(2).map { Int($0) } == [0, 1])
                #expect(report.reduce(0) { $0 + $1.utf8.count } < 70_000)
                let kept = report.dropLast().reduce(0) { $0 + $1.utf8.count + 1 }
                // 100,000 lines of 100 bytes, a million bytes without an end in pieces, and 1,000 lines of 5 bytes.
                let dropped = try #require(Int(report.last?.dropFirst().prefix { $0.isNumber } ?? ""))
                #expect((11_005_000...11_006_000).contains(kept + dropped))
                await handlers.jobEnd(EventHarness.job())
                #expect(host.report().last == "end")
            }
        }

        @Test("B11 a handler that closes its descriptors or streams loses only its own output")
        func closes() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        if job.JobId == 1: os.close(0); os.close(1); os.close(2); open("/dev/null"); print("lost")
                        if job.JobId == 2: sys.stdout.close(); sys.stderr = None
                        if job.JobId == 3: sys.stdout = sys.stderr = object()
                        if job.JobId == 4: sys.stdout = job
                        print("heard", file=sys.stdout)
                """)
            try await harness.run { handlers in
                for id in 1...5 as ClosedRange<UInt64> { _ = await handlers.jobStart(EventHarness.job(id)) }
                #expect(host.report(1).last?.hasPrefix("OSError: ") == true)
                #expect(host.report(2).last?.hasPrefix("ValueError: ") == true)
                #expect(host.report(3).last?.hasPrefix("AttributeError: ") == true)
                #expect(host.report(4) == ["heard"])
                #expect(host.report(5) == ["heard"])
            }
        }

        @Test(
            "B11 a process that a handler forks ends where the handler ends; what it starts lives until the interpreter ends"
        )
        func forks() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        if job.JobId == 1:
                            child = os.fork()
                            if child == 0: return
                            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                        if job.JobId == 2:
                            child = os.fork()
                            if child == 0: raise ValueError("in the child")
                            os.waitpid(child, 0)
                        if job.JobId == 3:
                            subprocess.Popen(["/bin/sh", "-c", "while :; do sleep 1; done", "\(harness.directory.path)"])
                        if job.JobId == 4:
                            child = os.fork()
                            if child == 0:
                                try: job.run("run nightly")
                                except RuntimeError: print("refused", flush=True)
                                os._exit(0)
                            os.waitpid(child, 0)
                        print("parent")
                """)
            try await harness.run { handlers in
                for id in 1...4 as ClosedRange<UInt64> { _ = await handlers.jobStart(EventHarness.job(id)) }
                #expect(host.report(1) == ["0", "parent"])
                #expect(host.report(2).suffix(2) == ["ValueError: in the child", "parent"])
                #expect(host.report(3) == ["parent"])
                #expect(host.report(4) == ["refused", "parent"])
                #expect(host.commands == [])
                try await eventually("interpreter and child are there") { try harness.processes().count == 2 }
            }
            #expect(host.log.contains("handlers: leftover processes of handlers were ended: sh ("))
        }

        @Test(
            "a daemon with a session of its own and an empty environment ends with the interpreter whose handler has started it",
            .enabled(if: TreeWay.obstacle == nil, "needs cgroups"))
        func detached() async throws {
            let began = harness.directory.path.appending("began")
            try harness.install(
                """
                    def JobStart(self, job):
                        subprocess.run(["/usr/bin/setsid", "--fork", "/usr/bin/env", "-i", "/bin/sh", "-c",
                            ": >$0; while :; do sleep 1; done", "\(began)"])
                """)
            try await harness.run { handlers in
                _ = await handlers.jobStart(EventHarness.job(1))
                try await eventually("the daemon runs") { access(began.string, F_OK) == 0 }
            }
            #expect(host.log.contains("handlers: leftover processes of handlers were ended: sh ("))
            #expect(try harness.processes() == [])
        }

        @Test("B8 text in the report becomes lines without terminal control sequences")
        func garbage() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        job.JobReport = "nul \\0 escape \\x1b[31m return \\r bell \\a"
                        job.JobReport = "surrogate \\udcff and \\U0001F600"
                        job.JobReport = ""
                        job.JobReport = "\\n\\n"
                        os.write(2, b"\\xff\\xfe\\0word begin 7 7\\n")
                        job.JobReport = "x" * 10000
                        job.write("\\udcfe")
                        print("\\udcfd")
                        job.Level = "\\udcff"
                """)
            try await harness.run { handlers in
                _ = await handlers.jobStart(EventHarness.job())
                let report = host.report()
                #expect(
                    report.prefix(6) == [
                        #"nul \u{0} escape \u{1b}[31m return \r bell \u{7}"#, #"surrogate \udcff and 😀"#, "", "",
                        "", #"\#u{FFFD}\#u{FFFD}\u{0}word begin 7 7"#,
                    ])
                #expect(report.dropFirst(6).prefix(3).map(\.utf8.count) == [4096, 4096, 1808])
                #expect(report[9] == #"\udcfe\udcfd"#)
                #expect(
                    report.last
                        == #"ValueError: job.Level: '\\udcff' is not a level of a job of type Backup (hourly, daily, weekly)"#
                )
            }
        }

        @Test("B11 many jobs at once: each has its own lines, and no more than one handler runs at a time")
        func manyJobs() async throws {
            try harness.install(
                """
                    running = 0
                    def JobStart(self, job):
                        job.set_events(Job())
                        Events.running += 1
                        print(job.JobId, Events.running); time.sleep(0.001)
                        Events.running -= 1
                    def JobEnd(self, job): print(job.JobId, "ends", len(sys.modules["__main__"]._jobs) <= 40)
                """, job: "    def JobRun(self, job): print(job.JobId, job.run('run nightly'))")
            try await harness.run { handlers in
                await withTaskGroup { tasks in
                    for id in 1...40 as ClosedRange<UInt64> {
                        tasks.addTask {
                            _ = await handlers.jobStart(EventHarness.job(id))
                            _ = await handlers.jobRun(EventHarness.job(id))
                            await handlers.jobEnd(EventHarness.job(id))
                        }
                    }
                }
                for id in 1...40 as ClosedRange<UInt64> {
                    #expect(host.report(id) == ["\(id) 1", "\(id) 99", "\(id) ends True"])
                }
            }
        }

        @Test("B5 the interpreter keeps no job after JobEnd")
        func forgets() async throws {
            try harness.install("    def JobStart(self, job): print(len(sys.modules['__main__']._jobs))")
            try await harness.run { handlers in
                for id in 1...3 as ClosedRange<UInt64> {
                    _ = await handlers.jobStart(EventHarness.job(id))
                    await handlers.jobEnd(EventHarness.job(id))
                    #expect(host.report(id) == ["1"])
                }
            }
        }

        @Test("B8 a handler can write to the report of another job, and cannot set its parameters")
        func otherJob() async throws {
            try harness.install(
                """
                    first = None
                    def JobStart(self, job):
                        if self.first is None: self.first = job; return
                        print("begin")
                        self.first.JobReport = "from the second"
                        print("written", file=self.first)
                        self.first.Priority = 1
                """)
            try await harness.run { handlers in
                for id in 1...2 as ClosedRange<UInt64> { _ = await handlers.jobStart(EventHarness.job(id)) }
                #expect(host.report(1).prefix(2) == ["from the second", "written"])
                #expect(host.report(1).count == 3)
                #expect(host.report(1).last?.hasPrefix("error: job.Priority can be set only") == true)
                #expect(host.report(2).first == "begin")
                #expect(host.report(2).last?.hasPrefix("AttributeError: job.Priority") == true)
            }
        }

        @Test("B11 a handler has no input, and its threads cannot ask the daemon")
        func surroundings() async throws {
            try harness.install(
                """
                    def JobStart(self, job):
                        import threading
                        print(repr(sys.stdin.read()), sorted(os.environ), sys.flags.isolated, os.getcwd())
                        print(sorted(os.path.basename(path) for path in sys.path[:2]))
                        print(os.getsid(0) == os.getpid())
                        def ask():
                            try: job.run("run nightly")
                            except RuntimeError as error: print("refused")
                        thread = threading.Thread(target=ask); thread.start(); thread.join()
                """)
            try await harness.run { handlers in
                _ = await handlers.jobStart(EventHarness.job())
                #expect(
                    host.report() == [
                        "'' ['HOME', 'LANG', 'PATH'] 1 /", "['python', 'scripts']", "True", "refused",
                    ])
                #expect(host.commands == [])
            }
        }

        @Test("B12 a script that is not loaded in time is ended, and the log says so")
        func loadHangs() async throws {
            try harness.write("import time\nprint('loading')\ntime.sleep(100000)\n")
            let loading = {
                try await eventually("it is being loaded") { host.log.contains("handlers: loading") }
                clock.advance(by: limit)
            }
            try await harness.run(clock: clock, whileStarting: loading) { handlers in
                #expect(await !handlers.isActive)
                #expect(host.log.contains("\(harness.script) cannot be loaded: it was not loaded within \(limit)"))
                let processes = try harness.processes()
                #expect(processes == [])
            }
        }

        @Test("B3 the interpreter of a script that registers nothing is ended")
        func registersNothing() async throws {
            try harness.write("import bacula\n")
            try await harness.run { handlers in
                #expect(await !handlers.isActive)
                #expect(host.log.contains("has no handlers, so scripting is off"))
                let processes = try harness.processes()
                #expect(processes == [])
            }
        }

        @Test("B2 an Exit handler that never returns delays the daemon no longer than its limit")
        func exitHangs() async throws {
            try harness.install("    def Exit(self):\n        print('exit')\n        time.sleep(100000)")
            try await harness.run(clock: clock) { handlers in
                #expect(await handlers.isActive)
                async let stopped: Void = handlers.stop()
                try await eventually("Exit is at work") { host.log.contains("handlers: exit") }
                clock.advance(by: limit)
                await stopped
            }
            #expect(host.log.contains("handlers: Exit did not return within \(limit)"))
        }

        @Test(
            "B1 a script that others can write to, or that lies in such a directory, is not run",
            arguments: [true, false])
        func permissions(isScript: Bool) async throws {
            try harness.install("    def JobStart(self, job): print('run')")
            let place = isScript ? harness.script : harness.scripts
            #expect(chmod(place.string, 0o777) == 0)
            try await harness.run { handlers in
                #expect(await !handlers.isActive)
                #expect(host.notices.count == 1)
                #expect(host.log.contains("\(place)"))
                #expect(host.log.contains("chmod go-w \(place): scripting is off"))
            }
        }

        @Test("B1 if python3 is missing one notice says so and how to install it")
        func noPython() async throws {
            try harness.install("    def JobStart(self, job): print('run')")
            try await harness.run(interpreter: "/nowhere/python3") { handlers in #expect(await !handlers.isActive) }
            #expect(host.notices.map(\.level) == [.error])
            #expect(host.log.contains("/nowhere/python3 cannot be executed"))
            #expect(host.log.contains("apt-get install python3"))
        }

        @Test("B1 a module directory that others can change is not used")
        func moduleDirectory() async throws {
            try harness.install("    def JobStart(self, job): print('run')")
            #expect(mkdir(harness.configuration().moduleDirectory.string, 0o700) == 0)
            #expect(chmod(harness.configuration().moduleDirectory.string, 0o777) == 0)
            try await harness.run { handlers in #expect(await !handlers.isActive) }
            #expect(host.log.contains("\(harness.configuration().moduleDirectory): can be written by others"))
        }
    }
}
