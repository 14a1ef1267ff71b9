import LDAP
import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// Anything that is kept in a directory, provisioned by three scripts and the real daemon.
@Suite struct DaemonScriptServiceTests {
    private static func settings(_ harness: DaemonHarness, add: String, modify: String, delete: String) throws {
        try harness.settings(
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
        try await DaemonHarness.run { harness in
            func script(_ name: String) throws -> String {
                try harness.script(name, "echo \"$PROV_ACTION $1 $PROV_ATTR_SSTQUOTA\" >> \(harness.path("done"))")
            }
            let (add, modify, delete) = (try script("add.sh"), try script("modify.sh"), try script("delete.sh"))
            try Self.settings(harness, add: add, modify: modify, delete: delete)
            try await harness.add("3724300", ["sstQuota": "1000"])

            let check = try await harness.command("check")
            #expect(check.status == 0, "\(check.output)")
            #expect(check.output.contains(add) && check.output.contains(delete), "\(check.output)")
            #expect(!check.output.contains("rsnapshot:"), "\(check.output)")
            let dry = try await harness.command("run", "-r", "--once")
            #expect(dry.status == 0, "\(dry.output)")
            for part in ["\(add) 3724300", "PROV_ACTION=add", "PROV_ATTR_SSTQUOTA=1000", "PROV_DN="] {
                #expect(dry.output.contains(part), "\(part) is missing in:\n\(dry.output)")
            }
            #expect(!FileManager.default.fileExists(atPath: harness.path("done")))

            let daemon = try await harness.running()
            try await harness.reached("added", "3724300")
            try await harness.request("3724300", "modify", ["sstQuota": "2000"])
            try await harness.reached("modified", "3724300")
            try await harness.request("3724300", "delete", ["sstIsActive": "FALSE"])
            try await harness.reached("deleted", "3724300")
            #expect(
                try String(contentsOfFile: harness.path("done"), encoding: .utf8)
                    == "add 3724300 1000\nmodify 3724300 2000\ndelete 3724300 2000\n")
            try await eventually("all three are recorded") {
                try await harness.jobs("--type", "Provisioning").count { $0.result == .success } == 3
            }
            let backup = try await harness.command("backup", "daily")
            #expect(backup.status != 0 && backup.output.contains("TYPE = Rsnapshot"), "\(backup.output)")
            await harness.stop(daemon)
        }
    }

    @Test("check names a script of the service that others could change, or that is not there, with its hint")
    func badScript() async throws {
        try await DaemonHarness.run { harness in
            let add = try harness.script("add.sh", "exit 0")
            chmod(add, 0o777)
            try Self.settings(harness, add: add, modify: harness.path("none.sh"), delete: "")
            let check = try await harness.command("check")
            #expect(check.status != 0, "\(check.output)")
            #expect(check.output.contains("chmod") && check.output.contains(add), "\(check.output)")
            #expect(check.output.contains(harness.path("none.sh")), "\(check.output)")
        }
    }
}
