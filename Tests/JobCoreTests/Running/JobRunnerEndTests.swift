import Foundation
import Synchronization
import TestSupport
import Testing

@testable import JobCore

/// A job that is cancelled, waited for or stopped just where one stage of its life passes into the next.
@Suite struct JobRunnerEndTests {
    @Test(
        "a stop waits for the handlers of a job that has ended: it is closed, not continued at the next start")
    func stopWhileEnding() async throws {
        let bench = try JobBench()
        let events = try EventHarness()
        try events.install(
            """
                def JobStart(self, job): pass
                def JobEnd(self, job):
                    open('\(bench.directory)/ending', 'w').close()
                    while not os.path.exists('\(bench.directory)/go'): time.sleep(0.01)
            """)
        try await events.run { handlers in
            var executor = bench.executor()
            executor.events = handlers
            let runner = JobRunner(
                executor: { [executor] in executor }, ids: bench.ids, scheduler: JobScheduler(), slots: { 1 })
            let job = try #require(try await runner.submit(bench.request { _ in .success }))
            try await eventually("its handlers hear of its end") { bench.exists("ending") }
            let outcome = Task { await job.outcome() }
            let stopped = Task {
                await runner.stop(grace: .seconds(60))
                #expect(bench.recorder.records.last?.result == .success)
            }
            await Task.yield()
            try bench.touch("go")
            await stopped.value
            #expect(await outcome.value == .success)
        }
    }

    @Test("a job whose handlers are called when the daemon stops is accepted, and left open for the next start")
    func stopWhileOpening() async throws {
        let bench = try JobBench()
        let events = try EventHarness()
        try events.install(
            """
                def JobStart(self, job):
                    open('\(bench.directory)/beginning', 'w').close()
                    while not os.path.exists('\(bench.directory)/go'): time.sleep(0.01)
            """)
        try await events.run { handlers in
            var executor = bench.executor()
            executor.events = handlers
            let runner = JobRunner(
                executor: { [executor] in executor }, ids: bench.ids, scheduler: JobScheduler(), slots: { 1 })
            let submission = Task {
                try await runner.submit(
                    bench.request { _ in
                        Issue.record("it runs although the daemon stops")
                        return .success
                    })
            }
            try await eventually("its handlers hear of its beginning") { bench.exists("beginning") }
            await runner.stop(grace: .zero)
            try bench.touch("go")
            let job = try #require(try await submission.value)
            #expect(await job.outcome() == nil)
            #expect(bench.recorder.job(job.id)?.isOpen == true)
            #expect(await bench.registry.live().isEmpty)
            #expect(try await runner.submit(bench.request("later") { _ in .success }) == nil)
            #expect(bench.recorder.opened == [job.id])
        }
    }

    private static func request(
        _ bench: JobBench, attempts: Int = 1, _ interruption: InterruptionPolicy = .repeats,
        delay: Duration = .milliseconds(1), work: @escaping JobRequest.Work
    ) -> JobRequest {
        var request = bench.request("job", subject: "account", attempts: attempts, work: work)
        request.interruption = interruption
        request.retry = { RetryPolicy(maximumAttempts: attempts, delay: delay, maximumDelay: delay) }
        return request
    }

    @Test("an interrupted attempt is repeated, with hooks and all, and does not count among those that failed")
    func interrupted() async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "echo pre >> hooks")
        let runner = bench.runner(
            JobPolicy(hooks: bench.directory, skipsJob: true, timeLimit: .seconds(60)))
        let gate = Gate()
        let request = Self.request(bench) { attempt in
            if attempt.number == 1 {
                try bench.touch("works")
                await gate.pass()
            }
            try Task.checkCancellation()
            return .success
        }
        let job = try #require(try await runner.submit(request))
        try await eventually("the pre script is done and the job works") { bench.exists("works") }
        await runner.interrupt(try await bench.ids.next())
        await runner.interrupt(job.id)
        #expect(await job.outcome() == .success)
        #expect(bench.recorder.job(job.id)?.attempts.map(\.fate) == [.cutOff, .ended])
        #expect(try bench.lines("hooks").count == 2)
    }

    @Test(
        "an attempt whose resource is stopped counts as interrupted, and not as cancelled by an operator; it is repeated a second later"
    )
    func cutUnderneath() async throws {
        let clock = ManualClock(Timestamp(secondsSince1970: 1_800_000_000))
        let bench = try JobBench(clock: clock)
        let runner = bench.runner()
        let request = Self.request(bench) { attempt in
            if attempt.number == 1 { throw CancellationError() }
            return .success
        }
        let job = try #require(try await runner.submit(request))
        let next = clock.now + .seconds(1)
        try await eventually("it waits for a second") { clock.deadlines.contains(next) }
        clock.advance(to: next)
        #expect(await job.outcome() == .success)
    }

    @Test("the failed attempts of a resumed job count, and the interrupted ones do not")
    func failuresBeforeRestart() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let request = Self.request(bench, attempts: 2) { _ in
            JobOutcome(.failed, failureClass: .retryable)
        }
        let left = try await bench.left(.lost, .ended, .cutOff)
        let job = try #require(try await runner.submit(request, resuming: left))
        #expect(await job.outcome()?.result == .failed)
        #expect(bench.recorder.job(job.id)?.attempts.map(\.number) == [1, 2, 3, 4])
    }

    @Test("an interrupted job is repeated after a delay")
    func waitsAfterInterruption() async throws {
        let clock = ManualClock(Timestamp(secondsSince1970: 1_800_000_000))
        let bench = try JobBench(clock: clock)
        let runner = bench.runner()
        let request = Self.request(bench, delay: .seconds(60)) { _ in
            try await clock.sleep(until: .distantFuture)
            return .success
        }
        let start = clock.now
        let job = try #require(try await runner.submit(request, resuming: try await bench.left(.lost)))
        #expect(await bench.registry.live(job.id)?.status == .waitingForStartTime)
        let due = try #require(clock.deadlines.first)
        #expect(due >= start + .seconds(30) && due <= start + .seconds(60))
        clock.advance(to: due)
        try await eventually("it runs again") { await bench.registry.live(job.id)?.status == .running }
        await runner.stop(grace: .zero)
    }

    @Test(
        "work whose outcome was certain is not done again when the daemon ended before the job was closed, also when it had failed",
        arguments: [JobResult.success, .warnings, .failed, nil])
    func endedBeforeClosing(result: JobResult?) async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let repetitions = Mutex(0)
        let request = Self.request(bench) { _ in
            repetitions.withLock { $0 += 1 }
            return .success
        }
        var left = try await bench.left(.ended)
        (left.result, left.message) = (result, result == nil ? "" : "as it ended")
        // As a process that ended while it resumed the job has recorded it.
        let job = try #require(try await runner.submit(request, resuming: left.reopened))
        let outcome = await job.outcome()
        #expect(repetitions.withLock(\.self) == (result == nil ? 1 : 0))
        #expect(outcome == (result.map { JobOutcome($0, message: "as it ended") } ?? .success))
    }

    @Test("a job that is not to be repeated fails when it was interrupted, and runs when it had not begun")
    func notRepeated() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let gate = Gate()
        let request = Self.request(bench, .fails) { _ in
            await gate.pass()
            return .success
        }
        let begun = try #require(try await runner.submit(request, resuming: try await bench.left(.cutOff)))
        #expect(await begun.outcome()?.result == .failed)
        let new = try await bench.job()
        let waiting = try #require(try await runner.submit(request, resuming: new))
        #expect(try await runner.submit(request, resuming: new) === waiting, "it is resumed once")
        gate.open()
        #expect(await waiting.outcome() == .success)
    }

    @Test("a resumed job whose last attempt had failed does not count as interrupted, also if earlier ones were")
    func failedAfterInterruption() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let request = Self.request(bench, attempts: 2, .fails) { _ in .success }
        let left = try await bench.left(.lost, .ended)
        let job = try #require(try await runner.submit(request, resuming: left))
        #expect(await job.outcome() == .success)
        #expect(bench.recorder.job(job.id)?.attempts.map(\.number) == [1, 2, 3])
    }

    @Test("a cancelled caller does not wait for the job any more; the job continues")
    func waiterIsCanceled() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let gate = Gate()
        let job = try #require(
            try await runner.submit(
                bench.request { _ in
                    await gate.pass()
                    return .success
                }))
        let waiter = Task { await job.outcome() }
        waiter.cancel()
        #expect(await waiter.value == nil)
        let other = Task { await job.outcome() }
        gate.open()
        #expect(await other.value == .success)
        try await eventually("it has ended") { await bench.registry.live(job.id) == nil }
        #expect(await job.outcome() == .success, "it is known also to those who ask after the end")
        #expect(bench.letters(of: job.id) == "RT")
    }

    @Test("a job that waits for its subject is cancelled twice, and the next job runs")
    func cancelParked() async throws {
        let bench = try JobBench()
        let gate = Gate()
        let scheduler = JobScheduler()
        let other = bench.runner(scheduler: scheduler)
        let own = bench.runner(slots: 1, scheduler: scheduler)
        let holder = try #require(
            try await other.submit(
                bench.request("holder", subject: "account") { _ in
                    await gate.pass()
                    return .success
                }))
        try await eventually("it runs") { await bench.registry.live(holder.id)?.status == .running }
        let parked = try #require(
            try await own.submit(
                bench.request("parked", subject: "account") { _ in
                    Issue.record("it was cancelled")
                    return .success
                }))
        #expect(await bench.registry.live(parked.id)?.status == .waitingForClientResource)
        #expect(await bench.registry.cancel(parked.id))
        await bench.registry.cancel(parked.id)
        try await eventually("it is closed") { await bench.registry.live(parked.id) == nil }
        let next = try #require(try await own.submit(bench.request("next", subject: "account") { _ in .success }))
        #expect(await bench.registry.live(next.id)?.status == .waitingForClientResource)
        gate.open()
        try await eventually("the next has run") { await bench.registry.live(next.id) == nil }
        #expect(bench.letters(of: parked.id) == "cA")
        #expect(bench.letters(of: next.id) == "cRT")
    }

    @Test("a retryable failure of a job that is cancelled before it waits for its next attempt ends as cancelled")
    func canceledAfterAttempt() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let request = bench.request(attempts: 3) { attempt in
            // The attempt has its outcome before the cancellation arrives.
            await bench.registry.whenCanceled(attempt.job.id) {}
            await bench.registry.cancel(attempt.job.id)
            return JobOutcome(.failed, failureClass: .retryable, message: "not yet")
        }
        let job = try #require(try await runner.submit(request))
        try await eventually("it is closed") { await bench.registry.live(job.id) == nil }
        #expect(bench.letters(of: job.id) == "RA")
    }

    @Test(
        "a stop is bounded: a job that does not end when it is cancelled is logged by name, and stays open"
    )
    func deafJob() async throws {
        let bench = try JobBench()
        let runner = bench.runner(slots: 1)
        let (waiting, release) = AsyncStream<Never>.makeStream()
        let deaf = try #require(
            try await runner.submit(
                bench.request("deaf") { _ in
                    // A task of its own is not cancelled with the job's.
                    await Task { for await _ in waiting {} }.value
                    return .success
                }))
        try await eventually("it runs") { await bench.registry.live(deaf.id)?.status == .running }
        let queued = try #require(try await runner.submit(bench.request("queued") { _ in .success }))
        await runner.stop(grace: .milliseconds(1), cancelTimeout: .milliseconds(1))
        let notices = bench.notices.withLock { $0 }
        #expect(notices.map(\.job) == [deaf.id])
        #expect(notices.allSatisfy { $0.level == .error && $0.text.contains("deaf.\(deaf.id)") })
        #expect(bench.recorder.closed.isEmpty)
        #expect(await bench.registry.live().isEmpty)
        release.finish()
        #expect(bench.letters(of: queued.id) == "d")
    }

    @Test("a job that a stop cancels has ended when the stop returns")
    func cutOff() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let hasCleanedUp = Mutex(false)
        let job = try #require(
            try await runner.submit(
                bench.request { _ in
                    do { try await Task.sleep(for: .seconds(3_600)) } catch {
                        for _ in 0..<100 { await Task.yield() }
                        hasCleanedUp.withLock { $0 = true }
                    }
                    return .success
                }))
        try await eventually("it runs") { await bench.registry.live(job.id)?.status == .running }
        await runner.stop(grace: .milliseconds(1), cancelTimeout: .seconds(3_600))
        #expect(hasCleanedUp.withLock { $0 })
        #expect(bench.notices.withLock { $0.isEmpty })
    }
}
