import Synchronization
import TestSupport
import Testing

@testable import JobCore

/// The scheduler's callbacks and their order.
@Suite struct JobSchedulerTests {
    /// What the owner of a class was told.
    private final class Calls: Sendable {
        private let calls = Mutex<[String]>([])
        var all: [String] { calls.withLock { $0 } }

        func owner(limit: Int) -> JobScheduler.Owner {
            JobScheduler.Owner {
                JobClass(limit: limit)
            } begin: { key, due in
                self.add("\(key) begins by \(due.secondsSince1970)")
            } waits: { key, status in
                self.add("\(key) waits, \(status.letter)")
            } interrupt: { key in
                self.add("\(key) is interrupted")
            }
        }

        private func add(_ call: String) { calls.withLock { $0.append(call) } }
    }

    private let start = Timestamp(secondsSince1970: 1_000)
    private static func item(
        _ number: UInt64, on subject: String, class jobClass: Int, due: Timestamp = .distantPast
    ) -> Scheduler.Item {
        Scheduler.Item(job: JobID(number), on: JobSubject(subject), class: jobClass, due: due)
    }

    @Test(
        "the owner of a class is told when an item begins, when it becomes due and has to wait, and when another class needs it"
    )
    func owners() async throws {
        let clock = ManualClock(start)
        let scheduler = JobScheduler(clock: clock)
        let (first, second) = (Calls(), Calls())
        let one = await scheduler.addClass(first.owner(limit: 1))
        let other = await scheduler.addClass(second.owner(limit: 1))
        #expect(await scheduler.offer(Self.item(1, on: "x", class: one)) == nil)
        let due = start + .seconds(60)
        #expect(await scheduler.offer(Self.item(2, on: "x", class: other, due: due)) == .waitingForStartTime)
        try await eventually("it sleeps") { clock.deadlines == [due] }
        clock.advance(to: due)
        try await eventually("it is due") { second.all == ["job(2) waits, c"] }
        await scheduler.interrupt(JobSubject("x"), for: one)
        await scheduler.interrupt(JobSubject("y"), for: other)
        #expect(first.all == ["job(1) begins by 1000"])
        await scheduler.interrupt(JobSubject("x"), for: other)
        #expect(first.all == ["job(1) begins by 1000", "job(1) is interrupted"])
        await scheduler.finish(.job(JobID(1)))
        #expect(second.all == ["job(2) waits, c", "job(2) begins by 1060"])
        #expect(await scheduler.isIdle(one))
        #expect(await !scheduler.isIdle(other))
    }

    @Test("a due item begins although the clock is set back before it can begin")
    func setBack() async throws {
        let clock = ManualClock(start)
        let scheduler = JobScheduler(clock: clock)
        let calls = Calls()
        let jobClass = await scheduler.addClass(calls.owner(limit: 1))
        await scheduler.offer(Self.item(1, on: "x", class: jobClass))
        await scheduler.offer(Self.item(2, on: "y", class: jobClass, due: start + .seconds(60)))
        try await eventually("it sleeps") { !clock.deadlines.isEmpty }
        clock.advance(to: start + .seconds(60))
        try await eventually("it is due") { await scheduler.dueCount(of: jobClass) == 1 }
        clock.set(to: start + .seconds(-600))
        await scheduler.finish(.job(JobID(1)))
        #expect(calls.all.last == "job(2) begins by 1060")
    }

    @Test("a clock that is set back after an item has begun begins no other one before its time")
    func setBackWhileWaiting() async throws {
        let clock = ManualClock(start)
        let scheduler = JobScheduler(clock: clock)
        let calls = Calls()
        let jobClass = await scheduler.addClass(calls.owner(limit: 2))
        await scheduler.offer(Self.item(1, on: "x", class: jobClass, due: start + .seconds(60)))
        try await eventually("it sleeps") { !clock.deadlines.isEmpty }
        clock.advance(to: start + .seconds(60))
        try await eventually("the first begins") { calls.all == ["job(1) begins by 1060"] }
        await scheduler.offer(Self.item(2, on: "y", class: jobClass, due: start + .seconds(120)))
        let back = Duration.seconds(-600)
        clock.set(to: start + .seconds(60) + back)
        await scheduler.clockWasSet(by: back)
        try #require(calls.all.count == 1)
        #expect(await scheduler.status(of: .job(JobID(2))) == .waitingForStartTime)
        clock.advance(to: start + .seconds(120) + back)
        try await eventually("the second begins") { calls.all.last == "job(2) begins by 520" }
    }

    @Test("no item of a closed class begins; items of other classes do")
    @MainActor func closed() {
        let scheduler = JobScheduler(clock: ManualClock(start))
        let (first, second) = (Calls(), Calls())
        let one = scheduler.addClass(first.owner(limit: 2))
        let other = scheduler.addClass(second.owner(limit: 2))
        scheduler.closeClass(one)
        scheduler.offer(Self.item(1, on: "x", class: one))
        scheduler.offer(Self.item(2, on: "y", class: other))
        #expect(first.all == [] && second.all == ["job(2) begins by 1000"])
        #expect(scheduler.withdraw(.job(JobID(1))) && !scheduler.withdraw(.job(JobID(2))))
    }
}
