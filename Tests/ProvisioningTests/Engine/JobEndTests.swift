import LDAP
import Sandbox
import Provisioning
import TestSupport
import Testing

@testable import JobCore

/// A job is opened once and closed once, also when its entry changes, and its letter says what it waits for.
@Suite struct JobEndTests {
    private static let noon = Timestamp(secondsSince1970: 1_795_262_400)

    private static func left(_ number: UInt64, of account: EntryUUID) -> Job {
        var job = Job(
            id: JobID(number), type: .provisioning, name: "add", level: "add",
            subject: JobSubject(account),
            client: "4000001", created: noon)
        job.attempts = [Job.Attempt(number: 1, began: noon, fate: .lost)]
        job.attempt = 1
        return job
    }

    private static func expectOnce(_ recorder: ChangeRecorder, sourceLocation: SourceLocation = #_sourceLocation) {
        let opened = recorder.opened.sorted()
        #expect(Set(opened).count == opened.count, sourceLocation: sourceLocation)
        #expect(recorder.closed.map(\.id).sorted() == opened, sourceLocation: sourceLocation)
    }

    @Test(
        "jobs that an earlier run left open go on under their number when the entry still asks, and are closed when it does not or is gone"
    )
    func interruptedJobs() async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001", mode: "adding")
            try await harness.add("4000002", mode: "modify")
            try await harness.add("4000003", mode: "added", state: "20260101T000000Z")
            let gone = try #require(EntryUUID(text: "f3f1c6b2-6a52-4a0f-9f0e-5a0d6d3c1b7a"))
            var left = [Self.left(904, of: gone)]
            for number in 1...3 {
                left.append(Self.left(900 + UInt64(number), of: try await harness.key("400000\(number)").uuid))
            }
            // An older one of the same account.
            left.append(Self.left(900, of: try await harness.key("4000001").uuid))
            let engine = try await harness.engine()
            await engine.recover(left)
            await engine.start()
            try await harness.expectMode("added", of: "4000001")
            try await harness.expectMode("modified", of: "4000002")
            try await eventually("all are closed") { harness.recorder.closed.count == 6 }
            await engine.stop(grace: .zero)
            Self.expectOnce(harness.recorder)
            let results = Dictionary(
                harness.recorder.closed.map { ($0.id.number, $0.result) }, uniquingKeysWith: { $1 })
            #expect(results[900] == .failed)
            #expect(results[901] == .success)
            #expect(results[902] == .aborted)
            #expect(results[903] == .success)
            #expect(results[904] == .failed)
            let resumed = try #require(harness.service.asked.first { $0.uid == "4000001" })
            #expect(resumed.job == 901)
            #expect(resumed.attempt == 2)
            #expect(harness.service.asked.count == 2)
        }
    }

    @Test(
        "a job that was cancelled before the daemon ended is not resumed, and its entry says so",
        arguments: [false, true])
    func canceled(isDone: Bool) async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001", mode: "adding")
            var job = Self.left(901, of: try await harness.key("4000001").uuid)
            (job.canceler, job.status) = (.operator, .canceled)
            if isDone { job.attempts = [Job.Attempt(number: 1, began: Self.noon, fate: .ended, result: .success)] }
            let engine = try await harness.engine()
            await engine.recover([job])
            await engine.start()
            try await eventually("it is closed") { harness.recorder.closed.count == 1 }
            await engine.stop(grace: .zero)
            Self.expectOnce(harness.recorder)
            // Work that was done before the operator asked is done.
            #expect(harness.recorder.closed.first?.result == (isDone ? .success : .aborted))
            #expect(try await harness.mode("4000001") == (isDone ? "added" : "adding"))
            #expect(try await harness.returnValue("4000001") == (isDone ? "0" : "1"))
            #expect(harness.service.asked.isEmpty == !isDone)
        }
    }

    @Test("a job that waits for its next attempt is closed with the reason when the request is refused meanwhile")
    func refusedBetweenAttempts() async throws {
        try await EngineHarness.run(clock: ManualClock(Self.noon)) { harness in
            harness.service.doing { _ in
                throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
            }
            try await harness.running { engine in
                try await harness.add("4000001", mode: "delete")
                try await eventually("it waits for its next attempt") { await engine.snapshot().retrying.count == 1 }
                try await harness.set("4000001", "sstIsActive", "TRUE")
                try await eventually("it is closed") { harness.recorder.closed.count == 1 }
            }
            Self.expectOnce(harness.recorder)
            #expect(harness.recorder.closed.first?.result == .failed)
            #expect(harness.recorder.closed.first?.message.contains("sstIsActive") == true)
            #expect(try await harness.returnValue("4000001") == "1")
        }
    }

    @Test("a job that waits for its next attempt is closed as failed when its entry is removed")
    func vanishesBetweenAttempts() async throws {
        try await EngineHarness.run(clock: ManualClock(Self.noon)) { harness in
            harness.service.doing { _ in
                throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
            }
            try await harness.running { engine in
                try await harness.add("4000001")
                try await eventually("it waits for its next attempt") { await engine.snapshot().retrying.count == 1 }
                try await harness.manager.delete(EngineHarness.dn("4000001"))
                try await eventually("it is closed") { harness.recorder.closed.count == 1 }
            }
            Self.expectOnce(harness.recorder)
            #expect(harness.recorder.closed.first?.result == .failed)
        }
    }

    @Test(
        "RETURN_VALUE empty: a failed job is closed, and what the entry still asks for is done by another, under another number"
    )
    func noReturnValue() async throws {
        let clock = ManualClock(Self.noon)
        try await EngineHarness.run(clock: clock) { harness in
            harness.service.doing { _ in throw ProvisioningFailure(.undefinedError, reason: "no", hint: "none") }
            let engine = try await harness.engine {
                $0.scope.names.returnValue = nil
            }
            try await harness.add("4000001")
            try await engine.runOnce()
            clock.advance(to: Self.noon + .seconds(60))
            try await engine.runOnce()
            try await eventually("it is tried again") { harness.recorder.closed.count == 2 }
            await engine.stop(grace: .zero)
            #expect(harness.service.asked.count == 2)
            #expect(Set(harness.service.asked.map(\.job)).count == 2)
            Self.expectOnce(harness.recorder)
            #expect(harness.recorder.closed.allSatisfy { $0.result == .failed })
        }
    }

    @Test(
        "an outcome that cannot be written outlasts trouble of another kind: the work is not repeated, and its job is closed once"
    )
    func unwrittenAndTrouble() async throws {
        var options = SandboxOptions.testing
        options.globalLines = ["moduleload retcode", "moduleload constraint"]
        options.databaseLines = [
            "overlay retcode", "retcode-parent \"ou=codes,\(SandboxTree.suffix)\"", "retcode-indir",
            "overlay constraint",
            "constraint_attribute sstProvisioningState regex ^0$ restrict=\"ldap:///\(SandboxTree.accountsDN)??sub?(sstQuota=1)\"",
        ]
        try await EngineHarness.run(sandbox: options) { harness in
            try await harness.running { _ in
                try await harness.add("4000001", quota: "1")
                try await eventually("its outcome is refused") {
                    harness.messages.contains { $0.contains("outcome cannot be written") }
                }
                let dn = try EngineHarness.dn("4000001")
                try await harness.manager.modify(
                    dn, [.add("objectClass", "errAuxObject"), .add("errCode", "80"), .add("errOp", "search")])
                try await eventually("it cannot be read") {
                    harness.messages.contains { $0.contains("cannot be worked on") }
                }
                try await harness.manager.modify(
                    dn,
                    [
                        .delete("objectClass", "errAuxObject"), .delete("errCode", "80"), .delete("errOp", "search"),
                        .replace("sstQuota", "2"),
                    ])
                try await harness.expectMode("added", of: "4000001")
                try await eventually("it is closed") { harness.recorder.closed.count == 1 }
            }
            #expect(harness.service.asked.count == 1)
            Self.expectOnce(harness.recorder)
        }
    }

    @Test("B9 a job whose next attempt is due and only lacks a slot has the letter d, not t")
    func letterOfARetry() async throws {
        let clock = ManualClock(Self.noon)
        try await EngineHarness.run(clock: clock) { harness in
            let gate = Gate()
            harness.service.doing { call in
                if call.uid == "4000002" { return await gate.pass() }
                if call.attempt == 1 {
                    throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
                }
            }
            var configuration = try harness.configuration()
            configuration.slots = 1
            let registry = configuration.executor.registry
            try await harness.running {
                $0 = configuration
            } _: { engine in
                try await harness.add("4000001")
                try await eventually("it waits for its next attempt") { await engine.snapshot().retrying.count == 1 }
                let job = try #require(await engine.snapshot().retrying.first?.job)
                #expect(await registry.live(job)?.status == .waitingForStartTime)
                try await harness.add("4000002")
                try await eventually("another has the slot") { harness.service.asked.contains { $0.uid == "4000002" } }
                clock.advance(to: Self.noon + .seconds(60))
                try await eventually("it lacks a slot") { await registry.live(job)?.status == .waitingForMaximumJobs }
                gate.open()
                try await harness.expectMode("added", of: "4000001")
                try await eventually("it is closed") { await registry.live(job) == nil }
                #expect(harness.recorder.letters(of: job) == "RtdRT")
            }
        }
    }

    @Test(
        "a stop is bounded: a job that does not end when it is cancelled is logged by name, and can be resumed"
    )
    func deafJob() async throws {
        try await EngineHarness.run { harness in
            let (waiting, release) = AsyncStream<Never>.makeStream()
            harness.service.doing { _ in await Task { for await _ in waiting {} }.value }
            let engine = try await harness.engine()
            await engine.start()
            try await harness.add("4000001")
            try await eventually("it runs") { !harness.service.asked.isEmpty }
            await engine.stop(grace: .milliseconds(1), cancelTimeout: .milliseconds(1))
            #expect(
                harness.messages.contains {
                    $0.hasPrefix("error") && $0.contains("4000001") && $0.contains("did not end")
                })
            #expect(try await harness.mode("4000001") == "adding")
            #expect(harness.recorder.closed.isEmpty)
            release.finish()
        }
    }
}
