import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

@Suite struct JobHistoryTests {
    @Test("everything that is recorded of a job is read back as it was")
    func course() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        let story = Story(7)
        let identity = ScriptIdentity(
            path: "/etc/scripts/x", resolvedPath: "/srv/scripts/x", device: .max, inode: 1 << 63, owner: 12,
            mode: 0o755,
            size: 99, modified: .microseconds(1_700_000_000_123_456), sha256: "ab12")
        let output = CapturedOutput(head: [0, 255, 10], tail: [7], dropped: 1 << 40)
        let killed = ScriptRun(
            identity: identity, arguments: ["/etc/scripts/x", "", "a b"],
            ended: ScriptResult(
                termination: .signaled(number: 9), cause: .timeLimit, output: output,
                duration: .microseconds(1_234_567),
                survivors: ["sleep (12)", "cat"]))
        let refused = ScriptRun(identity: nil, arguments: ["/x"], refusal: "not there")
        let outcome = JobOutcome(
            .failed, failureClass: .retryable, message: "no luck: try again", termination: .exited(code: 75))
        history.record(
            [story.opened, story.change(.status(.waitingForMaximumJobs))] + story.began()
                + [
                    story.step("home"), story.step("pre script", script: killed), story.step("post", script: refused),
                    story.change(.progress(40)), story.change(.reported(ReportLine(.reporter, "half")), 3),
                ])
        var altered = story.job
        altered.level = "modify"
        altered.priority = 3
        history.record([story.change(.altered(altered))] + story.ended(outcome))

        let course = try #require(try await history.job(story.job.id))
        let ending = RecordedEnding(
            result: .failed, failureClass: .retryable, message: "no luck: try again", exitCode: 75)
        #expect(
            course.job
                == RecordedJob(
                    id: JobID(7), type: .provisioning, name: "add", level: "modify", subject: "subject-u1",
                    client: "u1",
                    priority: 3, created: story.job.created, status: .terminatedWithErrors, progress: 40, attempts: 1,
                    interruptions: 0,
                    began: course.attempts.first?.began,
                    ended: story.job.created + .seconds(5), ending: ending))
        #expect(course.statuses.map(\.status) == [.waitingForMaximumJobs, .running, .terminatedWithErrors])
        #expect(
            course.report == [RecordedLine(time: story.job.created + .seconds(3), source: .reporter, text: "half")])
        let attempt = try #require(course.attempts.first)
        #expect(course.attempts.count == 1)
        #expect(attempt.fate == .ended)
        #expect((attempt.pre, attempt.post) == (.successful, .failed))
        #expect(attempt.ending == ending)
        #expect(attempt.steps.map(\.name) == ["home", "pre script", "post"])
        #expect(attempt.steps.map(\.microseconds) == [1_500_000, 1_500_000, 1_500_000])
        #expect(attempt.steps[0].program == nil)
        #expect(attempt.steps[2].program == RecordedProgram(arguments: ["/x"], refusal: "not there"))
        let program = try #require(attempt.steps[1].program)
        #expect(program.arguments == killed.arguments)
        #expect(
            program.file
                == RecordedFile(
                    path: "/etc/scripts/x", resolvedPath: "/srv/scripts/x", device: .max, inode: 1 << 63, owner: 12,
                    mode: 0o755, size: 99,
                    modified: WallTime(nanosecondsSince1970: 1_700_000_000_123_456_000), sha256: "ab12"))
        #expect(
            program.end
                == RecordedEnd(
                    signal: 9, cause: .timeLimit, microseconds: 1_234_567, survivors: ["sleep (12)", "cat"],
                    output: output))
        #expect(try await history.job(JobID(8)) == nil)
        #expect(bench.notices.isEmpty)

        let text = try JSONEncoder().encode(course)
        let again = try JSONDecoder().decode(RecordedCourse.self, from: text)
        #expect(again.job == course.job)
        #expect(again.statuses == course.statuses)
        await history.close()
    }

    @Test("the file is for its owner alone, and so is what SQLite keeps beside it")
    func modes() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        history.record(Story(1).opened)
        await history.flush()
        #expect(try bench.files() == ["history.sqlite", "history.sqlite-shm", "history.sqlite-wal"])
        for name in try bench.files() {
            var status = stat()
            #expect(stat(bench.folder.appending(name).string, &status) == 0)
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
            history.record(result.map { story.whole(JobOutcome($0, message: "\(number)")) } ?? [story.opened])
        }
        record(1, "mended", .failed)
        record(2, "mended", .success)
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
        #expect(failures.map(\.ending?.message) == ["3", "6", "7", "9"])
        await history.close()
    }

    @Test("20,000 jobs are recorded completely and in order, and every filter finds its own")
    func filters() async throws {
        let bench = try HistoryBench()
        let history = bench.history(retention: HistoryRetention(age: nil, jobs: nil))
        let count = 20_000
        for number in 1...count {
            // More at once than the buffer holds would be thinned out.
            if number % 2_000 == 0 { await history.flush() }
            let story = Story(
                number, type: number % 2 == 0 ? .backup : .provisioning, name: number % 2 == 0 ? "daily" : "add",
                client: "u\(number % 100)")
            if number % 1_000 == 0 {
                history.record([story.opened] + story.began())
            } else {
                history.record(story.whole(number % 50 == 7 ? JobOutcome(.failed, message: "no") : .success))
            }
        }
        let all = try await history.jobs(matching: JobFilter(limit: .max))
        #expect(all.map(\.id.number) == (1...UInt64(count)).reversed())
        #expect(try await history.jobs().count == 100)

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
        #expect(try await numbers(JobFilter(type: .backup)) == expected { $0 % 2 == 0 })
        #expect(try await numbers(JobFilter(name: "add")) == expected { $0 % 2 == 1 })
        #expect(try await numbers(JobFilter(statuses: [.running])) == expected { $0 % 1_000 == 0 })
        #expect(try await numbers(JobFilter(statuses: [.terminatedWithErrors, .fatalError])) == expected(fails))
        #expect(
            try await numbers(JobFilter(statuses: [.running, .terminatedWithErrors]))
                == expected { $0 % 1_000 == 0 || fails($0) })
        #expect(try await numbers(JobFilter(results: [.failed])) == expected(fails))
        #expect(try await numbers(JobFilter(results: [.missed])) == [])
        #expect(
            try await numbers(
                JobFilter(since: HistoryBench.start + .seconds(500), until: HistoryBench.start + .seconds(600)))
                == expected { (500..<600).contains($0) })
        #expect(
            try await numbers(JobFilter(client: "u7", type: .provisioning, results: [.failed]))
                == expected { $0 % 100 == 7 })
        #expect(try await numbers(JobFilter(client: "nobody")) == [])
        #expect(try await history.last(client: "u42")?.id.number == 19_942)
        #expect(try await history.last(client: "nobody") == nil)
        await history.close()
    }

    @Test("pages follow each other without gap or repetition, and whoever follows misses nothing")
    func paging() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        for number in 1...95 { history.record(Story(number).whole()) }
        var pages: [UInt64] = []
        var filter = JobFilter(limit: 20)
        while true {
            let page = try await history.jobs(matching: filter)
            guard let last = page.last else { break }
            pages += page.map(\.id.number)
            filter.before = last.id
        }
        #expect(pages == (1...95).reversed())
        let next = try await history.jobs(matching: JobFilter(after: JobID(50), limit: 10))
        #expect(next.map(\.id.number) == (51...60).reversed())
        #expect(try await history.jobs(matching: JobFilter(after: JobID(95))).isEmpty)
        await history.close()
    }

    @Test("a question sees everything that was recorded before it, while others record and ask")
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
                        history.record(story.whole())
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
                        let jobs = try await reader.jobs(matching: JobFilter(limit: .max))
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
        history.record(Story(1).whole())
        history.record(Story(2).opened)
        await history.close()
        let before = try Data(contentsOf: URL(filePath: bench.file.string))
        let reader = try HistoryReader(file: bench.file)
        #expect(try await reader.jobs().map(\.id.number) == [2, 1])
        #expect(try await reader.job(JobID(1))?.attempts.count == 1)
        #expect(try await reader.unfinished().map(\.id.number) == [2])
        #expect(try Data(contentsOf: URL(filePath: bench.file.string)) == before)
        history.record(Story(3).opened)
        await history.flush()
        #expect(try await reader.jobs().count == 2)
        await #expect(throws: HistoryError.self) { try await history.jobs() }
    }

    @Test("a job that is confirmed is in the file: a copy of it at that moment, as a crash leaves it, has the job")
    func confirmed() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        for number in 1...20 {
            let job = Story(number)
            history.record(job.opened)
            try await history.confirm([job.job.id])
            let copy = bench.folder.appending("copy-\(number)")
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

    @Test("a job that is not in the file is not confirmed, and the reason is told")
    func unconfirmed() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        let known = Story(1)
        history.record(known.opened)
        await #expect(throws: HistoryError.self) { try await history.confirm([known.job.id, JobID(2)]) }
        try await history.confirm([known.job.id])
        await history.close()

        #expect(chmod(bench.folder.string, 0o777) == 0)
        let refused = bench.history()
        refused.record(Story(3).opened)
        let error = await #expect(throws: HistoryError.self) { try await refused.confirm([JobID(3)]) }
        #expect(error?.description.contains("chmod go-w") ?? false)
        await refused.close()
    }

    @Test("changes of a job that was never opened are left out, without harm to the others")
    func unknownJob() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        history.record(Story(1).ended())
        history.record(Story(2).whole())
        history.record(Story(2).change(.reported(ReportLine(.handler, "late"))))
        #expect(try await history.jobs().map(\.id.number) == [2])
        #expect(try await history.job(JobID(2))?.report.map(\.text) == ["line", "late"])
        await history.close()
    }

    @Test(
        "the start of an attempt is in the file before its work begins, and where nothing can be recorded the work begins too"
    )
    func startOfAttempt() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        let job = Story(1).job
        let executor = JobExecutor(board: JobBoard(recorder: history))
        _ = await executor.open(job)
        let outcome = try await executor.attempt(job, number: 2) { _ in
            // What a crash at this moment leaves.
            let copy = bench.folder.appending("copy")
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
