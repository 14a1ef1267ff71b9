import EventLoop
import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

@Suite struct JobHistoryTests {
    @Test("everything that is recorded of a job is read back as it was")
    func wholeRecord() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        var killed = Job.Program(arguments: ["/etc/scripts/x", "", "a b"])
        killed.note(
            ScriptFingerprint(
                path: "/etc/scripts/x", resolvedPath: "/srv/scripts/x", device: .max, inode: 1 << 63,
                owner: 12,
                mode: 0o755, size: 99, modified: .seconds(1_700_000_000), sha256: "ab12"))
        let output = CapturedOutput(head: [0, 255, 10], tail: [7], dropped: 1 << 40)
        killed.note(
            ScriptResult(
                termination: .signaled(number: 9), cause: .timeLimit, output: output,
                duration: .microseconds(1_250_000), leftovers: ["sleep (12)", "cat"]))
        var refused = Job.Program(arguments: ["/x"])
        refused.refusal = "not there"
        var story = Story(7)
        history.record(story)
        story = story.now(.waitingForMaximumJobs).began().step("home").step(
            "pre script", program: killed)
        story = story.step("post", program: refused)
        story.job.progress = 40
        history.record(output, ofStep: 1, of: story.job.id)
        history.record("half", of: story)
        history.record(story)
        (story.job.level, story.job.priority) = ("modify", 3)
        story = story.ended(.failed, "no luck: try again")
        history.record(story)

        let read = try #require(try await history.job(story.job.id))
        var expected = story.job
        expected.report = [story.line("half")]
        #expect(read == expected)
        #expect(read.steps[1].script?.output == output)
        #expect(
            read.steps[1].script?.endedBy == "time limit"
                && read.steps[1].script?.termination == "signal 9")
        #expect(read.steps[1].script?.mode == "755" && read.steps[1].script?.seconds == 1.25)
        #expect(try await history.job(JobID(8)) == nil)
        #expect(bench.notices.isEmpty)
        await history.close()
    }

    @Test("a job survives JSON, with its line under the key job and a version")
    func json() throws {
        var job = Story(7).began().step("home", program: Job.Program(arguments: ["/x"])).job
        job.report = [Story(7).line("half")]
        job.output = CapturedOutput(head: [0, 255], tail: [1], dropped: 3)
        (job.step, job.progress, job.seconds, job.reported) = ("work", 3, 1.5, .warnings)
        (job.canceler, job.missing, job.droppedLines) = (.handler, "gone", 2)
        job.meaning = "something else"
        let text = try JSONEncoder().encode(job)
        #expect(try JSONDecoder().decode(Job.self, from: text) == job)
        let line = try JSONDecoder().decode(JobLine.self, from: JSONEncoder().encode(JobLine(job))).job
        #expect(line.meaning == "something else" && line.attempt == 1 && line.started == job.started)
        let top = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
        #expect(top["version"] as? Int == 1)
        #expect((top["job"] as? [String: Any])?["created"] as? String == job.created.text)
    }

    @Test("only its owner can read the file and the other files of SQLite")
    func modes() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        history.record(Story(1))
        await history.flush()
        #expect(try bench.files() == ["history.sqlite", "history.sqlite-shm", "history.sqlite-wal"])
        for name in try bench.files() {
            var status = stat()
            #expect(stat(bench.directory.appending(name).string, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600, "\(name)")
        }
        await history.close()
    }

    @Test("a failure counts until a later job of the same client and level has ended; a cancelled one changes nothing")
    func unresolvedFailures() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        func record(
            _ number: Int, _ client: String, _ result: JobResult?, type: JobType = .backup, level: String = "add"
        ) {
            var story = Story(number, type: type, client: client)
            story.job.level = level
            if let result {
                history.record(whole: story, result, "\(number)")
            } else {
                history.record(story)
            }
        }
        record(1, "fixed", .failed)
        record(2, "fixed", .success)
        record(3, "other level", .wrongConfiguration)
        record(4, "other level", .success, level: "weekly")
        record(5, "again", .failed)
        record(6, "again", .missed)
        record(7, "cancelled", .failed)
        record(8, "cancelled", .aborted)
        record(9, "running", .failed)
        record(10, "running", nil)
        record(11, "provisioned", .failed, type: .provisioning)
        record(12, "warned", .failed)
        record(13, "warned", .warnings)
        let failures = try await history.unresolvedFailures(of: .backup)
        #expect(failures.map(\.id.number) == [3, 6, 7, 9])
        #expect(failures.map(\.message) == ["3", "6", "7", "9"])
        await history.close()
    }

    @Test("5,000 jobs are recorded completely and in order, and every filter finds its own")
    func filters() async throws {
        let bench = try HistoryBench()
        let history = bench.history(retention: HistoryRetention(age: nil, jobs: nil))
        let count = 5_000
        for number in 1...count {
            let story = Story(
                number, type: number % 2 == 0 ? .backup : .provisioning, name: number % 2 == 0 ? "daily" : "add",
                client: "u\(number % 100)")
            if number % 1_000 == 0 {
                history.record(story.began())
            } else {
                history.record(whole: story, number % 50 == 7 ? .failed : .success)
            }
        }
        let all = try await history.jobs(matching: JobFilter(limit: .max))
        #expect(all.map(\.id.number) == (1...UInt64(count)).reversed())
        #expect(try await history.jobs().count == 50)

        func numbers(_ filter: JobFilter) async throws -> [UInt64] {
            var filter = filter
            filter.limit = .max
            return try await history.jobs(matching: filter).map(\.id.number)
        }
        func expected(_ condition: (Int) -> Bool) -> [UInt64] {
            (1...count).reversed().filter(condition).map(UInt64.init)
        }
        func fails(_ number: Int) -> Bool { number % 50 == 7 && number % 1_000 != 0 }
        #expect(try await numbers(JobFilter(client: "u42")) == expected { $0 % 100 == 42 })
        #expect(try await numbers(JobFilter(type: "Backup")) == expected { $0 % 2 == 0 })
        #expect(try await numbers(JobFilter(statuses: "R")) == expected { $0 % 1_000 == 0 })
        #expect(try await numbers(JobFilter(statuses: "Ef")) == expected(fails))
        #expect(
            try await numbers(JobFilter(statuses: "RE"))
                == expected { $0 % 1_000 == 0 || fails($0) })
        #expect(
            try await numbers(
                JobFilter(
                    since: HistoryBench.start + .seconds(500), until: HistoryBench.start + .seconds(600)))
                == expected { (500...600).contains($0) })
        #expect(
            try await numbers(JobFilter(client: "u7", type: "Provisioning", statuses: "E"))
                == expected { $0 % 100 == 7 })
        #expect(try await numbers(JobFilter(client: "absent")) == [])
        await history.close()
    }

    @Test("a query returns everything that was recorded before it, during other records and queries")
    func concurrency() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        let writers = 4
        let each = 250
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<writers {
                group.addTask {
                    for index in 1...each {
                        let story = Story(writer * each + index, client: "w\(writer)")
                        history.record(whole: story)
                        guard index % 50 == 0 else { continue }
                        let seen = try await history.jobs(matching: JobFilter(client: "w\(writer)", limit: .max))
                        #expect(seen.count == index)
                        #expect(seen.allSatisfy { $0.ended != nil })
                    }
                }
            }
            for _ in 0..<2 {
                group.addTask {
                    await history.flush()
                    let reader = try HistoryReader(file: bench.file)
                    var seen = 0
                    while seen < writers * each {
                        await history.flush()
                        let jobs = try reader.jobs(matching: JobFilter(limit: .max))
                        #expect(jobs.count >= seen)
                        seen = jobs.count
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await history.jobs(matching: JobFilter(limit: .max)).count == writers * each)
        #expect(bench.notices.isEmpty)
        await history.close()
    }

    @Test("without a daemon the history can be read, and reading changes nothing")
    func readOnly() async throws {
        let bench = try HistoryBench()
        #expect(throws: HistoryError.self) { try HistoryReader(file: bench.file) }
        let history = bench.history()
        history.record(whole: Story(1))
        history.record(Story(2))
        await history.close()
        let before = try Data(contentsOf: URL(filePath: bench.file.string))
        let reader = try HistoryReader(file: bench.file)
        #expect(try reader.jobs().map(\.id.number) == [2, 1])
        #expect(try reader.job(JobID(1))?.attempts.count == 1)
        #expect(try reader.open().map(\.id.number) == [2])
        #expect(try Data(contentsOf: URL(filePath: bench.file.string)) == before)
        history.record(Story(3))
        await history.flush()
        #expect(try reader.jobs().count == 2)
        await #expect(throws: HistoryError.self) { try await history.jobs() }
    }

    @Test("jobs are recorded while the log cannot be copied into the database, which is done afterwards")
    func checkpoint() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        #expect(try await history.jobs().isEmpty)
        let before = try size(bench.file)
        let (isHeld, release) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        Thread.detachNewThread {
            history.closing.withLock { _ in
                isHeld.signal()
                release.wait()
            }
        }
        await BlockingWork.run { isHeld.wait() }
        for number in 1...400 { history.record(whole: Story(number)) }
        await history.flush()
        #expect(try await history.jobs(matching: JobFilter(limit: .max)).count == 400)
        #expect(try size(bench.file) == before)
        release.signal()
        try await eventually("the log is in the database") { try size(bench.file) > before }
        await history.close()
        #expect(bench.complaints.isEmpty)
    }

    private func size(_ file: FilePath) throws -> Int {
        try #require(try FileManager.default.attributesOfItem(atPath: file.string)[.size] as? Int)
    }

    @Test("a job that is confirmed is in the file: a copy of it at that moment, as a crash leaves it, has the job")
    func confirmed() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        for number in 1...20 {
            let job = Story(number)
            history.record(job)
            try await history.confirm([job.job.id])
            let copy = bench.directory.appending("copy-\(number)")
            try FileManager.default.createDirectory(
                atPath: copy.string, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
            for suffix in ["", "-wal"] {
                try FileManager.default.copyItem(
                    atPath: bench.file.string + suffix, toPath: copy.appending("history.sqlite" + suffix).string)
            }
            let revived = bench.history(file: copy.appending("history.sqlite"))
            #expect(try await revived.unfinished().map(\.id.number) == Array(1...UInt64(number)))
            await revived.close()
        }
        await history.close()
    }

    @Test("a job that is not in the file is not confirmed, and the error has the reason")
    func unconfirmed() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        let known = Story(1)
        history.record(known)
        await #expect(throws: HistoryError.self) {
            try await history.confirm([known.job.id, JobID(2)])
        }
        try await history.confirm([known.job.id])
        await history.close()

        #expect(chmod(bench.directory.string, 0o777) == 0)
        let refused = bench.history()
        refused.record(Story(3))
        let error = await #expect(throws: HistoryError.self) { try await refused.confirm([JobID(3)]) }
        #expect(error?.description.contains("chmod go-w") ?? false)
        await refused.close()
    }

    @Test("numbers continue after the newest recorded job when the file with the next one is lost")
    func lostNumbers() async throws {
        let bench = try HistoryBench()
        let before = bench.history()
        for number in [3, 5_000] { before.record(whole: Story(number)) }
        await before.close()
        let numbers = bench.directory.appending("job-number")
        let ids = try JobIDSource(file: numbers)
        let history = bench.history(ids: ids)
        #expect(try await history.unfinished().isEmpty)
        #expect(try await ids.next() == JobID(5_001))
        #expect(try await JobIDSource(file: numbers).next() > JobID(5_001))
        await history.close()
    }

    @Test("a job with the number of another one replaces its record as a whole, with one notice")
    func numberOfAnother() async throws {
        let bench = try HistoryBench()
        let before = bench.history()
        before.record(whole: Story(1, type: .backup, client: "earlier"), .failed, "no luck")
        await before.close()

        let history = bench.history()
        let later = Story(1, client: "later", created: HistoryBench.start + .seconds(100))
        history.record(whole: later)
        let read = try #require(try await history.job(JobID(1)))
        #expect(read.client == "later" && read.type == .provisioning && read.created == later.job.created)
        #expect(read.report == [later.line("line")])
        #expect(try await history.jobs(matching: JobFilter(client: "earlier")).isEmpty)
        #expect(try await history.jobs(matching: JobFilter(client: "later")).count == 1)
        history.record("late", of: later)
        history.record(later.began().ended(.warnings))
        #expect(try await history.job(JobID(1))?.result == .warnings)
        #expect(bench.complaints.map(\.job) == [JobID(1)], "\(bench.complaints)")
        #expect(bench.complaints.first?.text.contains("Backup of earlier") == true, "\(bench.complaints)")
        await history.close()
    }

    @Test(
        "lines of a job that was never recorded are dropped, without harm to the others; late ones are recorded"
    )
    func unknownJob() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        history.record("of no job", of: Story(1))
        history.record(whole: Story(2))
        await history.flush()
        history.record("late", of: Story(2))
        #expect(try await history.jobs().map(\.id.number) == [2])
        #expect(try await history.job(JobID(2))?.report.map(\.text) == ["line", "late"])
        await history.close()
    }

    @Test(
        "the start of an attempt is in the file before its work begins, and the work also begins while nothing can be recorded"
    )
    func startOfAttempt() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        let job = Story(1).job
        let executor = JobExecutor(registry: JobRegistry(recorder: history))
        _ = await executor.open(job)
        let outcome = try await executor.attempt(job, number: 2) { _ in
            // The files after a crash at this moment.
            let copy = bench.directory.appending("copy")
            try FileManager.default.createDirectory(
                atPath: copy.string, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
            for suffix in ["", "-wal"] {
                try FileManager.default.copyItem(
                    atPath: bench.file.string + suffix, toPath: copy.appending("history.sqlite" + suffix).string)
            }
            let revived = bench.history(file: copy.appending("history.sqlite"))
            let left = try #require(try await revived.job(job.id))
            #expect(left.attempts.map(\.number) == [2] && left.attempts.map(\.fate) == [.lost])
            await revived.close()
            return .success
        }
        #expect(outcome == .success)
        await history.close()
        #expect(try await executor.attempt(job, number: 3) { _ in .success } == .success)
    }
}
