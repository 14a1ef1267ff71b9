import Foundation
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

    @Test("the state machine in ARCHITECTURE.md is the one that runs")
    func diagram() throws {
        let text = try String(
            contentsOf: DaemonHarness.checkout.appending(path: "ARCHITECTURE.md"), encoding: .utf8)
        #expect(text.contains(TransitionTable.diagram), "put this into ARCHITECTURE.md:\n\(TransitionTable.diagram)")
    }
}

extension TransitionTable {
    /// The table as a diagram for Mermaid, as in ARCHITECTURE.md.
    fileprivate static var diagram: String {
        var lines = ["stateDiagram-v2", "    [*] --> requested: request"]
        for phase in AccountPhase.allCases {
            for event in AccountEvent.allCases {
                switch transition(from: phase, on: event) {
                case .becomes(let next): lines.append("    \(phase) --> \(next): \(event)")
                case .resumes: lines.append("    \(phase) --> \(phase): \(event) (resumed)")
                case .stays, .loses: break
                }
            }
        }
        return lines.joined(separator: "\n")
    }
}
