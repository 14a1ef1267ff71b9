import LDAP
import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// Anything that is kept in a directory, provisioned by three scripts and the real daemon.
@Suite struct DaemonScriptServiceTests {
    private static func settings(_ bench: DaemonBench, add: String, modify: String, delete: String) throws {
        try bench.settings(
            service: "SERVICE = Anything\nTYPE = Script",
            backup: """
                [Script]
                ADD = \(add)
                MODIFY = \(modify)
                DELETE = \(delete)
                ATTRIBUTES = uid cn sstQuota
                """)
    }

    @Test(
        "add, modify and delete are three scripts; their jobs are listed; check and a dry run show what they would do")
    func wholeWay() async throws {
        try await DaemonBench.run { bench in
            func script(_ name: String) throws -> String {
                try bench.script(name, "echo \"$PROV_ACTION $1 $PROV_ATTR_SSTQUOTA\" >> \(bench.path("done"))")
            }
            let (add, modify, delete) = (try script("add.sh"), try script("modify.sh"), try script("delete.sh"))
            try Self.settings(bench, add: add, modify: modify, delete: delete)
            try await bench.add("3724300", ["sstQuota": "1000"])

            let check = try await bench.command("check")
            #expect(check.status == 0, "\(check.output)")
            #expect(check.output.contains(add) && check.output.contains(delete), "\(check.output)")
            #expect(!check.output.contains("rsnapshot:"), "\(check.output)")
            let dry = try await bench.command("run", "-r", "--once")
            #expect(dry.status == 0, "\(dry.output)")
            for part in ["\(add) 3724300", "PROV_ACTION=add", "PROV_ATTR_SSTQUOTA=1000", "PROV_DN="] {
                #expect(dry.output.contains(part), "\(part) is missing in:\n\(dry.output)")
            }
            #expect(!FileManager.default.fileExists(atPath: bench.path("done")))

            let daemon = try await bench.running()
            try await bench.reached("added", "3724300")
            try await bench.wish("3724300", "modify", ["sstQuota": "2000"])
            try await bench.reached("modified", "3724300")
            try await bench.wish("3724300", "delete", ["sstIsActive": "FALSE"])
            try await bench.reached("deleted", "3724300")
            #expect(
                try String(contentsOfFile: bench.path("done"), encoding: .utf8)
                    == "add 3724300 1000\nmodify 3724300 2000\ndelete 3724300 2000\n")
            try await eventually("all three are recorded") {
                try await bench.jobs("--type", "Provisioning").count { $0.result == .success } == 3
            }
            let backup = try await bench.command("backup", "daily")
            #expect(backup.status != 0 && backup.output.contains("TYPE = Rsnapshot"), "\(backup.output)")
            await bench.stop(daemon)
        }
    }

    @Test("check names a script of the service that others could change, or that is not there, with its hint")
    func badScript() async throws {
        try await DaemonBench.run { bench in
            let add = try bench.script("add.sh", "exit 0")
            chmod(add, 0o777)
            try Self.settings(bench, add: add, modify: bench.path("none.sh"), delete: "")
            let check = try await bench.command("check")
            #expect(check.status != 0, "\(check.output)")
            #expect(check.output.contains("chmod") && check.output.contains(add), "\(check.output)")
            #expect(check.output.contains(bench.path("none.sh")), "\(check.output)")
        }
    }
}
