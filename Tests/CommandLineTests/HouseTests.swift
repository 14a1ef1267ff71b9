import Foundation
import JobCore
import LDAP
import Provisioning
import Testing

/// Which target may import which, as in ARCHITECTURE.md.
@Suite struct HouseTests {
    private static let ours: [String: Set<String>] = [
        "CLDAP": [], "CSQLite": [], "CLinux": [],
        "LDAP": ["CLDAP", "EventLoop"],
        "EventLoop": ["CLinux"],
        "JobCore": ["EventLoop", "CLinux", "CSQLite"],
        "Provisioning": ["LDAP", "EventLoop", "JobCore"],
        "BackupService": ["Provisioning", "EventLoop", "JobCore", "LDAP", "CLinux"],
        "ScriptService": ["Provisioning", "EventLoop", "JobCore", "LDAP"],
        "Daemon": ["EventLoop", "JobCore", "CLinux"],
        "Sandbox": ["EventLoop", "LDAP"],
        "prov-backup-rsnapshot": [
            "LDAP", "EventLoop", "JobCore", "Provisioning", "BackupService",
            "ScriptService", "Daemon", "Sandbox",
        ],
        "CLimit": ["CLDAP"],
        "prov-backup-confine": [],
        "provisioning-bench": [
            "CLimit", "LDAP", "EventLoop", "JobCore", "Provisioning", "BackupService",
            "ScriptService", "Daemon", "Sandbox",
        ],
    ]

    @Test("a target imports only what its row names, and full Foundation is in none")
    func imports() throws {
        let sources = DaemonHarness.checkout.appending(path: "Sources")
        let targets = try FileManager.default.contentsOfDirectory(atPath: sources.path)
        #expect(
            Set(targets) == Set(Self.ours.keys), "a new target needs its row here and in ARCHITECTURE.md")
        var looked = 0
        for target in targets {
            let directory = sources.appending(path: target)
            for path in try FileManager.default.subpathsOfDirectory(atPath: directory.path)
            where path.hasSuffix(".swift") {
                let text = try String(contentsOf: directory.appending(path: path), encoding: .utf8)
                for match in text.matches(of: /(?m)^(?:@testable |public |private |internal )?import (\w+)/) {
                    looked += 1
                    let module = String(match.1)
                    #expect(module != "Foundation", "\(target)/\(path)")
                    if Self.ours[module] != nil {
                        #expect(Self.ours[target]?.contains(module) == true, "\(target)/\(path) imports \(module)")
                    }
                }
            }
        }
        #expect(looked > 200)
    }

    @Test("the state machine in ARCHITECTURE.md is that of the writes")
    func diagram() throws {
        let text = try String(
            contentsOf: DaemonHarness.checkout.appending(path: "ARCHITECTURE.md"), encoding: .utf8)
        let diagram = try Self.diagram()
        #expect(text.contains(diagram), "put this into ARCHITECTURE.md:\n\(diagram)")
    }

    /// A diagram for Mermaid: the phase to which each write leads, from the phases in which it is made.
    private static func diagram() throws -> String {
        let names = AttributeNames()
        let time = Timestamp(secondsSince1970: 0)
        let writes: [(event: String, from: [AccountPhase], write: (AccountStatus) -> EntryWrite)] = [
            ("claim", [.requested], { .claim($0, holder: nil, names: names) }),
            ("refuse", [.requested], { .fail($0, .undefinedError, names: names) }),
            ("finish", [.claimed], { .finish($0, at: time, names: names) }),
            ("fail", [.claimed], { .fail($0, .undefinedError, names: names) }),
            ("retry", [.requested, .failed], { .retry($0, names: names) }),
            ("restart (resumed)", [.claimed], { .resume($0, holder: nil, names: names) }),
        ]
        var lines = ["stateDiagram-v2", "    [*] --> requested: request"]
        for phase in AccountPhase.allCases {
            let status = try status(in: phase)
            #expect(status.phase == phase)
            lines.append("    \(phase) --> requested: request")
            for (event, _, write) in writes.filter({ $0.from.contains(phase) }) {
                var written = status
                let write = write(status)
                (written.mode, written.state, written.returnValue) = (write.mode, write.state, write.returnValue)
                lines.append("    \(phase) --> \(written.phase): \(event)")
            }
        }
        return lines.joined(separator: "\n")
    }

    private static func status(in phase: AccountPhase) throws -> AccountStatus {
        let (mode, state, returnValue): (AttributeValue, AttributeValue, AttributeValue?) =
            switch phase {
            case .idle: ("add", "19700101T000000Z", nil)
            case .requested: ("add", "0", nil)
            case .claimed: ("adding", "0", nil)
            case .failed: ("adding", "0", "1")
            case .done: ("added", "19700101T000000Z", "0")
            }
        var entry = Entry(dn: try DN(parsing: "uid=1,dc=org"))
        let names = AttributeNames()
        entry["entryUUID"] = ["f3f1c6b2-6a52-4a0f-9f0e-5a0d6d3c1b70"]
        entry["entryCSN"] = ["20261121120000.000000Z#000000#000#000000"]
        (entry[names.mode], entry[names.state]) = ([mode], [state])
        if let returnValue { entry["sstProvisioningReturnValue"] = [returnValue] }
        return try #require(AccountStatus(entry, names: names))
    }
}
