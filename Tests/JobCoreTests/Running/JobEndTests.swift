import Glibc
import TestSupport
import Testing

@testable import JobCore

/// Every job that ends is told of once, whichever way it came to its end.
@Suite struct JobEndTests {
    private let clock = ManualClock(Timestamp(secondsSince1970: 1_800_000_000))

    private func job(_ number: UInt64 = 1) -> Job {
        Job(
            id: JobID(number), type: .admin, name: "job", subject: JobSubject("job"), client: "job",
            created: clock.now)
    }

    private func withRegistry(_ body: (JobRegistry) async throws -> Void) async rethrows -> [Job] {
        let ends = EndRecorder()
        try await body(JobRegistry(clock: clock) { ends.add($0, scriptFailures: $1) })
        return ends.all
    }

    @Test("the duration begins with the first attempt, or without one with the submission")
    func duration() async {
        let ends = await withRegistry { registry in
            await registry.open(job(1))
            await registry.open(job(2))
            clock.advance(to: clock.now + .seconds(10))
            _ = await registry.beginAttempt(JobID(1), number: 1)
            clock.advance(to: clock.now + .seconds(5))
            await registry.endAttempt(JobID(1), nil)
            _ = await registry.beginAttempt(JobID(1), number: 2)
            clock.advance(to: clock.now + .seconds(1))
            await registry.close(JobID(1), .success)
            await registry.close(JobID(2), JobOutcome(.failed, message: "lost"))
            await registry.close(JobID(2), .success)
        }
        #expect(ends.map(\.id) == [JobID(1), JobID(2)])
        #expect(ends.map(\.seconds) == [6, 16])
        #expect(ends.map(\.result) == [.success, .failed])
        #expect(ends.allSatisfy { $0.ended == clock.now && !$0.isCanceled })
    }

    @Test("the end of a job tells what its script has reported")
    func reported() async throws {
        let ends = try await withRegistry { registry in
            await registry.open(job())
            let token = await registry.beginAttempt(JobID(1), number: 1)
            try await registry.report(.finished(2), token: token.text, user: geteuid())
            await registry.endAttempt(JobID(1), nil)
            await registry.close(JobID(1), JobOutcome(.aborted))
        }
        #expect(ends.map(\.reported) == [.aborted])
    }

    @Test("open jobs are found by their subject; of many those that run come first")
    @MainActor func found() {
        let registry = JobRegistry(clock: clock)
        func numbers(_ jobs: [Job]) -> [UInt64] { jobs.map(\.id.number) }
        for number: UInt64 in [7, 3, 5, 4] {
            let subject = JobSubject(number == 4 ? "other" : "same")
            registry.open(
                Job(
                    id: JobID(number), type: .admin, name: "job", subject: subject, client: "job", created: clock.now))
        }
        _ = registry.beginAttempt(JobID(5), number: 1)
        #expect(numbers(registry.live(with: JobSubject("same"))) == [3, 5, 7])
        #expect(numbers(registry.live(most: 3)) == [5, 3, 4] && registry.count == 4)
        registry.close(JobID(5), .success)
        registry.forget(JobID(3))
        registry.close(JobID(4), .success)
        #expect(numbers(registry.live(with: JobSubject("same"))) == [7])
        #expect(registry.live(with: JobSubject("other")).isEmpty && registry.count == 1)
    }

    @Test("a job that continues at the next start has not ended")
    func forgotten() async {
        let ends = await withRegistry { registry in
            await registry.open(job())
            await registry.forget(JobID(1))
        }
        #expect(ends.isEmpty)
    }

    @Test("a job that an operator cancelled is marked, also when a later start closes it")
    func cancelled() async {
        let ends = await withRegistry { registry in
            await registry.open(job(1))
            await registry.cancel(JobID(1))
            await registry.close(JobID(1), JobOutcome(.failed))
            await registry.open(job(2))
            await registry.close(JobID(2), .canceled)
            await registry.open(job(3))
            await registry.close(JobID(3), JobOutcome(.aborted, message: "by itself"))
        }
        #expect(ends.map(\.isCanceled) == [true, true, false])
    }

    @Test("a job that an event handler cancelled names it, also when a later start closes it")
    func cancelledByHandler() async {
        let ends = await withRegistry { registry in
            await registry.open(job(1))
            await registry.cancel(JobID(1), by: .handler)
            // The first one counts.
            await registry.cancel(JobID(1))
            #expect(await registry.cancellation(of: JobID(1)) == .canceled(by: .handler))
            await registry.close(JobID(1), .canceled(by: .handler))
            await registry.open(job(2))
            await registry.close(JobID(2), .canceled(by: .handler))
        }
        #expect(ends.map(\.canceler) == [.handler, .handler])
        #expect(ends.allSatisfy { $0.message != JobOutcome.canceled.message && $0.status == .canceled })
    }

    @Test("a full report keeps the daemon's own lines, up to as many again, and counts the rest")
    func longReport() async {
        let registry = JobRegistry(clock: clock)
        await registry.open(job(1))
        for number in 1...JobRegistry.longestReport + 3 {
            await registry.write("\(number)", to: JobID(1), source: number % 2 == 0 ? .handler : .reporter)
        }
        await registry.write("left processes behind", to: JobID(1), source: .daemon)
        let full = await registry.live(JobID(1))
        #expect(full?.report.count == JobRegistry.longestReport + 1 && full?.droppedLines == 3)
        #expect(full?.report.last?.source == .daemon)
        for number in 1...JobRegistry.longestReport { await registry.write("\(number)", to: JobID(1), source: .daemon) }
        #expect(await registry.live(JobID(1))?.report.count == 2 * JobRegistry.longestReport)
        #expect(await registry.live(JobID(1))?.droppedLines == 4)
    }

    @Test("a runner's jobs end by success, failure after retries, and cancelling while they wait")
    func runner() async throws {
        let bench = try JobBench()
        let runner = bench.runner(slots: 1)
        let gate = Gate()
        let first = try #require(
            try await runner.submit(
                bench.request("first") { _ in
                    await gate.pass()
                    return .success
                }))
        let waiting = try #require(try await runner.submit(bench.request("waiting") { _ in .success }))
        await bench.registry.cancel(waiting.id)
        #expect(await waiting.outcome()?.result == .aborted)
        gate.open()
        #expect(await first.outcome() == .success)
        let failing = try #require(
            try await runner.submit(
                bench.request("failing", attempts: 3) { _ in JobOutcome(.failed, failureClass: .retryable) }))
        #expect(await failing.outcome()?.result == .failed)
        #expect(bench.ends.all.map(\.id) == [waiting.id, first.id, failing.id])
        #expect(bench.ends.all.map(\.isCanceled) == [true, false, false])
    }

    @Test("the record of a job that is tried again and again keeps its first attempt and the newest ones")
    func longCourse() async {
        let registry = JobRegistry(clock: clock)
        await registry.open(job(1))
        let many = JobRegistry.longestCourse + 10
        for number in 1...many {
            _ = await registry.beginAttempt(JobID(1), number: number)
            await registry.stepEnded(
                JobID(1), Job.Step(name: "work", attempt: number, began: clock.now, seconds: 0, result: .failed))
            await registry.status(JobID(1), .waitingForStartTime)
            await registry.endAttempt(JobID(1), nil)
        }
        let record = await registry.live(JobID(1))
        #expect(record?.attempts.count == JobRegistry.longestCourse && record?.attempt == many)
        #expect(record?.attempts.first?.number == 1 && record?.attempts.last?.number == many)
        #expect(record?.steps.count == JobRegistry.longestCourse)
        #expect(record?.statuses.count == JobRegistry.longestCourse)
    }
}
