import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// Sleeping by the machine's clock, which may be set meanwhile.
@Suite struct WallTimerTests {
    /// A machine whose clock a test sets and checks.
    private final class Machine: Sendable {
        private let offset = Mutex(Duration.zero)
        private let boot = Mutex(Timestamp(secondsSince1970: 1_000))

        var sinceBoot: Timestamp { boot.withLock(\.self) }
        var now: Timestamp { sinceBoot + .seconds(1_800_000_000) + offset.withLock(\.self) }
        func set(by step: Duration) { offset.withLock { $0 += step } }
        func pass(_ time: Duration) { boot.withLock { $0 = $0 + time } }
        func timer() -> WallTimer { WallTimer(now: { self.now }, sinceBoot: { self.sinceBoot }) }
    }

    @Test(
        "a task wakes when the clock shows the time, because time passes or the clock is set, and not before"
    )
    func setForward() async throws {
        let machine = Machine()
        let timer = machine.timer()
        let woken = Mutex<[Int]>([])
        let start = machine.now
        for seconds in [60, 3_600, 86_400] {
            Task { @Sendable in
                try await timer.sleep(until: start + .seconds(seconds))
                woken.withLock { $0.append(seconds) }
            }
        }
        try await eventually("all sleep") { await timer.sleeperCount == 3 }
        machine.pass(.seconds(59))
        await timer.check()
        #expect(await timer.sleeperCount == 3)
        machine.pass(.seconds(1))
        await timer.check()
        try await eventually("one wakes") { woken.withLock { $0 } == [60] }
        machine.set(by: .seconds(-3_600))
        machine.pass(.seconds(3_600))
        await timer.check()
        #expect(await timer.sleeperCount == 2, "the clock shows what it showed before")
        machine.set(by: .seconds(2 * 86_400))
        await timer.check()
        try await eventually("all wake") { woken.withLock { $0.count } == 3 }
    }

    @Test("listeners receive the steps of the clock; passing time is not a step")
    func steps() async throws {
        let machine = Machine()
        let timer = machine.timer()
        let told = Mutex<[Duration]>([])
        let steps = await timer.steps()
        let listening = Task { for await step in steps { told.withLock { $0.append(step) } } }
        machine.pass(.seconds(86_400))
        await timer.check()
        machine.set(by: .seconds(-7_200))
        await timer.check()
        await timer.check()
        machine.set(by: .milliseconds(50))
        await timer.check()
        machine.set(by: .seconds(3))
        await timer.check()
        try await eventually("two steps") { told.withLock { $0 } == [.seconds(-7_200), .milliseconds(3_050)] }
        listening.cancel()
    }

    @Test(
        "with the kernel timer: due tasks wake in any order of their start; cancelled tasks wake at once"
    )
    func kernel() async throws {
        let clock = SystemWallClock()
        let start = clock.now
        let late = Task { try await clock.sleep(until: .distantFuture) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for milliseconds in [300, 1, 150, -5, 20] {
                group.addTask {
                    let deadline = start + .milliseconds(milliseconds)
                    try await clock.sleep(until: deadline)
                    #expect(clock.now >= deadline)
                }
            }
            try await group.waitForAll()
        }
        late.cancel()
        await #expect(throws: CancellationError.self) { try await late.value }
        let cancelled = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try await clock.sleep(until: .distantFuture)
        }
        await #expect(throws: CancellationError.self) { try await cancelled.value }
    }
}

extension WallTimerTests {
    @Test(
        "setting the machine's own clock wakes those whom it makes late, and is told", .inGuest,
        .timeLimit(.minutes(90)))
    func machine() async throws { try await Guest.run("WallTimerInsideTests") }
}

/// On a machine whose clock may be set.
@Suite(.onlyInGuest) struct WallTimerInsideTests {
    private static func setClock(by step: Duration) throws {
        let time = SystemWallClock().now + step
        var value = timespec(tv_sec: Int(time.secondsSince1970), tv_nsec: 0)
        guard clock_settime(CLOCK_REALTIME, &value) == 0 else { throw Errno(rawValue: errno) }
    }

    @Test("forward by two days and back again: a task that sleeps for a day wakes at once, and schedules continue")
    func steps() async throws {
        let clock = SystemWallClock()
        let day = Duration.seconds(86_400)
        let told = Mutex<[Duration]>([])
        let steps = await clock.steps()
        let listening = Task { @Sendable in for await step in steps { told.withLock { $0.append(step) } } }
        let asked = Mutex<[Timestamp]>([])
        let minutely = JobTimetable([.init("minute", schedule: try CronSchedule(parsing: "* * * * *"))])
        let schedule = Task { @Sendable in
            try await minutely.run(clock: clock, in: .utc) { _ in asked.withLock { $0.append(clock.now) } }
        }
        let start = clock.now
        let sleeping = Task { @Sendable in
            try await clock.sleep(until: start + day)
            return clock.now
        }
        try await eventually("it sleeps") { await WallTimer.shared.sleeperCount == 2 }
        try Self.setClock(by: day + day)
        #expect(try await sleeping.value >= start + day)
        try await eventually("the schedule is due") { asked.withLock { $0.count } == 1 }
        try Self.setClock(by: .zero - day - day)
        try await eventually("both are told") { told.withLock { $0.count } == 2 }
        #expect(told.withLock { $0[0] } > day && told.withLock { $0[1] } < .zero - day)
        // The next minute of the clock as it is now.
        try await eventually("the schedule goes on", within: .seconds(300)) { asked.withLock { $0.count } >= 2 }
        #expect(asked.withLock { $0[1] } < start + day)
        listening.cancel()
        schedule.cancel()
    }
}
