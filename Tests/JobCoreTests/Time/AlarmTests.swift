import JobCore
import Synchronization
import TestSupport
import Testing

@Suite struct AlarmTests {
    private let start = Timestamp(secondsSince1970: 1_000)

    @Test(
        "set to another time it forgets the one before; set to none it goes on sleeping as it did; stopped it does not ring"
    )
    func settingAnew() async throws {
        let clock = ManualClock(start)
        let rung = Mutex<[Timestamp]>([])
        let ring: @Sendable (Timestamp) async -> Void = { time in rung.withLock { $0.append(time) } }
        var alarm = Alarm()
        for seconds in [30, 20, 10] {
            alarm.set(to: start + .seconds(seconds), by: clock, ring: ring)
            alarm.set(to: start + .seconds(seconds), by: clock, ring: ring)
        }
        try await eventually("one sleeps") { clock.deadlines == [start + .seconds(10)] }
        clock.advance(to: start + .seconds(10))
        try await eventually("it rings") { rung.withLock { $0 } == [start + .seconds(10)] }
        #expect(alarm.time == start + .seconds(10))
        alarm.rang(start + .seconds(10))
        #expect(alarm.time == nil)
        alarm.set(to: start + .seconds(50), by: clock, ring: ring)
        try await eventually("it sleeps") { clock.deadlines == [start + .seconds(50)] }
        // Not set again: it would sleep by a clock that may have been set back since.
        let other = ManualClock(start)
        alarm.set(to: nil, by: other, ring: ring)
        alarm.set(to: start + .seconds(50), by: other, ring: ring)
        #expect(clock.deadlines == [start + .seconds(50)] && other.deadlines == [])
        alarm.stop()
        try await eventually("no task sleeps") { clock.deadlines.isEmpty }
        #expect(rung.withLock { $0.count } == 1)
    }

    @Test("a late ring does not cancel a time that was set meanwhile")
    func lateRing() {
        let clock = ManualClock(start)
        var alarm = Alarm()
        alarm.set(to: start + .seconds(20), by: clock) { _ in }
        alarm.rang(start + .seconds(10))
        #expect(alarm.time == start + .seconds(20))
        alarm.stop()
    }
}
