import Synchronization
import TestSupport
import Testing

@testable import JobCore

/// In which order jobs begin that wait for something they share, and what their letters say meanwhile.
@Suite struct JobRunnerOrderTests {
    private final class Order: Sendable {
        private let names = Mutex<[String]>([])
        var all: [String] { names.withLock { $0 } }
        func work(_ name: String) -> JobRequest.Work {
            { _ in
                self.names.withLock { $0.append(name) }
                return .success
            }
        }
    }

    private static func holding(_ gate: Gate) -> JobRequest.Work {
        { _ in
            await gate.pass()
            return .success
        }
    }

    @Test("jobs that wait for one subject start by priority, then in the order of their submission")
    func oneSubject() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let (gate, order) = (Gate(), Order())
        _ = try await runner.submit(bench.request("holder", subject: "account", work: Self.holding(gate)))
        var jobs: [SubmittedJob] = []
        for (name, priority) in [("c", 20), ("a1", 5), ("b", 10), ("a2", 5)] {
            let request = bench.request(name, subject: "account", priority: priority, work: order.work(name))
            jobs.append(try #require(try await runner.submit(request)))
        }
        for job in jobs { #expect(await bench.registry.live(job.id)?.status == .waitingForClientResource) }
        gate.open()
        for job in jobs { #expect(await job.outcome() == .success) }
        #expect(order.all == ["a1", "a2", "b", "c"])
    }

    @Test(
        "at the total limit, jobs of two runners start by priority, whichever runner's job has ended"
    )
    func limitOnAll() async throws {
        let bench = try JobBench()
        let scheduler = JobScheduler(limit: { 1 })
        let (many, few) = (bench.runner(scheduler: scheduler), bench.runner(scheduler: scheduler))
        let (gate, order) = (Gate(), Order())
        _ = try await many.submit(bench.request("holder", work: Self.holding(gate)))
        for (name, priority, runner) in [
            ("many 1", 10, many), ("many 2", 10, many), ("few", 10, few), ("many 3", 10, many), ("urgent", 1, few),
        ] {
            _ = try await runner.submit(bench.request(name, priority: priority, work: order.work(name)))
        }
        gate.open()
        try await eventually("all have run") { await bench.registry.live().isEmpty }
        #expect(order.all == ["urgent", "many 1", "many 2", "few", "many 3"])
    }

    @Test(
        "there is room while fewer jobs are due than the bound; jobs between two attempts do not count, and a closed window is waited for"
    )
    func room() async throws {
        let start = Timestamp(secondsSince1970: 1_800_014_400)
        let clock = ManualClock(start)
        let bench = try JobBench(clock: clock)
        let runner = bench.runner(slots: 1)
        let (gate, order) = (Gate(), Order())
        _ = try await runner.submit(bench.request("holder", work: Self.holding(gate)))
        _ = try await runner.submit(
            bench.request("later", due: start + .seconds(3_600), work: order.work("later")))
        try await runner.waitForRoom(for: .admin, below: 2)
        for name in ["a", "b"] { _ = try await runner.submit(bench.request(name, work: order.work(name))) }
        let waiting = Task { try await runner.waitForRoom(for: .admin, below: 2) }
        let given = Task { try await runner.waitForRoom(for: .admin, below: 2) }
        given.cancel()
        await #expect(throws: CancellationError.self) { try await given.value }
        #expect(order.all == [])
        gate.open()
        try await waiting.value
        try await eventually("both have run") { order.all == ["a", "b"] }

        let minute = DayCalendar.system.localTime(at: start).secondOfDay / 60
        func text(_ minute: Int) -> String {
            [minute / 60 % 24, minute % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
        }
        let window = try TimeWindow(parsing: "\(text(minute + 60))-\(text(minute + 120))")
        let closed = bench.runner(JobPolicy(window: window))
        let opened = Task { try await closed.waitForRoom(for: .admin, below: 2) }
        try await eventually("it sleeps") { clock.deadlines.contains(start + .seconds(3_600)) }
        clock.advance(to: start + .seconds(3_600))
        try await opened.value
        let stopped = Task { try await closed.waitForRoom(for: .admin, below: 0) }
        await closed.stop(grace: .zero)
        await #expect(throws: CancellationError.self) { try await stopped.value }
    }

    @Test("a caller that waits for room learns of another window, also before the first job of its type")
    func roomAfterReload() async throws {
        let start = Timestamp(secondsSince1970: 1_800_014_400)
        let bench = try JobBench(clock: ManualClock(start))
        let scheduler = JobScheduler(clock: bench.clock)
        let hour = DayCalendar.system.localTime(at: start).secondOfDay / 3_600
        let later = ["\((hour + 2) % 24)", "\((hour + 3) % 24)"].map { ($0.count == 1 ? "0" : "") + $0 + ":00" }
        let policy = Mutex(JobPolicy(window: try TimeWindow(parsing: later.joined(separator: "-"))))
        let runner = JobRunner(
            executor: { bench.executor(policy.withLock(\.self)) }, ids: bench.ids, scheduler: scheduler, slots: { 1 })
        let waiting = Task { try await runner.waitForRoom(for: .admin, below: 2) }
        try await eventually("it waits for the window") { (bench.clock as? ManualClock)?.deadlines.isEmpty == false }
        policy.withLock { $0 = JobPolicy() }
        await scheduler.readLimits()
        try await waiting.value
    }

    @Test("a clock that is set back does not delay the next attempt")
    func retryWhileSetBack() async throws {
        let start = Timestamp(secondsSince1970: 1_800_000_000)
        let clock = ManualClock(start)
        let bench = try JobBench(clock: clock)
        let scheduler = JobScheduler(clock: clock)
        let runner = bench.runner(scheduler: scheduler)
        var request = bench.request("job", attempts: 2) { attempt in
            attempt.number == 1 ? JobOutcome(.failed, failureClass: .retryable) : .success
        }
        request.retry = { RetryPolicy(maximumAttempts: 2, delay: .seconds(60), maximumDelay: .seconds(60)) }
        let job = try #require(try await runner.submit(request))
        try await eventually("it waits for its next attempt") { !clock.deadlines.isEmpty }
        let back = Duration.seconds(-2 * 86_400)
        clock.set(to: start + back)
        await scheduler.clockWasSet(by: back)
        clock.advance(to: start + back + .seconds(60))
        #expect(await job.outcome() == .success)
    }

    @Test(
        "B9 the letter of a waiting job is the current reason: t until its time, then c, p or d, and no t when only a slot is missing"
    )
    func letters() async throws {
        let start = Timestamp(secondsSince1970: 1_800_000_000)
        let clock = ManualClock(start)
        let bench = try JobBench(clock: clock)
        let runner = bench.runner(slots: 1)
        let (gate, order) = (Gate(), Order())
        let due = start + .seconds(60)
        _ = try await runner.submit(bench.request("holder", subject: "account", work: Self.holding(gate)))
        func submit(_ name: String, subject: String, priority: Int = 10, due: Timestamp) async throws -> JobID {
            let request = bench.request(
                name, subject: subject, priority: priority, due: due, work: order.work(name))
            return try #require(try await runner.submit(request)).id
        }
        let slot = try await submit("slot", subject: "other", due: due)
        let subject = try await submit("subject", subject: "account", due: due)
        for job in [slot, subject] { #expect(await bench.registry.live(job)?.status == .waitingForStartTime) }
        clock.advance(to: due)
        try await eventually("only a slot is missing") {
            await bench.registry.live(slot)?.status == .waitingForMaximumJobs
        }
        #expect(await bench.registry.live(subject)?.status == .waitingForClientResource)
        let urgent = try await submit("urgent", subject: "third", priority: 1, due: .distantPast)
        #expect(await bench.registry.live(slot)?.status == .waitingForPriority)
        #expect(await bench.registry.live(urgent)?.status == .waitingForMaximumJobs)
        #expect(await bench.registry.cancel(urgent))
        try await eventually("it is closed") { await bench.registry.live(urgent) == nil }
        #expect(await bench.registry.live(slot)?.status == .waitingForMaximumJobs)
        gate.open()
        try await eventually("all have run") { await bench.registry.live().isEmpty }
        #expect(order.all == ["slot", "subject"])
        #expect(bench.letters(of: slot) == "tdRT")
    }

    @Test(
        "a job whose window closed while it waited for a slot waits for the window again, and holds neither slot nor subject"
    )
    func windowClosedMeanwhile() async throws {
        // 12:00 UTC; the window is looked at in the machine's own zone.
        let start = Timestamp(secondsSince1970: 1_800_014_400)
        let clock = ManualClock(start)
        let bench = try JobBench(clock: clock)
        let minute = DayCalendar.system.localTime(at: start).secondOfDay / 60
        func text(_ minute: Int) -> String {
            [minute / 60 % 24, minute % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
        }
        let window = try TimeWindow(parsing: "\(text(minute))-\(text(minute + 60))")
        let runner = bench.runner(JobPolicy(window: window), slots: 1)
        let (gate, order) = (Gate(), Order())
        _ = try await runner.submit(bench.request("holder", work: Self.holding(gate)))
        let late = try #require(
            try await runner.submit(bench.request("late", subject: "account", work: order.work("late"))))
        #expect(await bench.registry.live(late.id)?.status == .waitingForMaximumJobs)
        clock.advance(to: start + .seconds(2 * 3_600))
        gate.open()
        try await eventually("it waits for its window") {
            await bench.registry.live(late.id)?.status == .waitingForStartTime
        }
        #expect(order.all == [])
        clock.advance(to: start + .seconds(24 * 3_600 + 60))
        try await eventually("it has run") { await bench.registry.live().isEmpty }
        #expect(bench.letters(of: late.id) == "dtRT")
    }
}
