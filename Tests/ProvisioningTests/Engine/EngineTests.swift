import LDAP
import Sandbox
import JobCore
import Provisioning
import TestSupport
import Testing

@Suite struct EngineTests {
    @Test(
        "a request goes from add to added, modify to modified, delete to deleted, each with a timestamp and ReturnValue 0"
    )
    func wholeWay() async throws {
        try await EngineHarness.run { harness in
            try await harness.running { _ in
                try await harness.add("4000001")
                for (mode, done) in [("add", "added"), ("modify", "modified"), ("delete", "deleted")] {
                    if mode != "add" { try await harness.request("4000001", mode) }
                    try await harness.expectMode(done, of: "4000001")
                    let entry = try #require(try await harness.entry("4000001"))
                    let state = try #require(entry.text("sstProvisioningState"))
                    #expect(state.wholeMatch(of: /[0-9]{8}T[0-9]{6}Z/) != nil)
                    #expect(entry.text("sstProvisioningReturnValue") == "0")
                    #expect(entry.text("sstProvisioningExecutionDate") == "0")
                }
            }
            #expect(harness.service.asked.map(\.operation) == [.add, .modify, .delete])
            #expect(harness.service.asked.allSatisfy { $0.attempt == 1 })
        }
    }

    @Test("F2: the notification of the daemon's own write of adding causes no work")
    func echo() async throws {
        try await EngineHarness.run { harness in
            try await harness.running { engine in
                for number in 0..<20 { try await harness.add("40000\(10 + number)") }
                for number in 0..<20 { try await harness.expectMode("added", of: "40000\(10 + number)") }
                // A request that is written last is done last, after everything that the notifications of own writes caused.
                try await harness.add("4000099")
                try await harness.expectMode("added", of: "4000099")
            }
            #expect(harness.service.asked.count == 21)
            #expect(Set(harness.service.asked.map(\.job)).count == 21)
        }
    }

    @Test("F1, F9: requests that were written while the daemon did not run are found at the start")
    func foundAtStart() async throws {
        try await EngineHarness.run { harness in
            for number in 0..<5 { try await harness.add("400001\(number)") }
            try await harness.add("4000020", mode: "added", state: "20260101T000000Z")
            try await harness.running { _ in
                for number in 0..<5 { try await harness.expectMode("added", of: "400001\(number)") }
            }
            #expect(harness.service.asked.count == 5)
        }
    }

    @Test("a server without syncprov is polled, and its requests are done")
    func polling() async throws {
        var options = SandboxOptions.testing
        options.contentSync = false
        try await EngineHarness.run(sandbox: options) { harness in
            try await harness.running {
                $0.timing.pollInterval = .milliseconds(20)
            } _: { _ in
                try await harness.add("4000001")
                try await harness.expectMode("added", of: "4000001")
                try await harness.request("4000001", "modify")
                try await harness.expectMode("modified", of: "4000001")
            }
            #expect(harness.messages.contains { $0.contains("polling") })
        }
    }

    @Test("DETECTION = poll, and the relist alone, detect requests")
    func relist() async throws {
        try await EngineHarness.run { harness in
            try await harness.running {
                $0.timing = Watcher.Timing(
                    detection: .poll, pollInterval: .seconds(3600), relistInterval: .milliseconds(50))
            } _: { _ in
                try await harness.add("4000001")
                try await harness.expectMode("added", of: "4000001")
            }
        }
    }

    @Test("a list makes no account due again whose entry it shows as it was; a change and other settings do")
    func waitsOn() async throws {
        try await EngineHarness.run(clock: ManualClock(Timestamp(secondsSince1970: 1_795_262_400))) { harness in
            func notes() -> Int { harness.messages.count { $0.contains("waits for its date") } }
            let engine = try await harness.engine {
                $0.timing = Watcher.Timing(detection: .poll, pollInterval: .milliseconds(20))
            }
            try await harness.add("4000001", date: "20990101")
            for _ in 0..<3 { try await engine.runOnce() }
            #expect(notes() == 1)
            try await harness.manager.modify(EngineHarness.dn("4000001"), [.replace("sstQuota", "5")])
            try await engine.runOnce()
            #expect(notes() == 2)
            await engine.reload()
            try await engine.runOnce()
            #expect(notes() == 3)
            await engine.stop(grace: .zero)
        }
    }

    @Test("entries of other hosts, without a host, or without mode and state are never touched")
    func others() async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001", host: "elsewhere")
            try await harness.add("4000002")
            try await harness.add("4000003", host: "here")
            try await harness.running {
                $0.scope.hosts = ["here"]
            } _: { _ in
                try await harness.expectMode("added", of: "4000003")
            }
            #expect(harness.service.asked.map(\.uid) == ["4000003"])
            #expect(try await harness.mode("4000001") == "add")
            #expect(try await harness.mode("4000002") == "add")
        }
    }

    @Test("delete of an active account is refused on the entry, and done once it is inactive and requested again")
    func activeAccount() async throws {
        try await EngineHarness.run { harness in
            try await harness.running { _ in
                try await harness.add("4000001", mode: "delete", active: "TRUE")
                try await eventually("refused") { try await harness.returnValue("4000001") == "1" }
                #expect(try await harness.mode("4000001") == "deleting")
                #expect(harness.service.asked.isEmpty)
                try await harness.set("4000001", "sstIsActive", "FALSE")
                try await harness.request("4000001", "delete")
                try await harness.expectMode("deleted", of: "4000001")
            }
        }
    }

    @Test("an entry that is removed deletes nothing; the job of an entry that is removed meanwhile ends with code 2")
    func vanished() async throws {
        try await EngineHarness.run { harness in
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            try await harness.running { engine in
                try await harness.add("4000001")
                try await eventually("the job runs") { !harness.service.asked.isEmpty }
                try await harness.manager.delete(EngineHarness.dn("4000001"))
                gate.open()
                try await eventually("the job has ended") { await engine.snapshot().failed == 1 }
                try await eventually("the job is closed") { !harness.recorder.closed.isEmpty }
            }
            #expect(harness.service.asked.map(\.operation) == [.add])
            #expect(
                harness.recorder.closed.contains { $0.message.contains("USER_NOT_PRESENT_IN_BACKEND, 2") })
            // It might only not have reached this server yet.
            #expect(harness.messages.contains { $0.contains("this server does not have it: asking again") })
        }
    }

    @Test("an entry that is renamed during its job gets the outcome under its new name")
    func renamed() async throws {
        try await EngineHarness.run { harness in
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            try await harness.running { _ in
                try await harness.add("4000001")
                try await eventually("the job runs") { !harness.service.asked.isEmpty }
                try await harness.manager.rename(EngineHarness.dn("4000001"), to: RDN("uid", "4000002"))
                gate.open()
                try await harness.expectMode("added", of: "4000002")
            }
            #expect(harness.service.asked.count == 1)
        }
    }

    @Test("F7: a job that hangs delays its own account only, and no more jobs run at once than there are slots")
    func slots() async throws {
        try await EngineHarness.run { harness in
            let gate = Gate()
            harness.service.doing { if $0.uid == "4000000" { await gate.pass() } }
            try await harness.running {
                $0.slots = 3
            } _: { _ in
                try await harness.add("4000000")
                try await eventually("the hanging job runs") { !harness.service.asked.isEmpty }
                for number in 1...12 { try await harness.add("40000\(10 + number)") }
                for number in 1...12 { try await harness.expectMode("added", of: "40000\(10 + number)") }
                #expect(try await harness.mode("4000000") == "adding")
                gate.open()
                try await harness.expectMode("added", of: "4000000")
            }
            #expect(harness.service.mostAtOnce <= 3)
            #expect(!harness.service.hasOverlapped)
        }
    }

    @Test("runOnce does what is due and returns; requests for the future stay")
    func once() async throws {
        try await EngineHarness.run(clock: ManualClock(Timestamp(secondsSince1970: 1_795_262_400))) { harness in
            for number in 0..<9 { try await harness.add("400001\(number)") }
            try await harness.add("4000030", date: "20261122")
            let engine = try await harness.engine()
            try await engine.runOnce()
            for number in 0..<9 { #expect(try await harness.mode("400001\(number)") == "added") }
            #expect(try await harness.mode("4000030") == "add")
            await engine.stop(grace: .zero)
        }
    }

    @Test("an operator can have a request carried out before its date, and gets the outcome")
    func provisionNow() async throws {
        try await EngineHarness.run(clock: ManualClock(Timestamp(secondsSince1970: 1_795_262_400))) { harness in
            try await harness.add("4000001", date: "20261231")
            try await harness.running { engine in
                let key = try await harness.key("4000001")
                #expect(await engine.provision(key) == .success)
                #expect(try await harness.mode("4000001") == "added")
                #expect(await engine.provision(key) == nil)
            }
        }
    }

    @Test("an interrupted job that becomes known while its account is being worked on is closed")
    func recoveredLate() async throws {
        try await EngineHarness.run { harness in
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            try await harness.running { engine in
                try await harness.add("4000001")
                try await eventually("the job runs") { !harness.service.asked.isEmpty }
                let interrupted = Job(
                    id: JobID(999), type: .provisioning, name: "add", level: "add",
                    subject: JobSubject("\(try await harness.key("4000001").uuid)"), client: "4000001",
                    created: harness.clock.now)
                await engine.recover([interrupted])
                #expect(harness.recorder.job(interrupted.id)?.result == .failed)
                gate.open()
                try await harness.expectMode("added", of: "4000001")
            }
        }
    }

    @Test("new settings apply to the next job, and the watcher continues")
    func reload() async throws {
        try await EngineHarness.run { harness in
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            let other = RecordingService()
            try await harness.running { engine in
                try await harness.add("4000001")
                try await eventually("the job runs") { !harness.service.asked.isEmpty }
                var changed = try harness.configuration()
                changed.service = other
                await harness.reload(engine, changed)
                try await harness.add("4000002")
                try await harness.expectMode("added", of: "4000002")
                gate.open()
                try await harness.expectMode("added", of: "4000001")
                try await harness.add("4000003")
                try await harness.expectMode("added", of: "4000003")
            }
            #expect(harness.service.asked.map(\.uid) == ["4000001"])
            #expect(other.asked.map(\.uid) == ["4000002", "4000003"])
        }
    }
}
