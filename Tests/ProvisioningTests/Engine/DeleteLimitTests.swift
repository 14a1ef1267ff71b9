import LDAP
import JobCore
import Provisioning
import Synchronization
import TestSupport
import Testing

/// The guard against mass deletion.
@Suite struct DeleteLimitTests {
    @Test("no more accounts are deleted within an hour than allowed; the others wait untouched, and adds do not")
    func guarded() async throws {
        let clock = ManualClock(SystemWallClock().now)
        try await EngineHarness.run(clock: clock) { harness in
            try await harness.running(deletes: HourlyLimit(file: nil, limit: { 1 })) {
                $0.slots = 1
            } _: { engine in
                for number in 1...4 { try await harness.add("400000\(number)", mode: "delete") }
                try await eventually("three wait") { await engine.snapshot().deletes?.count == 3 }
                try await harness.add("4000009")
                try await harness.expectMode("added", of: "4000009")
                #expect(harness.service.asked.count { $0.operation == .delete } == 1)
                let waiting = try await modes(harness).filter { $0 == "delete" }
                #expect(waiting.count == 3, "their entries are as they were")
                let next = try #require(await engine.snapshot().deletes?.next)
                clock.advance(to: next)
                try await eventually("one more is deleted") { try await modes(harness).count { $0 == "deleted" } == 2 }
                try await eventually("two wait") { await engine.snapshot().deletes?.count == 2 }
            }
        }
    }

    @Test(
        "a higher limit lets them through at once; an operator's word lets one through; a request that is withdrawn waits no longer"
    )
    func letThrough() async throws {
        try await EngineHarness.run { harness in
            var configuration = try harness.configuration()
            configuration.timing.relistInterval = .seconds(3_600)
            let settings = configuration
            let limit = Mutex(1)
            try await harness.running(deletes: HourlyLimit(file: nil, limit: { limit.withLock(\.self) })) {
                $0 = settings
            } _: { engine in
                try await harness.add("4000001", mode: "delete")
                try await harness.expectMode("deleted", of: "4000001")
                for number in 2...5 { try await harness.add("400000\(number)", mode: "delete") }
                try await eventually("four wait") { await engine.snapshot().deletes?.count == 4 }
                #expect(await engine.provision(try harness.key("4000002")) == .success)
                #expect(await engine.snapshot().deletes?.count == 3)
                try await harness.request("4000003", "modify")
                try await harness.expectMode("modified", of: "4000003")
                #expect(await engine.snapshot().deletes?.count == 2)
                limit.withLock { $0 = 10 }
                await harness.reload(engine, settings)
                try await harness.expectMode("deleted", of: "4000004")
                try await harness.expectMode("deleted", of: "4000005")
                #expect(await engine.snapshot().deletes == nil)
            }
        }
    }

    @Test(
        "a delete that is withdrawn, refused or whose entry is removed does not wait any more"
    )
    func withdrawn() async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            try await harness.running(deletes: HourlyLimit(file: nil, limit: { 1 })) { engine in
                try await harness.add("4000001", mode: "delete")
                try await harness.expectMode("deleted", of: "4000001")
                for number in 2...4 { try await harness.add("400000\(number)", mode: "delete") }
                try await eventually("three wait") { await engine.snapshot().deletes?.count == 3 }
                try await harness.set("4000002", "sstProvisioningMode", "none")
                try await eventually("two wait") { await engine.snapshot().deletes?.count == 2 }
                try await harness.manager.delete(EngineHarness.dn("4000003"))
                try await eventually("one waits") { await engine.snapshot().deletes?.count == 1 }
                try await harness.set("4000004", "sstIsActive", "TRUE")
                try await eventually("none waits") { await engine.snapshot().deletes == nil }
                try await eventually("it is refused") { try await harness.returnValue("4000004") == "1" }
            }
        }
    }

    @Test("a delete that others have written as claimed counts as well")
    func resumed() async throws {
        try await EngineHarness.run { harness in
            try await harness.running(deletes: HourlyLimit(file: nil, limit: { 1 })) { engine in
                try await harness.add("4000001", mode: "delete")
                try await harness.expectMode("deleted", of: "4000001")
                for number in 2...3 { try await harness.add("400000\(number)", mode: "deleting") }
                try await eventually("they wait") { await engine.snapshot().deletes?.count == 2 }
                #expect(harness.service.asked.count == 1)
            }
        }
    }

    @Test("who asked for a delete, and when, is in the log and in the job's report")
    func origin() async throws {
        try await EngineHarness.run { harness in
            try await harness.running { _ in
                try await harness.add("4000001", mode: "delete")
                let written = try #require(try await harness.entry("4000001"))
                try await harness.expectMode("deleted", of: "4000001")
                let time = try #require(
                    try await harness.manager.entry(at: written.dn, attributes: ["createTimestamp"])?
                        .text("createTimestamp"))
                let origin = "last changed by \(harness.sandbox.adminDN) at \(time)"
                try await eventually("the log says it") { harness.messages.contains { $0.contains(origin) } }
                try await eventually("the job's report says it") {
                    harness.recorder.lines.contains { $0.text.contains(origin) }
                }
            }
        }
    }

    private func modes(_ harness: EngineHarness) async throws -> [String?] {
        var modes: [String?] = []
        for number in 1...4 { modes.append(try await harness.mode("400000\(number)")) }
        return modes
    }
}
