import LDAP
import Sandbox
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
            #expect(!daemon.output.contains("archived homes"), "\(daemon.output)")
        }
    }

    @Test(
        "an entry without a uid is administered by its name or its DN, one with two uids has the name that its jobs have"
    )
    func entriesWithoutUID() async throws {
        try await DaemonHarness.run { harness in
            let add = try harness.script("add.sh", "test -e \(harness.path("right")) || exit 6")
            try Self.settings(harness, add: add, modify: "", delete: "")
            let base = try DN(parsing: SandboxTree.accountsDN)
            func entry(_ dn: DN, _ attributes: [AttributeName: [AttributeValue]]) async throws {
                var entry = Entry(dn: dn)
                entry["sstProvisioningMode"] = ["add"]
                entry["sstProvisioningState"] = ["0"]
                entry["sstProvisioningExecutionDate"] = ["0"]
                for (name, values) in attributes { entry[name] = values }
                try await harness.manager.add(entry)
            }
            let jane = base.appending("cn", "Jane Doe")
            try await entry(jane, ["objectClass": ["organizationalRole", "sstProvisioning"], "cn": ["Jane Doe"]])
            let dots = base.appending("uid", "..")
            try await entry(dots, ["objectClass": ["account", "sstProvisioning"], "uid": ["t1", ".."]])
            let failed = [jane, dots].map(\.description).sorted()

            var daemon: RunningProgram? = try await harness.serving()
            try await eventually("both have failed") {
                try await harness.json("accounts", "list", "--failed").count == 2
            }
            let listed = try await harness.json("accounts", "list")
            #expect(listed.compactMap(\.["uid"].string).sorted() == ["..", "Jane Doe"])
            let jobs = try await harness.json("jobs", "list")
            #expect(Set(jobs.compactMap(\.["client"].string)) == ["..", "Jane Doe"])
            for _ in 1...2 {
                let status = try #require(try await harness.json("status").first)
                #expect(status["failedUIDs"].array.compactMap(\.string).sorted() == failed)
                for name in ["Jane Doe", jane.description] {
                    let explained = try #require(try await harness.json("accounts", "explain", name).first)
                    #expect(explained["uid"].string == "Jane Doe" && explained["dn"].string == jane.description)
                    #expect(explained["lastJob"]["client"].string == "Jane Doe")
                    #expect(
                        explained["cure"].string?.hasSuffix(" accounts retry \(jane.description.shellWord)") == true)
                }
                // The same without a daemon.
                if let running = daemon { await harness.stop(running) }
                daemon = nil
            }

            let again = try await harness.command("accounts", "retry", "--all")
            #expect(again.status == 0, "\(again.output)")
            #expect(try await harness.json("accounts", "list", "--failed").isEmpty)
            try harness.touch("right")
            for name in [jane.description, ".."] {
                #expect(try await harness.command("accounts", "provision", name).status == 0)
            }
            #expect(try await harness.json("accounts", "list").compactMap(\.["mode"].string) == ["added", "added"])

            try await entry(
                base.appending("ou", "a"), ["objectClass": ["organizationalUnit", "sstProvisioning"], "ou": ["a"]])
            let other = base.appending("ou", "a").appending("cn", "Jane Doe")
            try await entry(other, ["objectClass": ["organizationalRole", "sstProvisioning"], "cn": ["Jane Doe"]])
            let both = try await harness.command("accounts", "explain", "Jane Doe")
            #expect(both.status == 1 && both.output.contains("\(jane)") && both.output.contains("\(other)"))
            #expect(try await harness.json("accounts", "explain", "\(other)").first?["dn"].string == "\(other)")
            #expect(try await harness.command("accounts", "explain", "\(base.appending("cn", "none"))").status == 1)
        }
    }

    @Test("a backup that the end of the daemon interrupted is lost where the next daemon has TYPE = Script")
    func interruptedBackup() async throws {
        try await DaemonHarness.run { harness in
            _ = try harness.waiting("hooks/pre_script.sh", for: "never")
            try harness.settings(
                backup: """
                    HOME_SCRIPT =
                    [Hooks Backup]
                    ENABLED = yes
                    DIRECTORY = \(harness.path("hooks"))
                    """)
            let first = try await harness.running()
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            #expect(try await harness.command("backup", "daily", "--no-wait").status == 0)
            try await eventually("it runs") { harness.numbers("hooks/pre_script.sh").count == 1 }
            first.kill(SIGKILL)
            _ = await first.end()
            let script = try harness.script("done.sh", "exit 0")
            try Self.settings(harness, add: script, modify: script, delete: script)
            let second = try await harness.running()
            try await second.says("backup failed: daily: lost: the daemon ended before the job did")
            await harness.stop(second)
        }
    }

    @Test("backups that failed before TYPE = Script do not count, neither after the reload nor after a restart")
    func failedBackups() async throws {
        try await DaemonHarness.run { harness in
            _ = try harness.script("hooks/pre_script.sh", "exit 1")
            try harness.settings(
                backup: """
                    HOME_SCRIPT =
                    [Hooks Backup]
                    ENABLED = yes
                    DIRECTORY = \(harness.path("hooks"))
                    SKIP_ON_PRE_FAILURE = yes
                    """)
            var daemon = try await harness.running()
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            #expect(try await harness.command("backup", "daily").status == 1)
            #expect(try await harness.command("health").output.contains("failed_backups=1"))
            let script = try harness.script("done.sh", "exit 0")
            try Self.settings(harness, add: script, modify: script, delete: script)
            #expect(try await harness.command("reload").status == 0)
            #expect(try await harness.command("health").output.contains("failed_backups=0"))
            await harness.stop(daemon)
            daemon = try await harness.running()
            #expect(try await harness.command("health").output.contains("failed_backups=0"))
            await harness.stop(daemon)
        }
    }

    @Test("a purge that waits while a reload sets TYPE = Script removes nothing")
    func waitingPurge() async throws {
        try await DaemonHarness.run { harness in
            let handlers = try harness.handlers(
                DaemonHandlerTests.python(
                    """
                        def JobStart(self, job):
                            open("\(harness.path("asked"))", "w").close()
                            while not os.path.exists("\(harness.path("go"))"): time.sleep(0.05)
                    """), timeout: "30m")
            try harness.settings(backup: "HOME_SCRIPT =\nON_DELETE = archive\nPURGE_AFTER_DAYS = 0\n\(handlers)")
            let archived = harness.homes.appending(path: ".deleted/3724300-20260101T000000Z")
            try FileManager.default.createDirectory(at: archived, withIntermediateDirectories: true)
            try harness.wasAlive()
            let daemon = try await harness.running()
            try await eventually("it waits for its handler") { harness.exists("asked") }
            let script = try harness.script("done.sh", "exit 0")
            try Self.settings(harness, add: script, modify: script, delete: script)
            let reload = try await harness.command("reload")
            #expect(reload.status == 0, "\(reload.output)")
            try harness.touch("go")
            let purge = try #require(try await harness.newest("Purge"))
            let ended = try await harness.ended(purge.id)
            #expect(ended.result == .success && ended.message.contains("TYPE = Script"), "\(ended)")
            #expect(FileManager.default.fileExists(atPath: archived.path))
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
