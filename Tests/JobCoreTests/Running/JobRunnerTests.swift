import Foundation
import Synchronization
import TestSupport
import Testing

@testable import JobCore

/// A job type of its own, driven by the core alone: this is also the example of how a daemon uses it.
@Suite struct JobRunnerTests {
    @Test(
        "1,000 jobs with 8 slots: never two at once for one subject, never more than 8, by priority among the waiting")
    func thousandJobs() async throws {
        struct Watch {
            var running: Set<String> = []
            var most = 0
            var overlaps = 0
            var order: [Int] = []
        }
        let bench = try JobBench()
        let runner = bench.runner(slots: 8)
        let watch = Mutex(Watch())
        let gate = Gate()
        var generator = SeededGenerator(seed: 7)
        var jobs: [SubmittedJob] = []
        // Eight hold the slots while the others are taken in, so that all of those wait.
        for place in 0..<8 {
            jobs.append(
                try #require(
                    try await runner.submit(
                        bench.request("holder \(place)") { _ in
                            await gate.pass()
                            return .success
                        })))
        }
        for place in 0..<992 {
            let subject = "subject \(Int.random(in: 0..<60, using: &generator))"
            let priority = Int.random(in: 1...20, using: &generator)
            let job = try await runner.submit(
                bench.request("job \(place)", subject: subject, priority: priority) { _ in
                    watch.withLock { watch in
                        if !watch.running.insert(subject).inserted { watch.overlaps += 1 }
                        watch.most = max(watch.most, watch.running.count)
                        watch.order.append(priority)
                    }
                    await Task.yield()
                    watch.withLock { _ = $0.running.remove(subject) }
                    return .success
                })
            jobs.append(try #require(job))
        }
        #expect(await bench.registry.live().count == 1_000)
        gate.open()
        for job in jobs { _ = await job.outcome() }
        let seen = watch.withLock { $0 }
        #expect(seen.order.count == 992)
        #expect(seen.overlaps == 0)
        #expect((2...8).contains(seen.most))
        // A subject that is busy lets less urgent ones go first; beyond what the slots can hold that way nothing is out of order.
        let inversions = zip(seen.order, seen.order.dropFirst()).filter { $0 > $1 }.count
        #expect(inversions < 992 / 4, "\(inversions) of 991 neighbours are out of order")
        #expect(await bench.registry.live().isEmpty)
    }

    @Test(
        "with a subject for each, jobs start strictly by priority and within one priority in the order of their submission"
    )
    func strictOrder() async throws {
        let bench = try JobBench()
        let runner = bench.runner(slots: 1)
        let gate = Gate()
        let order = Mutex<[String]>([])
        var last: SubmittedJob?
        let holder = try #require(
            try await runner.submit(
                bench.request("holder") { _ in
                    await gate.pass()
                    return .success
                }))
        try await eventually("the first one runs") { await bench.registry.live(holder.id)?.status == .running }
        for (name, priority) in [("c", 20), ("a1", 5), ("b", 10), ("a2", 5)] {
            let job = try await runner.submit(
                bench.request(name, priority: priority) { _ in
                    order.withLock { $0.append(name) }
                    return .success
                })
            if name == "c" { last = job }
        }
        let waiting = await Dictionary(uniqueKeysWithValues: bench.registry.live().map { ($0.name, $0.status) })
        #expect(
            waiting == [
                "holder": .running, "c": .waitingForPriority, "a1": .waitingForMaximumJobs, "b": .waitingForPriority,
                "a2": .waitingForMaximumJobs,
            ])
        gate.open()
        _ = await (try #require(last)).outcome()
        #expect(order.withLock { $0 } == ["a1", "a2", "b", "c"])
    }

    @Test("jobs of two runners use a shared subject one after the other, and share the total limit")
    func sharedScheduler() async throws {
        let bench = try JobBench()
        let limit = Mutex(1)
        let scheduler = JobScheduler(limit: { limit.withLock(\.self) })
        let (one, other) = (bench.runner(scheduler: scheduler), bench.runner(scheduler: scheduler))
        let gate = Gate()
        let first = try await one.submit(
            bench.request("one", subject: "account") { _ in
                await gate.pass()
                return .success
            })
        let second = try #require(try await other.submit(bench.request("two", subject: "account") { _ in .success }))
        let third = try #require(try await one.submit(bench.request("three") { _ in .success }))
        #expect(await bench.registry.live(second.id)?.status == .waitingForClientResource)
        #expect(await bench.registry.live(third.id)?.status == .waitingForMaximumJobs)
        limit.withLock { $0 = 2 }
        await scheduler.readLimits()
        #expect(await third.outcome() == .success)
        #expect(await bench.registry.live(second.id)?.status == .waitingForClientResource)
        gate.open()
        #expect(await second.outcome() == .success)
        _ = await (try #require(first)).outcome()
        #expect(bench.letters(of: second.id) == "cRT")
    }

    @Test(
        "a retryable failure, as a shortage is for backups and scripts, is tried again with the same number, up to the limit; a permanent one is not",
        arguments: [FailureClass.retryable, .shortage])
    func retries(failureClass: FailureClass) async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        // A slow machine does not see the millisecond in between.
        func attempts(of job: SubmittedJob) -> String { bench.letters(of: job.id).filter { $0 != "t" } }
        let numbers = Mutex<[Int]>([])
        let passing = try #require(
            try await runner.submit(
                bench.request("passing", attempts: 5) { attempt in
                    numbers.withLock { $0.append(attempt.number) }
                    return attempt.number < 3
                        ? JobOutcome(.failed, failureClass: failureClass, message: "not yet") : .success
                }))
        #expect(await passing.outcome() == .success)
        #expect(numbers.withLock { $0 } == [1, 2, 3])
        #expect(attempts(of: passing) == "RRRT")
        let lasting = try #require(
            try await runner.submit(
                bench.request("lasting", attempts: 3) { _ in
                    JobOutcome(.failed, failureClass: failureClass, message: "still not")
                }))
        #expect(await lasting.outcome()?.message == "still not")
        #expect(attempts(of: lasting) == "RRRE")
        let permanent = try #require(
            try await runner.submit(
                bench.request("permanent", attempts: 3) { _ in
                    JobOutcome(.failed, message: "never")
                }))
        #expect(await permanent.outcome()?.failureClass == .permanent)
        #expect(bench.letters(of: permanent.id) == "RE")
    }

    @Test("a program that cannot be started ends the attempt with the class of its error, which may be tried again")
    func notStarted() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        try bench.script("busy.sh", "exit 0")
        // What is open for writing cannot be executed (ETXTBSY).
        let writing = open(bench.directory.appending("busy.sh").string, O_WRONLY | O_CLOEXEC)
        for (name, attempts, result) in [("busy.sh", 2, .failed), ("gone.sh", 1, .wrongConfiguration)]
            as [(String, Int, JobResult)]
        {
            let job = try #require(
                try await runner.submit(
                    bench.request(name, attempts: 2) { attempt in
                        let script = ScriptInvocation.test(bench.directory.appending(name))
                        return JobOutcome(try await attempt.run(script, profile: .posix).reading)
                    }))
            #expect(await job.outcome()?.result == result)
            #expect(bench.recorder.job(job.id)?.attempts.count == attempts)
        }
        close(writing)
    }

    @Test("a job that waits, for its time, a slot or the next attempt, is cancelled at once; it never runs")
    func cancelWaiting() async throws {
        let bench = try JobBench(clock: ManualClock(Timestamp(secondsSince1970: 1_800_000_000)))
        let runner = bench.runner(slots: 1)
        let hasRun = Mutex(false)
        let work: JobRequest.Work = { _ in
            hasRun.withLock { $0 = true }
            return .success
        }
        let later = try #require(
            try await runner.submit(bench.request("later", due: bench.clock.now + .seconds(60), work: work)))
        #expect(await bench.registry.live(later.id)?.status == .waitingForStartTime)
        let failing = try #require(
            try await runner.submit(
                bench.request("failing", attempts: 9) { _ in
                    JobOutcome(.failed, failureClass: .retryable, message: "not yet")
                }))
        try await eventually("it waits for the next attempt") {
            await bench.registry.live(failing.id)?.status == .waitingForStartTime
        }
        let gate = Gate()
        let holder = try #require(
            try await runner.submit(
                bench.request("holder") { _ in
                    await gate.pass()
                    return .success
                }))
        let queued = try #require(try await runner.submit(bench.request("queued", work: work)))
        for id in [later.id, failing.id, queued.id] {
            #expect(await bench.registry.cancel(id))
            try await eventually("it is closed") { await bench.registry.live(id) == nil }
            #expect(bench.letters(of: id).hasSuffix("A"))
        }
        gate.open()
        _ = await holder.outcome()
        #expect(!hasRun.withLock { $0 })
        #expect(await !bench.registry.cancel(later.id))
    }

    @Test("a stop gives running jobs the grace period, cancels them then, and leaves them open for the next start")
    func stop() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let job = try #require(
            try await runner.submit(
                bench.request { _ in
                    try await Task.sleep(for: .seconds(3_600))
                    return .success
                }))
        try await eventually("it runs") { await bench.registry.live(job.id)?.status == .running }
        await runner.stop(grace: .milliseconds(1))
        #expect(bench.recorder.job(job.id)?.attempts.map(\.fate) == [.cutOff])
        #expect(await bench.registry.live(job.id) == nil)
        #expect(try await runner.submit(bench.request { _ in .success }) == nil)
    }
}
