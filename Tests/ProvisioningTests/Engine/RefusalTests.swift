import LDAP
import Sandbox
import JobCore
import Provisioning
import TestSupport
import Testing

/// Entries that the server answers for with an error of its own, by the overlay retcode.
@Suite struct RefusalTests {
    private static let noon = Timestamp(secondsSince1970: 1_795_262_400)

    private static var sandbox: SandboxOptions {
        var options = SandboxOptions.testing
        options.globalLines = ["moduleload retcode", "moduleload constraint"]
        options.databaseLines = [
            "overlay constraint",
            "constraint_attribute sstProvisioningState regex ^0$ restrict=\"ldap:///\(SandboxTree.accountsDN)??sub?(sstQuota=1)\"",
            // OpenLDAP 2.6 answers with most codes of retcode and then makes the change all the same (ITS#6138). The
            // overlay that is named last is asked first, so this one is left to refuse it.
            "constraint_attribute sstProvisioningMode regex ^(add|added)$ restrict=\"ldap:///\(SandboxTree.accountsDN)??sub?(objectClass=errAuxObject)\"",
            "overlay retcode", "retcode-parent \"ou=codes,\(SandboxTree.suffix)\"", "retcode-indir",
        ]
        return options
    }

    private static func answering(_ code: Int) -> [AttributeName: String] { ["errCode": "\(code)", "errOp": "modify"] }

    @Test("a compare-and-set that is lost again and again leads to a delay, not to a busy loop", arguments: [16, 122])
    func lostForEver(code: Int) async throws {
        try await EngineHarness.run(sandbox: Self.sandbox, clock: ManualClock(Self.noon)) { harness in
            try await harness.running { engine in
                try await harness.add("4000001", classes: ["errAuxObject"], others: Self.answering(code))
                try await eventually("it waits") {
                    let snapshot = await engine.snapshot()
                    return snapshot.troubled == 1 && snapshot.running.isEmpty
                        && snapshot.nextDue.map { $0 > Self.noon } == true
                }
                try await eventually("it is said") { harness.messages.contains { $0.contains("4000001") } }
                try await harness.add("4000002")
                try await harness.expectMode("added", of: "4000002")
            }
            #expect(try await harness.mode("4000001") == "add")
            #expect(harness.service.asked.map(\.uid) == ["4000002"])
        }
    }

    @Test(
        "a request that the server refuses, or is too busy for, does not delay others", arguments: [50, 51, 52, 53, 80])
    func refusedClaim(code: Int) async throws {
        try await EngineHarness.run(sandbox: Self.sandbox) { harness in
            try await harness.running {
                $0.slots = 2
            } _: { _ in
                try await harness.add("4000001", classes: ["errAuxObject"], others: Self.answering(code))
                for number in 0..<10 {
                    try await harness.add("400001\(number)")
                    try await harness.expectMode("added", of: "400001\(number)")
                }
            }
            #expect(try await harness.mode("4000001") == "add")
            #expect(!harness.messages.contains { $0.contains("unreachable") })
        }
    }

    @Test("a server that is too busy for a write keeps its connection, is reported once, and is asked again")
    func busy() async throws {
        try await EngineHarness.run(sandbox: Self.sandbox) { harness in
            try await harness.add("4000001", mode: "added", classes: ["errAuxObject"], others: Self.answering(51))
            let key = try await harness.key("4000001")
            try await harness.running {
                $0.ldapRetry = RetryPolicy(
                    maximumAttempts: .max, delay: .milliseconds(1), maximumDelay: .milliseconds(1))
            } _: { engine in
                let write = Task {
                    try await engine.write(to: key, reading: []) { _ in [.replace("sstBackupSize", "5")] }
                }
                try await eventually("it is an error after some tries") {
                    harness.messages.contains { $0.hasPrefix("error") && $0.contains("too busy") }
                }
                #expect(await !engine.snapshot().isLDAPAvailable)
                try await harness.add("4000002")
                try await harness.expectMode("added", of: "4000002")
                write.cancel()
                await #expect(throws: CancellationError.self) { try await write.value }
                #expect(await engine.snapshot().isLDAPAvailable)
            }
            #expect(harness.messages.filter { $0.contains("too busy") }.count == 2)
            #expect(!harness.messages.contains { $0.contains("unreachable") })
        }
    }

    @Test("a replica that was used while the provider was away, and refuses a claim, is left for the provider")
    func replica() async throws {
        var options = SandboxOptions.testing
        options.databaseLines = ["updatedn \"\(SandboxTree.managerDN)\"", "updateref ldap://provider.example.org"]
        try await EngineHarness.run { provider in
            try await provider.add("4000001")
            let key = try await provider.key("4000001")
            try await EngineHarness.run(sandbox: options) { replica in
                try await replica.manager.modify(
                    DN(parsing: replica.sandbox.daemonDN),
                    [.replace("userPassword", AttributeValue(provider.sandbox.daemonPassword))])
                try await provider.sandbox.kill()
                try await provider.running {
                    $0.servers.append(try ServerAddress(parsing: replica.sandbox.uri))
                } _: { engine in
                    // The replica has no such entry.
                    #expect(await engine.provision(key) == nil)
                    try await provider.sandbox.restart()
                    try await provider.reconnect()
                    #expect(await engine.provision(key) == nil)
                    try await replica.add("4000002")
                    try await eventually("the provider is used") { await engine.provision(key) == .success }
                }
                #expect(try await provider.mode("4000001") == "added")
            }
        }
    }

    @Test("an outcome that the server refuses takes no slot, and is written later without new work")
    func refusedOutcome() async throws {
        try await EngineHarness.run(sandbox: Self.sandbox) { harness in
            try await harness.running {
                $0.slots = 1
            } _: { _ in
                try await harness.add("4000001", quota: "1")
                try await eventually("it is said") {
                    harness.messages.contains { $0.hasPrefix("error: provisioning is delayed: ") }
                }
                try await harness.add("4000002")
                try await harness.expectMode("added", of: "4000002")
                try await harness.set("4000001", "sstQuota", "2")
                try await harness.expectMode("added", of: "4000001")
            }
            #expect(harness.service.asked.map(\.uid) == ["4000001", "4000002"])
            #expect(harness.messages.filter { $0.hasPrefix("error") }.count == 1)
        }
    }

    /// What happens to an entry while it waits for the outcome of its delete.
    enum Change: CaseIterable {
        case activated, filteredOut, movedAway
    }

    @Test(
        "the outcome of work that is done is written, also if the entry has changed since, and after a restart",
        arguments: Change.allCases, [false, true])
    func changedBeforeOutcome(change: Change, isRestarted: Bool) async throws {
        try await EngineHarness.run(sandbox: Self.sandbox) { harness in
            let settings: (inout Engine.Configuration) -> Void = {
                $0.scope.condition = .not(.equal("cn", "other"))
                $0.scope.hosts = ["one"]
                $0.scope.names.claim = "provisioningClaim"
                $0.policy.claimHolder = "one"
            }
            var engine = try await harness.engine(settings)
            await engine.start()
            try await harness.add(
                "4000001", mode: "delete", quota: "1", host: "one", classes: ["provisioningClaimable"])
            try await eventually("its outcome waits") { await engine.snapshot().troubled == 1 }
            if isRestarted { await engine.stop(grace: .zero) }
            let modification: Modification =
                switch change {
                case .activated: .replace("sstIsActive", "TRUE")
                case .filteredOut: .replace("cn", "other")
                case .movedAway: .replace("host", "two")
                }
            let key = try await harness.key("4000001")
            try await harness.manager.modify(
                EngineHarness.dn("4000001"), [modification, .replace("sstQuota", "2")])
            if isRestarted {
                engine = try await harness.engine(settings)
                await engine.recover(harness.interruptedJobs)
                await engine.start()
            }
            _ = await engine.provision(key)
            try await harness.expectMode("deleted", of: "4000001")
            try await eventually("its job is closed") { harness.recorder.closed.count == 1 }
            await engine.stop(grace: .zero)
            #expect(harness.service.asked.count == 1)
            #expect(harness.recorder.closed.map(\.result) == [.success])
        }
    }
}
