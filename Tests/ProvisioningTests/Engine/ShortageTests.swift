import Glibc
import JobCore
import Provisioning
import Synchronization
import TestSupport
import Testing

/// A shortage of the machine is no account's failure.
@Suite struct ShortageTests {
    private static let noon = Timestamp(secondsSince1970: 1_795_262_400)
    private static let day = Duration.seconds(24 * 3_600)
    private static let full = ProvisioningFailure(
        .cannotSetQuota, .shortage, reason: "could not make a file: No space left on device", hint: "make room: df /srv"
    )

    @Test(
        "during a shortage of the machine nothing is written to the entries, also after MAX_ATTEMPTS; it is logged once, and later attempts do the work"
    )
    func waits() async throws {
        let clock = ManualClock(Self.noon)
        try await EngineHarness.run(clock: clock) { harness in
            let isFull = Mutex(true)
            harness.service.doing { _ in if isFull.withLock(\.self) { throw Self.full } }
            let uids = ["4000001", "4000002"]
            try await harness.running { engine in
                for uid in uids { try await harness.add(uid) }
                // Three attempts are all that MAX_ATTEMPTS grants.
                for round in 1...6 {
                    try await eventually("both wait after round \(round)") {
                        let waiting = await engine.snapshot().retrying
                        return waiting.count == 2 && waiting.allSatisfy { $0.attempt == round }
                    }
                    #expect(harness.service.asked.count == 2 * round)
                    clock.advance(to: clock.now + .seconds(60))
                }
                // An operator is told that it did not come to an end, and is not kept waiting.
                #expect(try await engine.provision(harness.key(uids[0])) == .undefinedError)
                let shortages = await engine.snapshot().shortages
                #expect(shortages.map(\.accounts) == [2] && shortages.first?.since == Self.noon)
                for uid in uids {
                    #expect(try await harness.mode(uid) == "adding")
                    #expect(try await harness.returnValue(uid) == nil)
                }
                #expect(harness.recorder.closed.isEmpty)
                isFull.withLock { $0 = false }
                clock.advance(to: clock.now + .seconds(60))
                for uid in uids { try await harness.expectMode("added", of: uid) }
                try await eventually("it is told that it is over") {
                    harness.messages.contains { $0.hasPrefix("notice: no request waits any more because of this") }
                }
                #expect(await engine.snapshot().shortages.isEmpty)
            }
            #expect(
                harness.messages.filter { $0.hasPrefix("error") } == [
                    "error: provisioning is delayed: \(Self.full.reason); \(Self.full.hint)"
                ])
            let loud = harness.messages.filter { !$0.hasPrefix("debug") }
            #expect(loud.count { $0.contains("begins") } == 2, "\(loud)")
            #expect(!loud.contains { $0.contains("failed and is tried again") }, "\(loud)")
        }
    }

    @Test("after 24 hours the job fails with the code that it would have had")
    func fails() async throws {
        let clock = ManualClock(Self.noon)
        try await EngineHarness.run(clock: clock) { harness in
            harness.service.doing { _ in throw Self.full }
            try await harness.running { engine in
                try await harness.add("4000001")
                func waits(after attempt: Int) async throws {
                    try await eventually("it waits after attempt \(attempt)") {
                        await engine.snapshot().retrying.first?.attempt == attempt
                    }
                    #expect(try await harness.returnValue("4000001") == nil)
                }
                try await waits(after: 1)
                clock.advance(to: Self.noon + Self.day + .seconds(-1))
                try await waits(after: 2)
                clock.advance(to: Self.noon + Self.day)
                try await eventually("the code is there") { try await harness.returnValue("4000001") == "6" }
                #expect(try await harness.mode("4000001") == "adding")
                try await eventually("no account waits any more") {
                    let snapshot = await engine.snapshot()
                    return snapshot.shortages.isEmpty && snapshot.retrying.isEmpty && snapshot.failed == 1
                }
            }
            #expect(harness.service.asked.count == 3)
        }
    }

    @Test("a failure of the account itself is written after MAX_ATTEMPTS, also between shortages")
    func others() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { call in
                guard call.attempt > 4 else { throw Self.full }
                throw ProvisioningFailure(.cannotCreateHomeDir, .retryable, reason: "quota exceeded", hint: "wait")
            }
            try await harness.running { _ in
                try await harness.add("4000001")
                try await eventually("the code is there") { try await harness.returnValue("4000001") == "5" }
            }
            #expect(harness.service.asked.map(\.attempt) == Array(1...7))
        }
    }

    @Test(
        "while no job number can be reserved in the state directory, all accounts wait, which is logged once, and no claimed entry is lost"
    )
    func stateDirectory() async throws {
        try await EngineHarness.run { harness in
            let directory = harness.sandbox.directory.appending("state").string
            try await harness.running { engine in
                #expect(rename(directory, directory + ".away") == 0)
                let uids = ["4000001", "4000002"]
                for uid in uids { try await harness.add(uid) }
                try await eventually("both wait") { await engine.snapshot().shortages.first?.accounts == 2 }
                for uid in uids {
                    #expect(try await harness.mode(uid) == "adding")
                    #expect(try await harness.returnValue(uid) == nil)
                }
                #expect(await engine.snapshot().shortages.count == 1)
                #expect(harness.service.asked.isEmpty)
                try await eventually("it is tried again and again") {
                    harness.messages.count { $0.hasPrefix("debug") && $0.contains("cannot be worked on") } > 6
                }
                #expect(rename(directory + ".away", directory) == 0)
                for uid in uids { try await harness.expectMode("added", of: uid) }
                try await eventually("it is told that it is over") {
                    harness.messages.contains { $0.hasPrefix("notice: no request waits any more because of this") }
                }
            }
            let errors = harness.messages.filter { $0.hasPrefix("error") }
            #expect(errors.count == 1 && errors[0].contains("mkdir -p"), "\(errors)")
            #expect(!harness.messages.contains { $0.hasPrefix("notice") && $0.contains("is resumed") })
        }
    }
}
