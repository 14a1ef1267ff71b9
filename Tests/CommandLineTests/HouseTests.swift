import Foundation
import Provisioning
import Testing

/// Which target may import which, as in ARCHITECTURE.md.
@Suite struct HouseTests {
    private static let ours: [String: Set<String>] = [
        "CLDAP": [], "CSQLite": [], "CLinux": [], "DirectoryModel": [],
        "DirectoryClient": ["CLDAP", "DirectoryModel", "EventLoop"],
        "EventLoop": ["CLinux"],
        "JobCore": ["EventLoop", "CLinux", "CSQLite"],
        "Provisioning": ["DirectoryModel", "DirectoryClient", "EventLoop", "JobCore"],
        "BackupRsnapshot": ["Provisioning", "EventLoop", "JobCore", "DirectoryModel", "CLinux"],
        "ScriptService": ["Provisioning", "EventLoop", "JobCore", "DirectoryModel"],
        "DaemonKit": ["EventLoop", "JobCore", "CLinux"],
        "DirectorySandbox": ["EventLoop", "DirectoryModel", "DirectoryClient"],
        "prov-backup-rsnapshot": [
            "DirectoryModel", "DirectoryClient", "EventLoop", "JobCore", "Provisioning", "BackupRsnapshot",
            "ScriptService", "DaemonKit", "DirectorySandbox",
        ],
        "CLimit": ["CLDAP"],
        "prov-backup-confine": [],
        "provisioning-bench": [
            "CLimit", "DirectoryModel", "DirectoryClient", "EventLoop", "JobCore", "Provisioning", "BackupRsnapshot",
            "ScriptService", "DaemonKit", "DirectorySandbox",
        ],
    ]

    @Test("a target imports only what its row names, and full Foundation is in none")
    func imports() throws {
        let sources = DaemonBench.checkout.appending(path: "Sources")
        let targets = try FileManager.default.contentsOfDirectory(atPath: sources.path)
        #expect(
            Set(targets) == Set(Self.ours.keys), "a new target needs its row here and in ARCHITECTURE.md")
        var looked = 0
        for target in targets {
            let folder = sources.appending(path: target)
            for path in try FileManager.default.subpathsOfDirectory(atPath: folder.path) where path.hasSuffix(".swift")
            {
                let text = try String(contentsOf: folder.appending(path: path), encoding: .utf8)
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
            contentsOf: DaemonBench.checkout.appending(path: "ARCHITECTURE.md"), encoding: .utf8)
        #expect(text.contains(TransitionTable.diagram), "put this into ARCHITECTURE.md:\n\(TransitionTable.diagram)")
    }
}

extension TransitionTable {
    /// The table as a diagram for Mermaid, as it stands in ARCHITECTURE.md.
    fileprivate static var diagram: String {
        var lines = ["stateDiagram-v2", "    [*] --> wished: wish"]
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
