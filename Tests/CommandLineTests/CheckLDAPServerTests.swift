import LDAP
import Sandbox
import Foundation
import Glibc
import SystemPackage
import Testing

/// `check` with an LDAP server with a wrong configuration, and with one whose configuration cannot be read.
@Suite struct CheckLDAPServerTests {
    /// Every level that the accounts have has a schedule.
    private static let scheduled =
        "HOME_SCRIPT =\n[Backup Jobs]\n"
        + ["HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"].map { "\($0) = 0 3 1 1 *" }.joined(separator: "\n")

    /// A server with the shipped pieces, some of which are changed.
    /// - Parameter change: gets a piece's name and text.
    private static func withPieces(
        _ change: (String, String) -> String, options: SandboxOptions = .testing,
        _ body: (DaemonHarness) async throws -> Void
    ) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "prov-pieces-\(UUID().uuidString.prefix(8))")
        defer { try? FileManager.default.removeItem(at: directory) }
        try FileManager.default.copyItem(at: DaemonHarness.checkout.appending(path: "etc/openldap"), to: directory)
        for name in try FileManager.default.contentsOfDirectory(atPath: directory.path) {
            let file = directory.appending(path: name)
            let text = try String(contentsOf: file, encoding: .utf8)
            try change(name, text).write(to: file, atomically: true, encoding: .utf8)
        }
        var options = options
        options.pieces = FilePath(directory.path)
        try await DaemonHarness.run(options: options, body)
    }

    private static func without(_ names: String..., in name: String, _ text: String) -> String {
        names.contains(name) ? "# empty\n" : text
    }

    /// One line of the list: the mark and the finding about the subject.
    private func line(_ subject: String, _ output: String) -> String? {
        output.split(separator: "\n").first { $0.dropFirst(6).hasPrefix("\(subject): ") }.map(String.init)
    }

    private func wrong(_ output: String) -> [String] {
        output.split(separator: "\n").filter { $0.hasPrefix("NOT ") }.map(String.init)
    }

    @Test("with a server of the shipped pieces every check has a result, and the list ends with a summary")
    func shipped() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: Self.scheduled)
            try await harness.add("3724300")
            let before = try await harness.manager.entry(at: DaemonHarness.dn("3724300"), attributes: ["*", "+"])
            let checked = try await harness.command("check")
            for subject in ["content sync", "schema", "size limit", "indexes", "accounts"] {
                #expect(line(subject, checked.output)?.hasPrefix("ok ") == true, "\(subject) in\n\(checked.output)")
            }
            #expect(line("groups", checked.output) == nil)
            try await harness.add("3724301", ["gidNumber": "5000"])
            let groups = try #require(line("groups", try await harness.command("check").output))
            #expect(groups.hasPrefix("    ") && groups.contains("1 account, such as uid=3724301,"), "\(groups)")
            for name in ["sstBackupSize", "sstIncrementSize", "sstBackupLastSuccessfulBackup"] {
                #expect(checked.output.contains("ok    rights: \(name) can be written"), "\(checked.output)")
            }
            let last = try #require(checked.output.split(separator: "\n").last)
            let checks = checked.output.split(separator: "\n").count { $0.hasPrefix("ok ") || $0.hasPrefix("NOT ") }
            #expect(last == "\(checks) checks, 0 NOT, exit status 0")
            let after = try await harness.manager.entry(at: DaemonHarness.dn("3724300"), attributes: ["*", "+"])
            #expect(before == after, "it changes nothing")
        }
    }

    @Test("a gidNumber that is the uid of another account, of any host, is NOT; one that is nobody's uid is a note")
    func groups() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(service: "HOST = backup-01", backup: Self.scheduled)
            let host: [AttributeName: String] = ["host": "backup-01"]
            try await harness.add("3724398", host.merging(["gidNumber": "3724399"]) { $1 })
            try await harness.add("3724397", host.merging(["gidNumber": "5000"]) { $1 })
            let before = try await harness.command("check")
            #expect(before.status == 0 && wrong(before.output).isEmpty, "\(before.output)")
            #expect(line("groups", before.output)?.contains("2 accounts, such as uid=372439") == true)
            try await harness.add("3724399", ["host": "backup-02"])
            let checked = try await harness.command("check")
            let wrong = wrong(checked.output)
            #expect(checked.status == 1 && wrong.count == 1, "\(checked.output)")
            #expect(wrong.first?.hasPrefix("NOT   groups: 1 account, such as uid=3724398,") == true, "\(wrong)")
            #expect(checked.output.contains("\n      groups: 1 account, such as uid=3724397,"), "\(checked.output)")
        }
    }

    @Test("accounts whose mode or state is invalid are NOT, and counted, also the first one of all")
    func invalid() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: Self.scheduled)
            let time = "20260101T000000Z"
            try await harness.add("3724301", ["sstProvisioningMode": "modifed"])
            try await harness.add("3724302", ["sstProvisioningMode": "modifed", "sstProvisioningState": time])
            try await harness.add("3724303", ["sstProvisioningMode": "deleting", "sstProvisioningState": time])
            try await harness.add("3724304")
            let checked = try await harness.command("check")
            let wrong = wrong(checked.output)
            #expect(checked.status == 1 && wrong.count == 1, "\(checked.output)")
            #expect(wrong.first?.hasPrefix("NOT   accounts: 3 accounts, such as uid=3724301,") == true, "\(wrong)")
            #expect(wrong.first?.hasSuffix("see: prov-backup-rsnapshot accounts explain 3724301") == true, "\(wrong)")
        }
    }

    @Test("an index on gidNumber is demanded, by which each request is searched")
    func groupIndex() async throws {
        try await Self.withPieces {
            $0 == "indexes.conf" ? $1.replacing("uid,uidNumber,gidNumber,host", with: "uid,uidNumber,host") : $1
        } _: { harness in
            try harness.settings(backup: Self.scheduled)
            let checked = try await harness.command("check")
            let wrong = wrong(checked.output)
            #expect(wrong.count == 1 && wrong[0].hasPrefix("NOT   indexes: none for gidNumber:"), "\(checked.output)")
        }
    }

    @Test("a replica that is first in SERVER is named with its provider, and nothing else of it is wrong")
    func replica() async throws {
        var options = SandboxOptions.testing
        options.databaseLines = ["updatedn \"\(SandboxTree.managerDN)\"", "updateref ldap://provider.example.org"]
        try await DaemonHarness.run(options: options) { harness in
            try harness.settings(backup: Self.scheduled)
            try await harness.add("3724300")
            let checked = try await harness.command("check")
            #expect(checked.status == 1)
            let wrong = wrong(checked.output)
            #expect(wrong.count == 1 && wrong[0].contains("is a replica"), "\(checked.output)")
            #expect(wrong[0].contains("put ldap://provider.example.org"), "\(wrong)")
        }
    }

    @Test("accounts in a subordinate database that syncprov does not tell of are named")
    func glue() async throws {
        for (overlays, isWrong) in [(["overlay syncprov"], true), (["overlay glue", "overlay syncprov"], false)] {
            let place = FileManager.default.temporaryDirectory.appending(
                path: "prov-glue-\(UUID().uuidString.prefix(8))")
            try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: place) }
            var options = SandboxOptions.testing
            let suffix = "ou=more,\(SandboxTree.accountsDN)"
            options.contentSync = false
            options.globalLines = [
                "moduleload syncprov", "database ldif", "suffix \"\(suffix)\"", "rootdn \"\(SandboxTree.managerDN)\"",
                "directory \(place.path)",
                "subordinate",
            ]
            options.databaseLines = overlays
            try await DaemonHarness.run(options: options) { harness in
                try harness.settings(backup: Self.scheduled)
                let checked = try await harness.command("check")
                let line = line("syncprov", checked.output)
                #expect((line?.hasPrefix("NOT ") ?? false) == isWrong, "\(checked.output)")
                if isWrong { #expect(line?.contains(suffix) == true) }
            }
        }
    }

    @Test("--json gives the same as one object, each NOT with its fix")
    func json() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: "HOME_SCRIPT = /nonexistent/home.sh")
            let checked = try await harness.command("check", "--json")
            #expect(checked.status == 1)
            let object = try #require(
                try JSONSerialization.jsonObject(with: Data(checked.output.utf8)) as? [String: Any])
            let lines = try #require(object["lines"] as? [[String: Any]])
            let wrong = lines.filter { $0["result"] as? String == "NOT" }
            #expect(wrong.map { $0["subject"] as? String } == ["HOME_SCRIPT"])
            #expect(wrong.allSatisfy { ($0["fix"] as? String)?.isEmpty == false })
            #expect(object["not"] as? Int == 1 && object["status"] as? Int == 1)
            let judged = lines.count { ["ok", "NOT"].contains($0["result"] as? String) }
            #expect(object["checks"] as? Int == judged)
        }
    }

    @Test("wrong settings and an unreachable LDAP server end with the summary and an exit status of their own")
    func ends() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(service: "SLOTS = many", backup: Self.scheduled)
            let wrong = try await harness.command("check")
            #expect(wrong.status == 78)
            #expect(wrong.output.hasSuffix("1 checks, 1 NOT, exit status 78\n"), "\(wrong.output)")
            try harness.settings(backup: Self.scheduled)
            try await harness.sandbox.kill()
            let away = try await harness.command("check")
            #expect(away.status == 69)
            #expect(away.output.hasSuffix(", 1 NOT, exit status 69\n"), "\(away.output)")
        }
    }

    @Test("no limits for the bind DN is NOT, however few accounts there are")
    func limits() async throws {
        try await Self.withPieces({ Self.without("limits.conf", in: $0, $1) }) { harness in
            try harness.settings(backup: Self.scheduled)
            let checked = try await harness.command("check")
            #expect(checked.status == 1)
            #expect(line("size limit", checked.output)?.hasPrefix("NOT ") == true, "\(checked.output)")
            #expect(wrong(checked.output).count == 1)
        }
    }

    @Test(
        "where cn=config cannot be read it is a note, and NOT as soon as there are more accounts than the server gives")
    func hiddenLimits() async throws {
        try await Self.withPieces({ Self.without("limits.conf", "config.conf", in: $0, $1) }) { harness in
            try harness.settings(backup: Self.scheduled)
            try await harness.add("4000000")
            let few = try await harness.command("check")
            #expect(few.status == 0, "\(few.output)")
            for subject in ["size limit", "indexes"] {
                #expect(line(subject, few.output)?.hasPrefix("      ") == true, "\(few.output)")
            }
            for number in 4_000_001...4_000_500 { try await harness.add(String(number)) }
            let many = try await harness.command("check")
            #expect(many.status == 1)
            #expect(line("size limit", many.output)?.hasPrefix("NOT ") == true, "\(many.output)")
        }
    }

    @Test("more accounts than the server gives by itself, and all of them listed, is ok without cn=config")
    func manyListed() async throws {
        try await Self.withPieces({ Self.without("config.conf", in: $0, $1) }) { harness in
            try harness.settings(backup: Self.scheduled)
            for number in 4_000_000...4_000_500 { try await harness.add(String(number)) }
            let checked = try await harness.command("check")
            #expect(line("size limit", checked.output)?.hasPrefix("ok ") == true, "\(checked.output)")
        }
    }

    @Test("missing indexes are NOT and named")
    func indexes() async throws {
        let some = "index objectClass,entryUUID eq\nindex uid,sstProvisioningMode eq\nindex sstProvisioningState pres\n"
        try await Self.withPieces({ $0 == "indexes.conf" ? some : $1 }) { harness in
            try harness.settings(backup: Self.scheduled)
            let checked = try await harness.command("check")
            #expect(checked.status == 1)
            let found = line("indexes", checked.output) ?? ""
            #expect(found.hasPrefix("NOT "))
            #expect(found.contains("none for entryCSN, sstProvisioningState, gidNumber: "), "\(found)")
            try harness.settings(service: "HOST = backup1", backup: Self.scheduled)
            let byHost = try await harness.command("check")
            #expect(
                byHost.output.contains("none for entryCSN, sstProvisioningState, gidNumber, host: "), "\(byHost.output)"
            )
        }
    }

    @Test(
        "no Content Sync is NOT, also where the server has loaded the module and no database the overlay",
        arguments: [[], ["moduleload syncprov"]])
    func contentSync(lines: [String]) async throws {
        var options = SandboxOptions.testing
        options.contentSync = false
        options.globalLines = lines
        try await DaemonHarness.run(options: options) { harness in
            try harness.settings(backup: Self.scheduled)
            let checked = try await harness.command("check")
            #expect(checked.status == 1)
            #expect(line("content sync", checked.output)?.hasPrefix("NOT ") == true, "\(checked.output)")
            try harness.settings(database: "DETECTION = poll", backup: Self.scheduled)
            let polling = try await harness.command("check")
            #expect(polling.status == 0, "\(polling.output)")
            #expect(line("content sync", polling.output)?.hasPrefix("      ") == true)
        }
    }

    @Test(
        "every attribute that is written is tried, for adding and for taking away, and none that is not",
        arguments: [
            ("sstIncrementSize", "none"), ("sstIncrementSize", "=arscx"), ("sstIncrementSize", "=zrscx"),
            ("sstProvisioningState", "read"),
        ])
    func rights(name: String, access: String) async throws {
        let rule = """
            access to dn.children="\(SandboxTree.accountsDN)" attrs=\(name)
                by dn.exact="\(SandboxTree.daemonDN)" \(access)
                by * none

            """
        try await Self.withPieces({ $0 == "access.conf" ? rule + $1 : $1 }) { harness in
            try harness.settings(backup: Self.scheduled)
            try await harness.add("3724300")
            let checked = try await harness.command("check")
            #expect(checked.status == 1)
            if access != "none" {
                #expect(wrong(checked.output).count == 1, "\(checked.output)")
            }
            #expect(
                wrong(checked.output).contains { $0.hasPrefix("NOT   rights: \(name) cannot be written") },
                "\(checked.output)")
            if name == "sstIncrementSize", access != "none" {
                try harness.settings(backup: Self.scheduled + "\nWRITE_INCREMENT_SIZE = no")
                let unused = try await harness.command("check")
                #expect(unused.status == 0, "\(unused.output)")
            }
        }
    }

    /// An access rule that hides an attribute of the accounts from the daemon.
    private static func hiding(_ name: String) -> String {
        "access to attrs=\(name) by dn.exact=\"\(SandboxTree.daemonDN)\" none by * break\n"
    }

    @Test(
        "an attribute of the accounts that the daemon cannot see is NOT and named, also of the accounts of other hosts",
        arguments: [
            "sstProvisioningState", "sstProvisioningMode", "sstIsActive", "uid", "homeDirectory",
            "sstBackupIntervalDaily",
        ])
    func hidden(name: String) async throws {
        try await Self.withPieces({ $0 == "access.conf" ? Self.hiding(name) + $1 : $1 }) { harness in
            try harness.settings(backup: Self.scheduled)
            let empty = try await harness.command("check")
            #expect(empty.status == 0, "\(empty.output)")
            try await harness.add("3724300", ["host": "backup2"])
            for service in ["", "HOST = backup1"] {
                try harness.settings(service: service, backup: Self.scheduled)
                let checked = try await harness.command("check")
                #expect(checked.status == 1)
                #expect(
                    wrong(checked.output).contains { $0.hasPrefix("NOT   accounts: ") && $0.contains("\(name) of ") },
                    "\(checked.output)")
            }
        }
    }

    @Test("an account whose sstIsActive the daemon cannot see is not deleted")
    func hiddenActivity() async throws {
        try await Self.withPieces({ $0 == "access.conf" ? Self.hiding("sstIsActive") + $1 : $1 }) { harness in
            try harness.settings(backup: "ON_DELETE = remove\n" + Self.scheduled)
            try await harness.add("3724300")
            #expect(try await harness.command("run", "--once").status == 0)
            try await harness.request("3724300", "delete")
            let run = try await harness.command("run", "--once")
            #expect(try await harness.text("3724300", "sstProvisioningMode") == "deleting", "\(run.output)")
            #expect(try await harness.text("3724300", "sstProvisioningReturnValue") == "1", "\(run.output)")
            #expect(FileManager.default.fileExists(atPath: harness.home("3724300").path))
        }
    }

    @Test("a SEARCH_FILTER that selects none of the accounts is a warning")
    func unselected() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(database: "SEARCH_FILTER = (cn=nobody)", backup: Self.scheduled)
            try await harness.add("3724300")
            let checked = try await harness.command("check")
            #expect(
                line("accounts", checked.output)?.hasPrefix("warn  accounts: SEARCH_FILTER ") == true,
                "\(checked.output)")
        }
    }

    @Test("a wrong bind identity is NOT, also while there is no account")
    func identity() async throws {
        try await DaemonHarness.run { harness in
            let other = try DN(parsing: "cn=other,ou=programs,\(SandboxTree.suffix)")
            var entry = Entry(dn: other)
            entry["objectClass"] = ["applicationProcess", "simpleSecurityObject"]
            entry["cn"] = ["other"]
            entry["userPassword"] = ["secret"]
            try await harness.manager.add(entry)
            let password = harness.directory.appending(path: "password")
            try "secret\n".write(to: password, atomically: true, encoding: .utf8)
            chmod(password.path, 0o600)
            func settings(_ change: (String) -> String) throws {
                try harness.settings(backup: Self.scheduled)
                let text = try String(contentsOf: harness.settingsFile, encoding: .utf8)
                try change(text).write(to: harness.settingsFile, atomically: true, encoding: .utf8)
                chmod(harness.settingsFile.path, 0o600)
            }
            try settings {
                $0.replacing(harness.sandbox.daemonDN, with: "\(other)")
                    .replacing(harness.sandbox.daemonPasswordFile.string, with: password.path)
            }
            let wrongDN = try await harness.command("check")
            #expect(wrongDN.status == 1)
            #expect(!wrong(wrongDN.output).isEmpty, "\(wrongDN.output)")

            try settings { $0.replacing(harness.sandbox.daemonPasswordFile.string, with: password.path) }
            let wrongPassword = try await harness.command("check")
            #expect(wrongPassword.status == 77, "as of other commands: \(wrongPassword.output)")

            try settings { text in
                text.split(separator: "\n").filter { !$0.hasPrefix("ADMIN_") }.joined(separator: "\n")
            }
            let anonymous = try await harness.command("check")
            #expect(anonymous.status == 1)
            #expect(wrong(anonymous.output).contains { $0.hasPrefix("NOT   LDAP server: ") }, "\(anonymous.output)")
        }
    }

    @Test(
        "in a world-readable directory, an identity without rights is NOT because of one account of any host"
    )
    func openDirectory() async throws {
        try await Self.withPieces({ name, text in
            name == "access.conf"
                ? "access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n" : text
        }) { harness in
            try harness.settings(service: "HOST = backup1", backup: Self.scheduled)
            try await harness.add("3724300", ["host": "backup2"])
            let checked = try await harness.command("check")
            #expect(checked.status == 1)
            #expect(wrong(checked.output).count { $0.hasPrefix("NOT   rights: ") } == 6, "\(checked.output)")
        }
    }

    @Test("attributes that the server does not know are NOT and named")
    func schema() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(
                database: "[Attributes]\nCLAIM = provisioningNoSuch\nACTIVE = sstNoSuch", backup: Self.scheduled)
            let checked = try await harness.command("check")
            #expect(checked.status == 1)
            let found = line("schema", checked.output) ?? ""
            #expect(found.hasPrefix("NOT ") && found.contains("sstNoSuch, provisioningNoSuch"), "\(found)")
        }
    }
}
