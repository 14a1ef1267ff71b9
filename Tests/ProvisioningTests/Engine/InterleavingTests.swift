import LDAP
import Sandbox
import Foundation
import JobCore
import Provisioning
import Synchronization
import SystemPackage
import TestSupport
import Testing

/// Events between a job's attempts, between two readings of the clock, and between a reload and a stop.
@Suite struct InterleavingTests {
    private static let noon = Timestamp(secondsSince1970: 1_795_262_400)

    @Test("an unrelated change between two attempts neither starts the next one nor resets their count")
    func changeBetweenAttempts() async throws {
        try await EngineHarness.run(clock: ManualClock(Self.noon)) { harness in
            harness.service.doing { call in
                guard call.uid == "4000001" else { return }
                throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
            }
            try await harness.running {
                $0.slots = 1
            } _: { engine in
                try await harness.add("4000001")
                try await eventually("it waits for its second attempt") { await engine.snapshot().retrying.count == 1 }
                for number in 0..<3 {
                    try await harness.set("4000001", "sstQuota", "\(number)")
                    // One slot, in the order of the notifications: once this is done, the change has been handled.
                    try await harness.add("400001\(number)")
                    try await harness.expectMode("added", of: "400001\(number)")
                    try await eventually("nothing runs") { await engine.snapshot().running.isEmpty }
                    #expect(await engine.snapshot().retrying.map(\.attempt) == [1])
                }
            }
            #expect(harness.service.asked.filter { $0.uid == "4000001" }.map(\.attempt) == [1])
        }
    }

    @Test("a request that becomes due between two readings of the clock is not forgotten", arguments: Array(1...20))
    func dueBetweenReadings(offset: Int) async throws {
        let midnight = Self.noon + .seconds(12 * 3600)
        let clock = CreepingClock(midnight + .seconds(-3600 * offset), stopAt: midnight)
        try await EngineHarness.run(clock: clock) { harness in
            try await harness.add("4000001", date: "20261122")
            try await harness.running {
                $0.timing = Watcher.Timing(relistInterval: .seconds(86_400 * 365))
            } _: { _ in
                try await harness.expectMode("added", of: "4000001")
            }
        }
    }

    /// An engine in the middle of a job.
    private func atWork(
        _ harness: EngineHarness, _ work: @escaping RecordingService.Work
    ) async throws -> Engine {
        harness.service.doing(work)
        let engine = try await harness.engine()
        await engine.start()
        try await harness.add("4000001")
        try await eventually("it runs") { !harness.service.asked.isEmpty }
        return engine
    }

    @Test("a reload does not wait for jobs that run, and a stop after it ends them")
    func reloadWithHangingJob() async throws {
        try await EngineHarness.run { harness in
            let engine = try await atWork(harness) { _ in try await Task.sleep(for: .seconds(3600)) }
            let changed = try harness.configuration()
            try await finishes("the reload") { await harness.reload(engine, changed) }
            try await finishes("the stop") { await engine.stop(grace: .zero) }
        }
    }

    @Test("a stop after a reload also ends an old job that waits for an unreachable LDAP server")
    func stopAfterReloadWhileAway() async throws {
        try await EngineHarness.run { harness in
            let gate = Gate()
            let engine = try await atWork(harness) { _ in await gate.pass() }
            try await harness.sandbox.kill()
            gate.open()
            try await eventually("it is missed") { await !engine.snapshot().isLDAPAvailable }
            let changed = try harness.configuration()
            try await finishes("the reload") { await harness.reload(engine, changed) }
            try await finishes("the stop") { await engine.stop(grace: .zero) }
        }
    }

    @Test("a stop during a write of unknown outcome ends at once and logs no error")
    func stopInDoubt() async throws {
        try await EngineHarness.run { harness in
            let gate = Gate()
            let engine = try await atWork(harness) { _ in await gate.pass() }
            harness.sandbox.pause()
            gate.open()
            try await finishes("the stop") { await engine.stop(grace: .milliseconds(200)) }
            harness.sandbox.resume()
            #expect(harness.messages.filter { $0.hasPrefix("error") } == [])
        }
    }

    @Test("DETECTION = persist on a server without Content Sync is logged with the hint")
    func persistNotOffered() async throws {
        var options = SandboxOptions.testing
        options.contentSync = false
        try await EngineHarness.run(sandbox: options) { harness in
            try await harness.running {
                $0.timing.detection = .persist
            } _: { _ in
                try await eventually("it is said") { harness.messages.contains { $0.contains("overlay syncprov") } }
            }
        }
    }

    @Test("polling that fails is logged once, and so is its recovery")
    func pollingFails() async throws {
        try await EngineHarness.run { harness in
            try await harness.running {
                $0.timing = Watcher.Timing(detection: .poll, pollInterval: .milliseconds(10))
                $0.scope.base = try Self.nowhere
                $0.ldapRetry = RetryPolicy(
                    maximumAttempts: .max, delay: .milliseconds(1), maximumDelay: .milliseconds(1))
            } _: { _ in
                let failures = { harness.messages.filter { $0.contains("cannot be listed") } }
                try await eventually("it is said and tried again") { failures().count > 4 }
                #expect(failures().filter { $0.hasPrefix("error") }.count == 1)
                var unit = Entry(dn: try Self.nowhere)
                unit["objectClass"] = ["organizationalUnit"]
                try await harness.manager.add(unit)
                try await eventually("its end is said") { harness.messages.contains { $0.contains("listed again") } }
            }
        }
    }

    private static var nowhere: DN { get throws { try DN(parsing: "ou=nowhere,\(SandboxTree.accountsDN)") } }

    @Test("an account that does not meet SEARCH_FILTER any more when it starts is left alone")
    func leavesTheCondition() async throws {
        let clock = ManualClock(Self.noon)
        try await EngineHarness.run(clock: clock) { harness in
            let midnight = Self.noon + .seconds(12 * 3600)
            try await harness.add("4000001", date: "20261122")
            try await harness.running {
                $0.scope.condition = .equal("sstQuota", "1073741824")
            } _: { engine in
                try await eventually("it waits") { clock.deadlines.contains(midnight) }
                try await harness.set("4000001", "sstQuota", "1")
                try await harness.add("4000002")
                try await harness.expectMode("added", of: "4000002")
                clock.advance(to: midnight)
                try await harness.add("4000003")
                try await eventually("4000003 becomes added") {
                    // If the search has not reported the last change yet, it is restarted after a delay.
                    clock.advance(to: clock.now + .milliseconds(200))
                    return try await harness.mode("4000003") == "added"
                }
            }
            #expect(try await harness.mode("4000001") == "add")
        }
    }

    @Test("an account that names two servers is provisioned by neither, with an error in the log")
    func twoHosts() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { _ in try await Task.sleep(for: .milliseconds(300)) }
            func daemon(_ host: String) async throws -> Engine {
                try await harness.engine {
                    $0.scope.hosts = [host]
                }
            }
            let (one, other) = (try await daemon("one"), try await daemon("other"))
            try await harness.add("4000001", host: "one")
            try await harness.manager.modify(EngineHarness.dn("4000001"), [.add("host", "other")])
            await one.start()
            await other.start()
            try await eventually("it is said") {
                harness.messages.contains { $0.contains("\"one\", \"other\"") } || !harness.service.asked.isEmpty
            }
            try await harness.add("4000002", host: "one")
            try await harness.expectMode("added", of: "4000002")
            await one.stop(grace: .zero)
            await other.stop(grace: .zero)
            #expect(harness.service.asked.map(\.uid) == ["4000002"])
        }
    }

    @Test(
        "operational attributes that the access rules hide are logged as an error",
        arguments: ["entryUUID", "entryCSN"], [Detection.persist, .poll])
    func hiddenAttributes(name: String, detection: Detection) async throws {
        let pieces = try HidingPieces(name)
        defer { pieces.remove() }
        var options = SandboxOptions.testing
        options.pieces = pieces.directory
        try await EngineHarness.run(sandbox: options) { harness in
            try await harness.running {
                $0.timing = Watcher.Timing(detection: detection, pollInterval: .milliseconds(10))
            } _: { _ in
                try await harness.add("4000001")
                try await eventually("it is said") {
                    harness.messages.contains { $0.hasPrefix("error") && $0.contains(name) && $0.contains("4000001") }
                }
            }
        }
    }

    @Test("an operator who provisions an account now gets the outcome of its last attempt")
    func provisionWaitsForTheOutcome() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { call in
                guard call.uid == "4000002" || call.attempt < 2 else { return }
                throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
            }
            let engine = try await harness.engine()
            try await harness.add("4000001")
            try await harness.add("4000002")
            let (first, second) = (try await harness.key("4000001"), try await harness.key("4000002"))
            #expect(await engine.provision(first) == .success)
            #expect(await engine.provision(second) == .cannotSetQuota)
            await engine.stop(grace: .zero)
        }
    }

    @Test("an operator gets a failure when the server refuses the claim, and the state names what delays provisioning")
    func provisionWithoutRights() async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001")
            let engine = try await harness.engine { $0.scope.names.returnValue = "sstQuota" }
            #expect(await engine.provision(try harness.key("4000001")) == .undefinedError)
            let delays = await engine.snapshot().shortages
            #expect(delays.map(\.accounts) == [1] && delays.first?.reason.contains("insufficientAccessRights") == true)
            #expect(harness.messages.contains { $0.hasPrefix("error: provisioning is delayed: ") })
            await engine.stop(grace: .zero)
        }
    }

    private func finishes(_ what: String, _ body: @escaping @Sendable () async -> Void) async throws {
        let done = Flag()
        Task {
            await body()
            done.set()
        }
        try await eventually("\(what) comes to its end") { done.isSet }
    }

    private final class Flag: Sendable {
        private let value = Atomic(false)
        var isSet: Bool { value.load(ordering: .acquiring) }
        func set() { value.store(true, ordering: .releasing) }
    }
}

/// Advances by an hour with each reading, up to a time.
private final class CreepingClock: WallClock {
    private let state: Mutex<Timestamp>
    private let end: Timestamp

    init(_ start: Timestamp, stopAt end: Timestamp) {
        state = Mutex(start)
        self.end = end
    }

    var now: Timestamp {
        state.withLock { time in
            time = min(time + .seconds(3600), end)
            return time
        }
    }

    func sleep(until deadline: Timestamp) async throws {
        guard deadline <= end else { return try await Task.sleep(for: .seconds(3600)) }
        state.withLock { $0 = max($0, deadline) }
    }
}

/// The shipped pieces with a first access rule that hides an attribute from all.
private struct HidingPieces {
    let directory: FilePath

    init(_ name: String) throws {
        let shipped = URL(filePath: #filePath).appending(path: "../../../../etc/openldap").standardized
        let copy = FileManager.default.temporaryDirectory.appending(path: "pieces-\(UUID().uuidString)")
        try FileManager.default.copyItem(at: shipped, to: copy)
        directory = FilePath(copy.path)
        let file = copy.appending(path: "access-claim.conf")
        let rules = try String(contentsOf: file, encoding: .utf8)
        try "access to attrs=\(name) by * none\n\(rules)".write(to: file, atomically: true, encoding: .utf8)
    }

    func remove() { try? FileManager.default.removeItem(atPath: directory.string) }
}
