import LDAP
import Foundation
import JobCore
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Provisioning

/// Writes that arrive after the entry has changed: of dead processes, and of others during a job.
@Suite struct LateWriteTests {
    private static let names = AttributeNames()

    /// A time after all entryCSNs of these tests.
    private static let later = Timestamp(secondsSince1970: 4_000_000_000)

    /// An entryCSN of a while from now.
    private static func version(after duration: Duration) -> AttributeValue {
        let time = (SystemWallClock().now + duration).text.replacing("T", with: "")
        return AttributeValue("\(time.dropLast()).000000Z#000000#000#000000")
    }

    private static func finish(_ entry: Entry) throws -> EntryWrite {
        let status = try #require(AccountStatus(entry, names: names))
        return .finish(status, at: SystemWallClock().now, names: names)
    }

    @Test("a late write of a dead process fails once its job is resumed")
    func deadProcess() async throws {
        try await EngineHarness.run { harness in
            let gate = Gate()
            harness.service.doing { _ in
                await gate.pass()
                try Task.checkCancellation()
            }
            let first = try await harness.engine()
            await first.start()
            try await harness.add("4000001")
            try await eventually("the job runs") { harness.service.asked.count == 1 }
            let late = try Self.finish(try #require(try await harness.entry("4000001")))
            await first.stop(grace: .zero)
            #expect(try await harness.mode("4000001") == "adding")
            try await harness.running { _ in
                try await eventually("the work goes on") { harness.service.asked.count == 2 }
                let error = await #expect(throws: LDAPError.self) {
                    try await harness.manager.modify(
                        EngineHarness.dn("4000001"), late.modifications, asserting: late.assertion)
                }
                #expect(error?.code == .assertionFailed)
                #expect(try await harness.mode("4000001") == "adding")
                gate.open()
                try await harness.expectMode("added", of: "4000001")
            }
        }
    }

    @Test("an entry that was removed and added again under its DN does not get the outcome of the old entry's job")
    func addedAgain() async throws {
        try await EngineHarness.run { harness in
            let gates = [Gate(), Gate()]
            harness.service.doing { call in await gates[call.operation == .add ? 0 : 1].pass() }
            try await harness.running { _ in
                try await harness.add("4000001")
                try await eventually("the first job runs") { harness.service.asked.count == 1 }
                try await harness.manager.delete(EngineHarness.dn("4000001"))
                try await harness.add("4000001", mode: "modify")
                try await eventually("the second job runs") { harness.service.asked.count == 2 }
                gates[0].open()
                try await eventually("the first is closed") { !harness.recorder.closed.isEmpty }
                #expect(harness.recorder.closed.first?.message.contains("was removed") == true)
                #expect(try await harness.mode("4000001") == "modifying")
                gates[1].open()
                try await harness.expectMode("modified", of: "4000001")
            }
        }
    }

    @Test("two entries that name one home are both refused, for all operations, until one is removed")
    func sharedHome() async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            let copy = try EngineHarness.base.appending("cn", "Account 4000001")
            try await harness.running { _ in
                try await harness.add("4000001", mode: "added", state: "20260101T000000Z")
                try await harness.add("4000001", mode: "delete", at: copy)
                func entry(_ dn: DN) async throws -> Entry? {
                    try await harness.manager.entry(at: dn, attributes: ["*"])
                }
                try await eventually("it is refused") {
                    try await entry(copy)?.text("sstProvisioningReturnValue") == "1"
                }
                try await harness.request("4000001", "modify")
                try await eventually("the other is refused") { try await harness.returnValue("4000001") == "1" }
                #expect(harness.service.asked.isEmpty)
                try await eventually("both are named") {
                    harness.messages.contains { $0.contains("\(copy) has the uid 4000001, which uid=4000001,") }
                }
                try await harness.manager.delete(copy)
                try await harness.request("4000001", "modify")
                try await harness.expectMode("modified", of: "4000001")
            }
        }
    }

    @Test("an entry that names another one's home by another attribute is refused, and the attribute is named")
    func sharedByAnotherAttribute() async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            harness.service.alsoUnique.withLock { $0 = "sstQuota" }
            try await harness.running { _ in
                try await harness.add("4000001", mode: "added", state: "20260101T000000Z")
                try await harness.add("4000002", quota: "4000001")
                try await eventually("it is refused") { try await harness.returnValue("4000002") == "1" }
                try await eventually("the attribute is named") {
                    harness.messages.contains { $0.contains("has the uid 4000001") && $0.contains("sstQuota") }
                }
                #expect(harness.service.asked.isEmpty)
            }
        }
    }

    @Test(
        "an entry whose home another one has named before by another attribute is refused as well, with that attribute",
        arguments: ["add", "modify"])
    func namedBefore(mode: String) async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            harness.service.alsoUnique.withLock { $0 = "sstQuota" }
            try await harness.running { _ in
                try await harness.add("4000002", quota: "4000001")
                try await harness.expectMode("added", of: "4000002")
                try await harness.add("4000001", mode: mode)
                try await eventually("it is refused") { try await harness.returnValue("4000001") == "1" }
                let other = try EngineHarness.dn("4000002")
                try await eventually("the other entry and its attribute are named") {
                    harness.messages.contains { $0.contains("\(other) has the sstQuota 4000001") }
                }
                #expect(harness.service.asked.map(\.uid) == ["4000002"])
                try await harness.request("4000002", "modify", quota: "5000000")
                try await harness.expectMode("modified", of: "4000002")
                try await harness.request("4000001", "add")
                try await harness.expectMode("added", of: "4000001")
            }
        }
    }

    @Test("neither of two entries of which one names the other's home by another attribute is kept from its deletion")
    func namedByAnotherAttributeAndDeleted() async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            harness.service.alsoUnique.withLock { $0 = "sstQuota" }
            try await harness.running { _ in
                try await harness.add("4000002", mode: "added", quota: "4000001")
                try await harness.add("4000001", mode: "delete")
                try await harness.expectMode("deleted", of: "4000001")
                try await harness.request("4000002", "delete")
                try await harness.expectMode("deleted", of: "4000002")
            }
        }
    }

    @Test("an entry without the unique attribute keeps none from its request, also if another attribute has the value")
    func namedByNoAccount() async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            harness.service.alsoUnique.withLock { $0 = "gidNumber" }
            var group = Entry(dn: try EngineHarness.base.appending("cn", "4000001"))
            (group["objectClass"], group["gidNumber"]) = (["top", "posixGroup"], ["4000001"])
            try await harness.manager.add(group)
            try await harness.running { _ in
                try await harness.add("4000001")
                try await harness.expectMode("added", of: "4000001")
            }
        }
    }

    @Test(
        "one job at a time works on a home, also when its entry is removed and added again meanwhile"
    )
    func oneJobForAHome() async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            try await harness.running { _ in
                try await harness.add("4000001", mode: "delete")
                try await eventually("the first job runs") { harness.service.asked.count == 1 }
                try await harness.manager.delete(EngineHarness.dn("4000001"))
                try await harness.add("4000001")
                try await eventually("the second waits") {
                    harness.messages.contains { $0.contains("waits for another job that works on its uid") }
                }
                #expect(try await harness.mode("4000001") == "add")
                gate.open()
                try await harness.expectMode("added", of: "4000001")
                #expect(!harness.service.hasOverlapped)
            }
        }
    }

    @Test(
        "a job that waits for its next attempt is refused when another entry names the same home, also in a subtype",
        arguments: [false, true])
    func sharedHomeMeanwhile(isSubtype: Bool) async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            harness.service.doing { _ in
                throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
            }
            try await harness.running {
                $0.jobRetry = RetryPolicy(
                    maximumAttempts: .max, delay: .milliseconds(20), maximumDelay: .milliseconds(20))
            } _: { _ in
                try await harness.add("4000001")
                try await eventually("it is tried again") { harness.service.asked.count > 2 }
                if isSubtype {
                    try await harness.add("4000002", mode: "added", others: ["uid;lang-de": "4000001"])
                } else {
                    try await harness.add(
                        "4000001", mode: "added", state: "20260101T000000Z",
                        at: EngineHarness.base.appending("cn", "Account 4000001"))
                }
                try await eventually("it is refused") { try await harness.returnValue("4000001") == "1" }
                try await eventually("its job is closed") { !harness.recorder.closed.isEmpty }
                #expect(harness.recorder.closed.count == 1 && harness.recorder.opened.count == 1)
                #expect(
                    harness.recorder.closed.first?.message.contains("has the uid 4000001, which uid=4000001,")
                        == true)
            }
        }
    }

    /// Changes an entry again and again, as logins do, until the task is cancelled.
    private static func change(_ uid: String, by connection: LDAPConnection) async throws {
        var number = 0
        while !Task.isCancelled {
            number += 1
            try await connection.modify(
                EngineHarness.dn(uid), [.replace("sstBackupWarningDays", AttributeValue("\(number % 90)"))])
        }
    }

    @Test("an entry that others keep changing gets its outcome, its work is done once, and no other account waits")
    func changedAllTheTime() async throws {
        try await EngineHarness.run { harness in
            let second = try await EngineHarness.connect(harness.sandbox)
            defer { second.close() }
            try await harness.running {
                $0.slots = 1
            } _: { _ in
                try await harness.add("4000001")
                let logins = Task { try await Self.change("4000001", by: second) }
                try await eventually("the job has run") { harness.service.asked.count == 1 }
                try await harness.add("4000002")
                try await harness.expectMode("added", of: "4000002")
                logins.cancel()
                _ = await logins.result
                try await harness.expectMode("added", of: "4000001")
                #expect(harness.service.asked.map(\.uid) == ["4000001", "4000002"])
            }
        }
    }

    @Test(
        "an account that another daemon has claimed waits until that claim is removed; our claim on an account that asks for nothing is removed"
    )
    func sharedAccounts() async throws {
        try await EngineHarness.run { harness in
            let classes = ["provisioningClaimable"]
            let tomorrow = (harness.clock.now + .seconds(86_400)).text.prefix(8)
            try await harness.running {
                $0.scope.names.claim = "provisioningClaim"
                $0.policy.claimHolder = "one"
            } _: { _ in
                try await harness.add("4000001", classes: classes, others: ["provisioningClaim": "two 17"])
                try await harness.add("4000002", classes: classes, others: ["provisioningClaim": "one 17"])
                try await harness.add(
                    "4000003", date: String(tomorrow), classes: classes, others: ["provisioningClaim": "one 18"])
                try await harness.expectMode("added", of: "4000002")
                #expect(try await harness.entry("4000002")?.text("provisioningClaim") == nil)
                try await eventually("the claim is given back") {
                    try await harness.entry("4000003")?.text("provisioningClaim") == nil
                }
                try await eventually("the other's is seen") {
                    harness.messages.contains { $0.contains("another daemon holds the claim: \"two 17\"") }
                }
                #expect(harness.service.asked.map(\.uid) == ["4000002"])
                try await harness.manager.modify(
                    EngineHarness.dn("4000001"), [.delete("provisioningClaim", "two 17")])
                try await harness.expectMode("added", of: "4000001")
            }
        }
    }

    @Test(
        "an outcome is written to an entry that was changed, unless it has another request, claim or outcome"
    )
    func following() throws {
        var names = Self.names
        names.claim = "provisioningClaim"
        let claimed = try Fixture.status(mode: "adding", claim: "one 17", names: names)
        let finish = EntryWrite.finish(claimed, at: Timestamp(secondsSince1970: 0), names: names)
        var changed = claimed
        changed.csn = "20261121120001.000000Z#000000#000#000000"
        #expect(finish.following(changed)?.csn == changed.csn)
        #expect(finish.following(changed)?.modifications == finish.modifications)
        for status in [
            try Fixture.status(mode: "adding", claim: "one 18", names: names),
            try Fixture.status(mode: "adding", names: names),
            try Fixture.status(mode: "add", claim: "one 17", names: names),
            try Fixture.status(mode: "modifying", claim: "one 17", names: names),
            try Fixture.status(mode: "adding", returnValue: "6", claim: "one 17", names: names),
            try Fixture.status(mode: "added", state: "19700101T000000Z", claim: "one 17", names: names),
        ] {
            #expect(finish.following(status) == nil, "\(status)")
        }
    }

    @Test(
        "an entry older than the version already seen decides nothing, until the server has caught up or an operator asks"
    )
    func behind() async throws {
        try await EngineHarness.run { harness in
            try await harness.running { engine in
                try await harness.add("4000002")
                try await harness.expectMode("added", of: "4000002")
                try await harness.add("4000001", mode: "modified", state: "20260101T000000Z")
                let key = try await harness.key("4000001")
                await engine.reconciler.handle(.pending(key, csn: Self.version(after: .seconds(1_800)), isChange: true))
                try await harness.request("4000001", "modify")
                try await eventually("it is said") {
                    harness.messages.contains { $0.contains("the server lags behind") }
                }
                #expect(try await harness.mode("4000001") == "modify")
                try await eventually("it is counted") { await engine.snapshot().behind == [key] }
            }
            // A second run of the daemon.
            try await harness.running { engine in
                try await eventually("it waits still") { await engine.snapshot().behind.count == 1 }
                let key = try await harness.key("4000001")
                #expect(try await harness.mode("4000001") == "modify")
                #expect(await engine.provision(key) == .success)
                try await eventually("it is counted no more") { await engine.snapshot().behind.isEmpty }
                #expect(try await harness.mode("4000001") == "modified")
            }
        }
    }

    @Test("a version of a clock that was ahead does not delay an entry until that time")
    func aheadVersion() async throws {
        try await EngineHarness.run { harness in
            try await harness.running { engine in
                try await harness.add("4000001", mode: "modified", state: "20260101T000000Z")
                let key = try await harness.key("4000001")
                await engine.reconciler.handle(
                    .pending(key, csn: Self.version(after: .seconds(86_400)), isChange: true))
                try await harness.request("4000001", "modify")
                try await harness.expectMode("modified", of: "4000001")
            }
        }
    }

    @Test("an account that is given to another host between two attempts is released, so that the daemon there goes on")
    func movedBetweenAttempts() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { _ in
                throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
            }
            try await harness.running {
                $0.scope.names.claim = "provisioningClaim"
                $0.policy.claimHolder = "one"
                $0.scope.hosts = ["one"]
                $0.jobRetry = RetryPolicy(maximumAttempts: 9, delay: .seconds(3_600), maximumDelay: .seconds(3_600))
            } _: { engine in
                try await harness.add("4000001", host: "one", classes: ["provisioningClaimable"])
                try await eventually("it waits for its next attempt") { await engine.snapshot().retrying.count == 1 }
                #expect(try await harness.entry("4000001")?.text("provisioningClaim") != nil)
                try await harness.set("4000001", "host", "two")
                _ = await engine.provision(try await harness.key("4000001"))
                try await eventually("it is released") {
                    try await harness.entry("4000001")?.text("provisioningClaim") == nil
                }
                #expect(try await harness.mode("4000001") == "adding")
            }
        }
    }

    @Test("a single run tells that a request was not done because another daemon holds its home")
    func lockedElsewhere() async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            harness.service.isLocked.withLock { $0 = true }
            try await harness.add("4000001", classes: ["provisioningClaimable"])
            let engine = try await harness.engine {
                $0.scope.names.claim = "provisioningClaim"
                $0.policy.claimHolder = "one"
            }
            try await engine.runOnce()
            let snapshot = await engine.snapshot()
            #expect(snapshot.troubled == 1)
            #expect(snapshot.lockWaits.map(\.uuid) == [try await harness.key("4000001").uuid])
            await engine.stop(grace: .zero)
        }
    }

    @Test("a single run writes the outcome of an entry that others keep changing before it ends")
    func changedDuringSingleRun() async throws {
        try await EngineHarness.run { harness in
            let second = try await EngineHarness.connect(harness.sandbox)
            defer { second.close() }
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            try await harness.add("4000001")
            let engine = try await harness.engine()
            let run = Task { try await engine.runOnce() }
            try await eventually("the job runs") { harness.service.asked.count == 1 }
            let changes = Task { try await Self.change("4000001", by: second) }
            gate.open()
            try await eventually("the outcome waits, or was a moment faster than a change") {
                await engine.snapshot().troubled == 1 || harness.recorder.closed.count == 1
            }
            changes.cancel()
            _ = await changes.result
            try await run.value
            #expect(try await harness.mode("4000001") == "added")
            await engine.stop(grace: .zero)
        }
    }

    @Test("while no home can be locked no request is claimed, which is logged once, and ends by itself")
    func noLock() async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            harness.service.lockFailure.withLock {
                $0 = ProvisioningFailure(
                    .cannotCheckHomeDirPresence, .configuration, reason: "no lock", hint: "make room")
            }
            try await harness.running {
                $0.scope.names.claim = "provisioningClaim"
                $0.policy.claimHolder = "one"
            } _: { engine in
                for uid in ["4000001", "4000002"] { try await harness.add(uid, classes: ["provisioningClaimable"]) }
                try await eventually("both wait") { await engine.snapshot().shortages.first?.accounts == 2 }
                #expect(try await harness.mode("4000001") == "add" && harness.service.asked.isEmpty)
                #expect(harness.messages.count { $0.contains("no lock; make room") } == 1)
                harness.service.lockFailure.withLock { $0 = nil }
                for uid in ["4000001", "4000002"] { try await harness.expectMode("added", of: uid) }
            }
        }
    }

    @Test(
        "an operator's request interrupts another job on the same home, waits for its end, and gets its outcome; one that will be refused interrupts none",
        arguments: [true, false])
    func busy(isUnique: Bool) async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            let scheduler = JobScheduler(clock: harness.clock)
            let interrupted = Mutex(0)
            let others = await scheduler.addClass(
                JobScheduler.Owner {
                    JobClass(limit: 1)
                } begin: { _, _ in
                } interrupt: { _ in
                    interrupted.withLock { $0 += 1 }
                })
            let other = Scheduler.Item(job: JobID(1), on: JobSubject("former entry"), class: others)
            #expect(await scheduler.offer(other) == nil)
            try await harness.running(scheduler: scheduler) { engine in
                #expect(await engine.acquire("4000001", of: "uid", for: JobID(1)))
                try await harness.add("4000001", date: "20991231")
                let key = try await harness.key("4000001")
                if !isUnique {
                    try await harness.add("other", mode: "added", state: "20261121T120000Z")
                    try await harness.manager.modify(EngineHarness.dn("other"), [.add("uid", "4000001")])
                }
                let outcome = Task { await engine.provision(key) }
                try await eventually("it is told to wait") {
                    harness.messages.contains { $0.contains("waits for another job that works on its uid") }
                }
                try await eventually("it waits") {
                    await scheduler.status(of: .subject(JobSubject(key.uuid))) == .waitingForClientResource
                }
                #expect(interrupted.withLock { $0 } == (isUnique ? 1 : 0))
                await scheduler.finish(.job(JobID(1)))
                #expect(await outcome.value == (isUnique ? .success : .undefinedError))
            }
        }
    }

    @Test("an own write causes no reconcile; an entry that was listed is always reconciled")
    func listed() async throws {
        try await EngineHarness.run { harness in
            try await harness.running { engine in
                try await harness.add("4000001")
                try await harness.expectMode("added", of: "4000001")
                try await eventually("its job is closed") { !harness.recorder.closed.isEmpty }
                let (key, csn) = (
                    try await harness.key("4000001"), try await harness.entry("4000001")?["entryCSN"].first
                )
                func looks() -> Int { harness.messages.count { $0.contains("is left alone: done") } }
                let before = looks()
                await engine.reconciler.handle(.pending(key, csn: csn, isChange: true))
                await engine.reconciler.waitUntilIdle()
                #expect(looks() == before)
                await engine.reconciler.handle(.pending(key, csn: csn, isChange: false))
                try await eventually("it is looked at") { looks() > before }
            }
        }
    }

    @Test("versions are compared by time, counter and server; other forms are not compared")
    func versions() {
        let order: [AttributeValue] = [
            "20261121120000.000000Z#000000#000#000000", "20261121120000.000001Z#000000#000#000000",
            "20261121120000.000001Z#00000a#000#000000", "20261121120000.000001Z#00000a#001#000000",
        ]
        for (index, one) in order.enumerated() {
            for (other, two) in order.enumerated() {
                #expect(EntryVersion.isOlder(one, than: two) == (index < other))
            }
        }
        #expect(!EntryVersion.isOlder("1", than: order[0]) && !EntryVersion.isOlder(order[0], than: "2"))
        #expect(!EntryVersion.isOlder("20261121120000.000000Z#000000#000#00000X", than: order[1]))
    }

    @Test("a limited number of versions is kept, of each entry the newest")
    func seen() throws {
        var seen = SeenVersions(capacity: 2)
        let uuids = try ["1", "2", "3"].map {
            try #require(EntryUUID(text: "f3f1c6b2-6a52-4a0f-9f0e-5a0d6d3c1b7\($0)"))
        }
        func version(_ second: Int) -> AttributeValue {
            AttributeValue("2026112112000\(second).000000Z#000000#000#000000")
        }
        seen.insert(version(2), of: uuids[0], now: Self.later)
        seen.insert(version(1), of: uuids[0], now: Self.later)
        #expect(seen.version(of: uuids[0], now: Self.later) == version(2))
        seen.insert(version(1), of: uuids[1], now: Self.later)
        seen.insert(version(1), of: uuids[2], now: Self.later)
        #expect(
            seen.version(of: uuids[0], now: Self.later) == nil && seen.version(of: uuids[1], now: Self.later) != nil
                && seen.version(of: uuids[2], now: Self.later) != nil)
        seen.forget(uuids[1])
        #expect(seen.version(of: uuids[1], now: Self.later) == nil)
    }

    @Test(
        "if the LDAP server refuses the search for another entry with the uid, nothing is removed, and another attempt follows"
    )
    func cannotTell() async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            let (base, away) = (try EngineHarness.base, RDN("ou", "away"))
            harness.service.doing { call in
                if call.attempt == 1 { try await harness.manager.rename(base, to: away) }
            }
            try await harness.running {
                $0.jobRetry = RetryPolicy(maximumAttempts: .max, delay: .seconds(1), maximumDelay: .seconds(1))
            } _: { engine in
                try await harness.add("4000001", mode: "delete")
                try await eventually("it waits for the next attempt") {
                    await engine.snapshot().retrying.first?.failure.contains("cannot be told") == true
                }
                let moved = DN(rdns: [away] + base.rdns.dropFirst())
                try await harness.manager.rename(moved, to: #require(base.rdns.first))
                try await harness.expectMode("deleted", of: "4000001")
            }
        }
    }

    @Test(
        "the search for another entry with the same uid does not disturb the paged list of pending accounts"
    )
    func lookDuringList() async throws {
        try await EngineHarness.run { harness in
            harness.service.unique.withLock { $0 = "uid" }
            for number in 4_000_000..<4_001_100 { try await harness.add("\(number)") }
            let engine = try await harness.engine(bound: 50)
            try await engine.runOnce()
            await engine.stop(grace: .zero)
            #expect(Set(harness.service.asked.map(\.uid)).count == 1_100)
        }
    }

    @Test("a file of seen versions that cannot be written is reported once, and the versions are kept in memory")
    func seenFileFails() async throws {
        let warnings = Mutex<[String]>([])
        var seen = SeenVersions(file: "/dev/full", capacity: 4, now: Self.later) { text in
            warnings.withLock { $0.append(text) }
        }
        #expect(seen.notice == nil)
        for number in 1...2 {
            let uuid = try #require(EntryUUID(text: "f3f1c6b2-6a52-4a0f-9f0e-5a0d6d3c1b7\(number)"))
            let version = AttributeValue("20261121120001.000000Z#000000#000#000000")
            seen.insert(version, of: uuid, now: Self.later)
            await seen.flush()
            #expect(seen.version(of: uuid, now: Self.later) == version)
        }
        #expect(warnings.withLock(\.count) == 1)
        #expect(warnings.withLock(\.first)?.contains("a restart forgets") == true)
    }

    @Test(
        "versions outlast the process, also after more entries than capacity; a damaged file costs only its contents"
    )
    func seenFile() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "seen-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = directory.appending(path: "seen")
        func seen() -> SeenVersions { SeenVersions(file: FilePath(file.path), capacity: 4, now: Self.later) }
        func uuid(_ number: Int) throws -> EntryUUID {
            try #require(EntryUUID(text: "f3f1c6b2-6a52-4a0f-9f0e-5a0d6d3c1b7\(number)"))
        }
        func version(_ second: Int) -> AttributeValue {
            AttributeValue("2026112112000\(second).000000Z#000000#000#000000")
        }
        var first = seen()
        for number in 0..<5 { first.insert(version(number), of: try uuid(number), now: Self.later) }
        first.insert(version(7), of: try uuid(2), now: Self.later)
        first.forget(try uuid(3))
        first.insert("not comparable", of: try uuid(9), now: Self.later)
        await first.flush()
        var second = seen()
        #expect(second.notice == nil)
        #expect(try [0, 3, 9].allSatisfy { try second.version(of: uuid($0), now: Self.later) == nil })
        #expect(
            try second.version(of: uuid(1), now: Self.later) == version(1)
                && second.version(of: uuid(2), now: Self.later) == version(7)
                && second.version(of: uuid(4), now: Self.later) == version(4))
        second.insert(version(9), of: try uuid(5), now: Self.later)
        second.insert(version(9), of: try uuid(6), now: Self.later)
        await second.flush()
        #expect(
            try seen().version(of: uuid(5), now: Self.later) == version(9)
                && seen().version(of: uuid(6), now: Self.later) == version(9))
        // Versions of a clock that was ahead are not kept.
        var early = SeenVersions(capacity: 4)
        let now = Timestamp(secondsSince1970: 1_700_000_000)
        early.insert(version(1), of: try uuid(1), now: now)
        #expect(try early.version(of: uuid(1), now: Self.later) == nil)
        var text = try String(contentsOf: file, encoding: .utf8)
        text.replaceSubrange(text.startIndex..<text.index(text.startIndex, offsetBy: 5), with: "xxxxx")
        try text.write(to: file, atomically: false, encoding: .utf8)
        #expect(try (0..<7).count { try seen().version(of: uuid($0), now: Self.later) != nil } == 3)
        try "cut off".write(to: file, atomically: false, encoding: .utf8)
        #expect(
            try (0..<7).allSatisfy { try seen().version(of: uuid($0), now: Self.later) == nil } && seen().notice == nil)
        try FileManager.default.removeItem(at: directory)
        #expect(seen().notice?.contains("a restart forgets") == true)
    }
}
