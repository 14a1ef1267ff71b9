import JobCore
import TestSupport
import Testing

@testable import Provisioning

@Suite struct SearchLivenessTests {
    private static let start = Timestamp(secondsSince1970: 1_800_000_000)

    /// Waits in a task; tells whether it has returned.
    private static func waiting(_ liveness: SearchLiveness, _ clock: ManualClock) -> Task<Void, any Error> {
        Task { try await liveness.waitForSilence(by: clock) }
    }

    @Test(
        "a search that reports nothing for thirty seconds after a change is silent, one that reports anything is not"
    )
    func silence() async throws {
        let (liveness, clock) = (SearchLiveness(), ManualClock(Self.start))
        let task = Self.waiting(liveness, clock)
        // Until it listens, a write counts for nothing.
        try await eventually("a write is waited for") {
            if clock.deadlines.isEmpty { await liveness.receivedChange() }
            await liveness.wrote(since: liveness.changes)
            return clock.deadlines == [Self.start + .seconds(30)]
        }
        await liveness.receivedChange()
        await liveness.wrote(since: liveness.changes)
        clock.advance(to: Self.start + .seconds(30))
        try await eventually("the next write is waited for") { clock.deadlines == [Self.start + .seconds(60)] }
        await liveness.wrote(since: liveness.changes)
        await MainActor.run { liveness.isReading = false }
        clock.advance(to: Self.start + .seconds(60))
        try await eventually("a search that is not read is not silent") {
            clock.deadlines == [Self.start + .seconds(90)]
        }
        await MainActor.run { liveness.isReading = true }
        clock.advance(to: Self.start + .seconds(90))
        try await task.value
    }

    @Test("a change that the search reported before the write was answered is not waited for")
    func reportedFirst() async throws {
        let (liveness, clock) = (SearchLiveness(), ManualClock(Self.start))
        let task = Self.waiting(liveness, clock)
        await MainActor.run {
            let before = liveness.changes
            liveness.receivedChange()
            liveness.wrote(since: before)
        }
        #expect(clock.deadlines.isEmpty)
        try await eventually("the next write is waited for") {
            await liveness.wrote(since: liveness.changes)
            return clock.deadlines == [Self.start + .seconds(30)]
        }
        task.cancel()
    }

    @Test("a search that is silent is restarted")
    func begunAnew() async throws {
        let clock = ManualClock(SystemWallClock().now)
        try await EngineHarness.run(clock: clock) { harness in
            try await harness.running { engine in
                try await harness.add("4000001")
                try await harness.expectMode("added", of: "4000001")
                // The server's notifications are lost.
                try await eventually("it is said") {
                    await engine.liveness.wrote(since: engine.liveness.changes)
                    await clock.advance(to: clock.now + SearchLiveness.longestSilence)
                    return harness.messages.contains { $0.contains("restarting the persistent search") }
                }
                try await harness.add("4000002")
                try await eventually("what comes then is noticed") {
                    // Between two searches it waits by this clock.
                    clock.advance(to: clock.now + .seconds(1))
                    return try await harness.mode("4000002") == "added"
                }
            }
        }
    }
}
