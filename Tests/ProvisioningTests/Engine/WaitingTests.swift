import LDAP
import Sandbox
import JobCore
import Synchronization
import TestSupport
import Testing

@testable import Provisioning

/// Very many accounts at once: some wait in memory, and the others in LDAP.
@Suite struct WaitingTests {
    private static func uids(_ count: Int) -> [String] { (0..<count).map { "\(4_000_000 + $0)" } }

    private func add(_ uids: [String], to harness: EngineHarness) async throws {
        for uid in uids { try await harness.add(uid) }
    }

    private func allAreAdded(_ uids: [String], _ harness: EngineHarness) async throws {
        for uid in uids { try await harness.expectMode("added", of: uid) }
    }

    @Test(
        "when more accounts are due than the bound, the watcher waits, and none is lost",
        arguments: [Detection.persist, .poll], [1, 16])
    func heldUp(detection: Detection, bound: Int) async throws {
        try await EngineHarness.run { harness in
            let uids = Self.uids(60)
            try await add(uids, to: harness)
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            try await harness.running(bound: bound) {
                $0.slots = 2
                $0.timing = Watcher.Timing(detection: detection, pollInterval: .milliseconds(10))
            } _: { engine in
                try await eventually("it is full") { await engine.snapshot().waiting == bound }
                // The daemon is not notified of this yet, and other operations work.
                try await harness.add("4000100")
                try await harness.request(uids[59], "modify")
                #expect(await engine.snapshot().waiting == bound)
                gate.open()
                try await allAreAdded(Array(uids.dropLast()) + ["4000100"], harness)
                try await harness.expectMode("modified", of: uids[59])
            }
            #expect(Set(harness.service.asked.map(\.uid)) == Set(uids + ["4000100"]))
        }
    }

    @Test(
        "another job on the account is interrupted when the entry has a request that is due, and not otherwise"
    )
    func interruption() async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001", mode: "added", state: "20261121T120000Z")
            let subject = JobSubject("\(try await harness.key("4000001").uuid)")
            let scheduler = JobScheduler(clock: harness.clock)
            let interrupted = Mutex(0)
            let backups = await scheduler.addClass(
                JobScheduler.Owner {
                    JobClass(limit: 1)
                } begin: { _, _ in
                } interrupt: { key in
                    interrupted.withLock { $0 += 1 }
                    scheduler.finish(key)
                })
            let backup = Scheduler.Item(job: JobID(1), on: subject, class: backups, rank: 1)
            #expect(await scheduler.offer(backup) == nil)
            try await harness.running(scheduler: scheduler) { engine in
                try await harness.set("4000001", "sstProvisioningExecutionDate", "20991231")
                try await harness.request("4000001", "modify")
                try await eventually("the account waits") { await engine.snapshot().waiting == 1 }
                try await harness.set("4000001", "sstProvisioningExecutionDate", "0")
                try await harness.expectMode("modified", of: "4000001")
            }
            #expect(interrupted.withLock { $0 } == 1)
        }
    }

    @Test("while the watcher is held back, an operator's account goes before all others")
    func urgentWhileHeldUp() async throws {
        try await EngineHarness.run { harness in
            let uids = Self.uids(40)
            try await add(uids, to: harness)
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            try await harness.running(bound: 14) {
                $0.slots = 1
            } _: { engine in
                try await eventually("it is full") { await engine.snapshot().waiting == 14 }
                // Two wait, and the third is not known yet.
                let wanted = [uids[3], uids[9], uids[39]]
                for uid in wanted {
                    let key = try await harness.key(uid)
                    Task.immediate { await engine.provision(key) }
                }
                try await eventually("all wait") { await engine.snapshot().waiting == 15 }
                gate.open()
                try await allAreAdded(uids, harness)
                let order = harness.service.asked.map(\.uid)
                #expect(Set(order[1...3]) == Set(wanted))
                #expect(Array(order.dropFirst(4)) == uids.dropFirst().filter { !wanted.contains($0) })
            }
        }
    }

    @Test("accounts start in the order in which they were seen, with any bound")
    func order() async throws {
        try await EngineHarness.run { harness in
            let uids = Self.uids(50)
            try await add(uids, to: harness)
            try await harness.running(bound: 2) {
                $0.slots = 1
            } _: { _ in
                try await allAreAdded(uids, harness)
            }
            #expect(harness.service.asked.map(\.uid) == uids)
        }
    }

    @Test("a waiting account is reconciled by its entry at the start: changed, renamed, done by others or removed")
    func changesWhileItWaits() async throws {
        try await EngineHarness.run { harness in
            let uids = Self.uids(12)
            try await add(uids, to: harness)
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            try await harness.running(bound: 100) {
                $0.slots = 1
            } _: { engine in
                try await eventually("all wait") { await engine.snapshot().waiting == 11 }
                try await harness.set(uids[5], "sstQuota", "5")
                let renamed = try await harness.key(uids[6]).uuid
                try await harness.manager.rename(EngineHarness.dn(uids[6]), to: RDN("uid", "4000106"))
                try await harness.set(uids[7], "sstProvisioningState", "20261121T120000Z")
                try await harness.manager.delete(EngineHarness.dn(uids[8]))
                gate.open()
                try await allAreAdded(uids.filter { ![uids[6], uids[7], uids[8]].contains($0) } + ["4000106"], harness)
                #expect(try await harness.key("4000106").uuid == renamed)
                try await eventually("nothing is left") { await engine.snapshot().waiting == 0 }
            }
            let done = harness.service.asked
            #expect(done.first { $0.uid == uids[5] }?.quota == "5")
            #expect(done.count { $0.uid == "4000106" } == 1)
            #expect(!done.contains { $0.uid == uids[7] || $0.uid == uids[8] })
        }
    }

    @Test("a stop and a reload end at once while the watcher is held back, and no request is lost")
    func stopWhileHeldUp() async throws {
        try await EngineHarness.run { harness in
            let uids = Self.uids(30)
            try await add(uids, to: harness)
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            let engine = try await harness.engine(bound: 6) { $0.slots = 1 }
            await engine.start()
            try await eventually("it is full") { await engine.snapshot().waiting == 6 }
            var changed = try harness.configuration()
            changed.slots = 1
            await harness.reload(engine, changed)
            try await eventually("a job is asked for") { !harness.service.asked.isEmpty }
            await engine.stop(grace: .zero)
            #expect(harness.service.asked.count == 1)
            gate.open()
            try await harness.running { _ in
                try await allAreAdded(uids, harness)
            }
        }
    }

    @Test("lists that are held back do not disturb each other")
    func listsHeldUp() async throws {
        try await EngineHarness.run { harness in
            // More than a page, and more than a page again behind the bound.
            let uids = Self.uids(1_100)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (place, uid) in uids.enumerated() {
                    if place >= 50 { try await group.next() }
                    group.addTask { try await harness.add(uid) }
                }
                try await group.waitForAll()
            }
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            try await harness.running(bound: 20) {
                $0.slots = 8
                $0.timing = Watcher.Timing(
                    detection: .poll, pollInterval: .milliseconds(1), relistInterval: .milliseconds(1))
            } _: { engine in
                try await eventually("it is full") { await engine.snapshot().waiting >= 20 }
                gate.open()
                try await eventually("all are done") { Set(harness.service.asked.map(\.uid)).count == uids.count }
            }
            #expect(harness.messages.filter { $0.hasPrefix("error") } == [])
        }
    }

    @Test("runOnce does all due accounts, also when they are more than the bound")
    func onceOverTheBound() async throws {
        try await EngineHarness.run { harness in
            let uids = Self.uids(25)
            try await add(uids, to: harness)
            let engine = try await harness.engine(bound: 2)
            try await engine.runOnce()
            #expect(Set(harness.service.asked.map(\.uid)) == Set(uids))
            await engine.stop(grace: .zero)
        }
    }
}
