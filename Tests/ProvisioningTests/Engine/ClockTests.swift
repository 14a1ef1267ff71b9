import JobCore
import Provisioning
import Synchronization
import TestSupport
import Testing

/// The machine's clock, which a test can set back.
private final class SettableClock: WallClock {
    private let offset = Mutex(Duration.zero)

    var now: Timestamp { SystemWallClock().now + offset.withLock { $0 } }
    func set(back duration: Duration) { offset.withLock { $0 -= duration } }
    func sleep(until deadline: Timestamp) async throws { try await Task.sleep(for: max(deadline - now, Duration.zero)) }
}

@Suite struct ClockTests {
    @Test(
        "a clock that is set back delays no account: neither one that waits for a slot nor one that waits for its next attempt"
    )
    func setBack() async throws {
        let clock = SettableClock()
        try await EngineHarness.run(clock: clock) { harness in
            let gate = Gate()
            harness.service.doing { call in
                if call.uid == "4000001" { await gate.pass() }
                if call.uid == "4000003", call.attempt == 1 {
                    throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
                }
            }
            try await harness.running {
                $0.slots = 2
                $0.jobRetry = RetryPolicy(maximumAttempts: 3, delay: .seconds(2), maximumDelay: .seconds(2))
            } _: { engine in
                try await harness.add("4000001")
                try await eventually("the slot is taken") { !harness.service.asked.isEmpty }
                try await harness.add("4000003")
                try await eventually("it waits for its next attempt") { await engine.snapshot().retrying.count == 1 }
                clock.set(back: .seconds(7200))
                try await harness.expectMode("added", of: "4000003")
                try await harness.add("4000002")
                try await harness.expectMode("added", of: "4000002")
                gate.open()
                try await harness.expectMode("added", of: "4000001")
            }
        }
    }

    @Test("a request for tomorrow is done at once when the clock is set past that date")
    func setForward() async throws {
        let clock = ManualClock(SystemWallClock().now)
        try await EngineHarness.run(clock: clock) { harness in
            try await harness.running { engine in
                let day = Duration.seconds(86_400)
                let tomorrow = (clock.now + day).text.prefix(8)
                try await harness.add("4000001", date: String(tomorrow))
                try await eventually("the account waits") { await engine.snapshot().waiting == 1 }
                #expect(harness.service.asked.isEmpty)
                clock.set(to: clock.now + day * 2)
                try await harness.expectMode("added", of: "4000001")
            }
        }
    }

    @Test(
        "a dated delete waits while the clock may be wrong, and is carried out once it is believed; one without a date does not wait"
    )
    func doubtedClock() async throws {
        let clock = ManualClock(SystemWallClock().now)
        try await EngineHarness.run(clock: clock) { harness in
            harness.isClockDoubted.withLock { $0 = true }
            try await harness.running { engine in
                try await harness.add("4000001", mode: "delete", date: "20260101")
                try await harness.add("4000002", mode: "delete")
                try await harness.expectMode("deleted", of: "4000002")
                try await eventually("it waits to ask again") { clock.deadlines.contains(clock.now + .seconds(600)) }
                #expect(await engine.snapshot().troubled == 1)
                #expect(try await harness.mode("4000001") == "delete")
                harness.isClockDoubted.withLock { $0 = false }
                clock.advance(to: clock.now + .seconds(600))
                try await harness.expectMode("deleted", of: "4000001")
            }
        }
    }
}
