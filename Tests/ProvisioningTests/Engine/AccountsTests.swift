import Glibc
import LDAP
import JobCore
import Provisioning
import Sandbox
import Synchronization
import TestSupport
import Testing

/// Reads and writes of accounts by a service's other jobs.
@Suite struct AccountsTests {
    @Test(
        "all accounts of this daemon's hosts are handed over page by page, each once, also over a restart of the server"
    )
    func list() async throws {
        try await EngineHarness.run { harness in
            // More than two pages.
            for number in 0..<1_100 { try await harness.add("40\(10_000 + number)", mode: "added", host: "one") }
            try await harness.add("4900000", mode: "added", host: "two")
            let engine = try await harness.engine { $0.scope.hosts = ["one"] }
            var seen: [String] = []
            for try await account in await engine.accounts(attributes: ["uid"]) {
                seen.append(try #require(account.entry.text("uid")))
                if seen.count == 300 {
                    // Others' requests meanwhile, a list among them, do not disturb it.
                    let found = try await engine.account(account.key, attributes: ["uid"])
                    #expect(found?.entry.text("uid") == seen.last)
                    var others = 0
                    for try await _ in await engine.accounts(attributes: []) { others += 1 }
                    #expect(others == 1_100)
                }
                if seen.count == 600 {
                    try await harness.sandbox.restart()
                    try await harness.reconnect()
                }
            }
            #expect(seen.count == 1_100 && Set(seen).count == 1_100)
            let one = await engine.accounts(where: .equal("uid", "4900000"), attributes: ["uid"])
            for try await account in one { Issue.record("not ours: \(account.key.dn)") }
            var all: [String] = []
            let everywhere = await engine.accounts(
                where: .equal("uid", "4900000"), attributes: ["uid"], ofAllHosts: true)
            for try await account in everywhere { all += account.status.hosts }
            #expect(all == ["two"])
            #expect(try await engine.account(harness.key("4900000"), attributes: []) == nil)
            await engine.stop(grace: .zero)
        }
    }

    @Test(
        "found besides the failed accounts are those of this host with a requested or claimed mode whose state is not 0, or with state 0 and a mode that is none"
    )
    func invalid() async throws {
        try await EngineHarness.run { harness in
            let time = "20260101T000000Z"
            let rows: [(mode: String, state: String, isInvalid: Bool)] = [
                ("add", "00", true), ("adding", time, true), ("modify", "-1", true), ("Modifying", time, true),
                ("delete", time, true), ("deleting", time, true), ("modifed", "0", true), ("add", "0", false),
                ("modifying", "0", false), ("DELETE", " 0", false), ("added", time, false), ("Modified", time, false),
                ("deleted", "0", false),
            ]
            for (number, row) in rows.enumerated() {
                try await harness.add("\(4_000_000 + number)", mode: row.mode, state: row.state, host: "one")
            }
            try await harness.add("4900000", mode: "modifed", host: "two")
            try await harness.add(
                "4900001", mode: "adding", host: "one", others: ["sstProvisioningReturnValue": "1"])
            // Found by no index.
            try await harness.add("4900002", mode: "modifed", state: time, host: "one")
            let names = AttributeNames()
            for (number, row) in rows.enumerated() {
                let entry = try #require(try await harness.entry("\(4_000_000 + number)"))
                #expect(AccountStatus.isInvalid(entry, names: names) == row.isInvalid, "\(row)")
            }
            #expect(AccountStatus.isInvalid(try #require(try await harness.entry("4900002")), names: names))
            #expect(!AccountStatus.isInvalid(try #require(try await harness.entry("4900001")), names: names))
            let invalid = rows.indices.filter { rows[$0].isInvalid }.map { "\(4_000_000 + $0)" }
            for (returnValue, failed) in [(names.returnValue, ["4900001"]), (nil, [])] {
                let engine = try await harness.engine {
                    $0.scope.hosts = ["one"]
                    $0.scope.names.returnValue = returnValue
                }
                var found: [String] = []
                for try await entry in await engine.failedOrInvalid(attributes: ["uid"]) {
                    found.append(entry.text("uid") ?? "")
                }
                #expect(found.sorted() == invalid + failed)
                await engine.stop(grace: .zero)
            }
        }
    }

    @Test("a write waits for an unreachable LDAP server, succeeds afterwards, and causes no reconcile")
    func write() async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001", mode: "added")
            try await harness.running { engine in
                let key = try await harness.key("4000001")
                try await harness.sandbox.kill()
                async let written: Void = engine.write(to: key, reading: ["sstBackupSize"]) { entry in
                    entry.text("sstBackupSize") == "5" ? [] : [.replace("sstBackupSize", "5")]
                }
                try await eventually("the absence is noticed") {
                    harness.messages.contains { $0.contains("the LDAP server is unreachable") }
                }
                try await harness.sandbox.restart()
                try await harness.reconnect()
                try await written
                #expect(try await harness.entry("4000001")?.text("sstBackupSize") == "5")
                // A reconcile that a notification had caused would be ahead of this request in the queue.
                try await harness.add("4000002")
                try await harness.expectMode("added", of: "4000002")
                #expect(harness.service.asked.map(\.uid) == ["4000002"])
            }
        }
    }

    @Test("two daemons that change their own values of one attribute at once lose none")
    func sharedAttribute() async throws {
        let name: AttributeName = "sstBackupLastSuccessfulBackup"
        try await EngineHarness.run { harness in
            try await harness.add("4000001", mode: "added", others: [name: "0"])
            let key = try await harness.key("4000001")
            let engines = await [try harness.engine(), try harness.engine()]
            try await withThrowingTaskGroup { group in
                for (number, engine) in engines.enumerated() {
                    group.addTask {
                        for round in 0..<50 {
                            let new = AttributeValue("host\(number):\(round)")
                            try await engine.write(to: key, reading: [name]) { entry in
                                guard !entry[name].contains(new) else { return [] }
                                let old = entry[name].filter {
                                    $0.text == "0" || $0.text?.hasPrefix("host\(number):") == true
                                }
                                return (old.isEmpty ? [] : [Modification(.delete, name, old)]) + [.add(name, new)]
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            let values = try #require(try await harness.entry("4000001"))[name].compactMap(\.text).sorted()
            #expect(values == ["host0:49", "host1:49"])
            for engine in engines { await engine.stop(grace: .zero) }
        }
    }

    @Test("a write is for the entry that was read, not for another one that has its DN by then")
    func replaced() async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001", mode: "added")
            try await harness.add("4000002", mode: "added")
            let key = try await harness.key("4000001")
            let changes = try [("4000001", "4000003"), ("4000002", "4000001")].map { old, new in
                "dn: \(try EngineHarness.dn(old))\nchangetype: modrdn\nnewrdn: uid=\(new)\ndeleteoldrdn: 1\n"
            }
            let sandbox = harness.sandbox
            let command = """
                ldapmodify -x -H '\(sandbox.uri)' -D '\(sandbox.adminDN)' -w '\(sandbox.adminPassword)' >/dev/null <<'END'
                \(changes.joined(separator: "\n"))
                END
                """
            let isFirst = Mutex(true)
            let engine = try await harness.engine()
            try await engine.write(to: key, reading: ["sstBackupSize"]) { _ in
                if isFirst.withLock({ isFirst in
                    defer { isFirst = false }
                    return isFirst
                }) {
                    #expect(system(command) == 0)
                }
                return [.replace("sstBackupSize", "5")]
            }
            #expect(try await harness.entry("4000003")?.text("sstBackupSize") == "5")
            #expect(try await harness.entry("4000001")?["sstBackupSize"] == [])
            await engine.stop(grace: .zero)
        }
    }

    @Test("a write to a removed entry fails, one that the server refuses fails, and a renamed entry is found")
    func refusals() async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001", mode: "added")
            try await harness.add("4000002", mode: "added")
            let engine = try await harness.engine()
            let (gone, renamed) = (try await harness.key("4000001"), try await harness.key("4000002"))
            try await harness.manager.delete(gone.dn)
            await #expect(throws: AccountGone.self) {
                try await engine.write(to: gone, reading: []) { _ in [.replace("sstBackupSize", "5")] }
            }
            try await harness.manager.rename(renamed.dn, to: RDN("uid", "4000003"))
            try await engine.write(to: renamed, reading: []) { entry in
                entry.text("sstBackupSize") == nil ? [.replace("sstBackupSize", "5")] : []
            }
            #expect(try await harness.entry("4000003")?.text("sstBackupSize") == "5")
            let error = await #expect(throws: LDAPError.self) {
                try await engine.write(to: renamed, reading: []) { _ in [.replace("sstQuota", "1")] }
            }
            #expect(error?.code == .insufficientAccessRights)
            await engine.stop(grace: .zero)
        }
    }
}
