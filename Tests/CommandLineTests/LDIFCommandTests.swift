import Foundation
import Glibc
import LDAP
import Sandbox
import SystemPackage
import TestSupport
import Testing

/// `ldif create` and `ldif load`, as the test flow uses them.
@Suite struct LDIFCommandTests {
    @Test("create writes the four files that load takes one after the other, into a directory that is made")
    func wholeFlow() async throws {
        try await DaemonHarness.run { harness in
            let data = harness.directory.appending(path: "new-data")
            let created = try RunningProgram(
                DaemonHarness.program,
                ["ldif", "create", "--uid", "3724300", "--reseller", "4000009", "--output", data.path])
            #expect(await created.end() == 0)
            let names = ["01_add", "02_modify", "03_delete", "04_remove"].map { "\($0)_3724300.ldif" }
            #expect(try FileManager.default.contentsOfDirectory(atPath: data.path).sorted() == names)
            var wanted: [String?] = ["add", "modify", "delete", nil]
            for name in names {
                let loaded = try await load(harness, [data.appending(path: name).path])
                #expect(loaded.status == 0, "\(loaded.output)")
                #expect(try await harness.text("3724300", "sstProvisioningMode") == wanted.removeFirst())
            }
        }
    }

    @Test(
        "site refuses invalid names with the option's name or the reason, and prints no LDIF")
    func badSites() async throws {
        for (arguments, reason) in [
            (["--base", "no dn"], "--base: "), (["--base", ""], "cannot be used in an access rule"),
            (["--base", "o=a\\\"b"], "cannot be used in an access rule"),
            (["--base", "dc=a", "--daemon-dn", "cn=daemon,dc=b"], "is no cn=... below dc=a"),
            (["--base", "dc=a", "--daemon-dn", "uid=daemon,dc=a"], "is no cn=... below dc=a"),
        ] {
            let refused = try RunningProgram(DaemonHarness.program, ["ldif", "site"] + arguments)
            #expect(await refused.end() == 64)
            #expect(refused.output.contains(reason) && !refused.output.contains("dn: "), "\(refused.output)")
        }
        let own = try RunningProgram(
            DaemonHarness.program,
            ["ldif", "site", "--base", "o=Example,c=ch", "--daemon-dn", "cn=backupd,o=Example,c=ch"])
        #expect(await own.end() == 0)
        let unfolded = own.output.replacing("\n ", with: "")
        for line in [
            "\ndn: cn=backupd,o=Example,c=ch\n", "\ncn: backupd\n",
            "\nolcLimits: dn.exact=\"cn=backupd,o=Example,c=ch\" size=unlimited",
            "dn: ou=accounts,ou=backup,ou=services,o=Example,c=ch\n",
        ] { #expect(unfolded.contains(line), "\(line): \(own.output)") }
        #expect(!own.output.contains("stoney-cloud,") && !own.output.contains("cn=prov-backup-rsnapshot,"))
        let spaced = try RunningProgram(DaemonHarness.program, ["ldif", "site", "--base", "o=Our Company"])
        #expect(await spaced.end() == 0)
        #expect(
            spaced.output.contains(" -S 'cn=prov-backup-rsnapshot,ou=programs,o=Our Company'\n"), "\(spaced.output)")
    }

    @Test("create refuses values that could not be an account's, with the option's name and status 64")
    func badValues() async throws {
        for (option, value) in [("uid", "../../etc"), ("uid", "123"), ("base", "no dn"), ("surname", "a\nb")] {
            let base = option == "uid" ? [] : ["--uid", "3724300"]
            let refused = try RunningProgram(
                DaemonHarness.program,
                ["ldif", "create", "--output", "/nonexistent/data"] + base + ["--\(option)", value])
            #expect(await refused.end() == 64)
            #expect(refused.output.contains("--\(option)"), "\(refused.output)")
        }
    }

    @Test(
        "load reports errors with file and line, and stops or continues with -k; the exit status is not 0 in both cases"
    )
    func errors() async throws {
        try await DaemonHarness.run { harness in
            let file = harness.directory.appending(path: "mixed.ldif")
            let suffix = SandboxTree.accountsDN
            try """
            version: 1

            dn: ou=first,\(suffix)
            objectClass: organizationalUnit
            ou: first

            dn: ou=nowhere,ou=missing,\(suffix)
            objectClass: organizationalUnit
            ou: nowhere

            dn: ou=broken,\(suffix)
            this is no attribute

            dn: ou=last,\(suffix)
            objectClass: organizationalUnit
            ou: last
            """.write(to: file, atomically: true, encoding: .utf8)
            let stopped = try await load(harness, [file.path])
            #expect(stopped.status == 1)
            #expect(stopped.output.contains("mixed.ldif:7:") && stopped.output.contains("noSuchObject"))
            #expect(!stopped.output.contains("mixed.ldif:12:"))

            let goneOn = try await load(harness, ["-k", file.path])
            #expect(goneOn.status == 1)
            for place in ["mixed.ldif:3:", "mixed.ldif:7:", "mixed.ldif:12:"] {
                #expect(goneOn.output.contains(place), "\(goneOn.output)")
            }
            #expect(goneOn.output.contains("1 record loaded, 3 failed"), "\(goneOn.output)")

            for path in ["/nonexistent.ldif", harness.directory.path] {
                let unreadable = try await load(harness, [path])
                #expect(unreadable.status == 1 && unreadable.output.contains(path), "\(unreadable.output)")
            }
        }
    }

    @Test("load that stops says how many records were loaded, and not that nothing was changed")
    func stopsInTheMiddle() async throws {
        try await DaemonHarness.run { harness in
            let files = ["new", "old"].map { harness.directory.appending(path: "\($0).ldif") }
            try Self.record("new").write(to: files[0], atomically: true, encoding: .utf8)
            try Self.record("new").write(to: files[1], atomically: true, encoding: .utf8)
            let stopped = try await load(harness, files.map(\.path))
            #expect(stopped.status == 1 && stopped.output.contains("entryAlreadyExists"), "\(stopped.output)")
            #expect(
                stopped.output.hasSuffix("; the record was not loaded; records loaded before it: 1\n"),
                "\(stopped.output)")
        }
    }

    @Test("load of what the daemon may not do names the options for another identity, and ends with 77")
    func daemonIdentity() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let file = harness.directory.appending(path: "new.ldif")
            try Self.record("new").write(to: file, atomically: true, encoding: .utf8)
            let refused = try await harness.command("ldif", "load", file.path)
            #expect(refused.status == 77 && refused.output.contains("insufficientAccessRights"), "\(refused.output)")
            for option in ["--server", "--bind-dn", "--password-file"] {
                #expect(refused.output.contains(option), "\(refused.output)")
            }
            #expect(!refused.output.contains("access rules"), "\(refused.output)")
        }
    }

    @Test("load says how to fix a record that slapd refuses; only a missing schema is looked for at the server")
    func refusedRecords() async throws {
        try await DaemonHarness.run { harness in
            func record(_ parent: String, _ lines: String) -> String { "dn: ou=new,\(parent)\nou: new\n\(lines)\n" }
            let suffix = SandboxTree.accountsDN
            let unit = "objectClass: organizationalUnit"
            let cases: [(record: String, code: ResultCode, hint: String)] = [
                (record("dc=elsewhere", unit), .unwillingToPerform, "suffixes"),
                (
                    record(suffix, "\(unit)\nobjectClass: posixAccount"), .objectClassViolation,
                    "add the attribute"
                ),
                (record(suffix, "\(unit)\nobjectClass: noSuchClass"), .invalidAttributeSyntax, "schema"),
                (record(suffix, "\(unit)\nnoSuchAttribute: 1"), .undefinedAttributeType, "schema"),
                (record(suffix, "\(unit)\nuidNumber: 1"), .objectClassViolation, "schema"),
                ("dn: \(suffix)\nou: accounts\n\(unit)\n", .entryAlreadyExists, "changetype: modify"),
            ]
            for (number, fault) in cases.enumerated() {
                let file = harness.directory.appending(path: "\(number).ldif")
                try fault.record.write(to: file, atomically: true, encoding: .utf8)
                let refused = try await load(harness, [file.path])
                #expect(
                    refused.status == 1 && refused.output.contains("\(fault.code)")
                        && refused.output.contains(fault.hint), "\(fault.record): \(refused.output)")
                #expect(
                    refused.output.contains("schema") == (fault.hint == "schema"), "\(fault.record): \(refused.output)")
            }
        }
    }

    @Test("load says of a record during which the connection is lost that it is unknown whether it was loaded")
    func lostConnection() async throws {
        try await DaemonHarness.run { harness in
            let pipe = harness.directory.appending(path: "pipe.ldif").path
            #expect(mkfifo(pipe, 0o600) == 0)
            // Open for reading too, so that neither end waits for the other.
            let writer = try FileDescriptor.open(FilePath(pipe), .readWrite)
            defer { try? writer.close() }
            try writer.writeAll("\(Self.record("first"))\n".utf8)
            async let loading = load(harness, ["-k", pipe])
            let first = try DN(parsing: "ou=first,\(SandboxTree.accountsDN)")
            try await eventually("the first record is loaded") { try await harness.manager.entry(at: first) != nil }
            try await harness.sandbox.kill()
            try writer.writeAll("\(Self.record("second"))\n".utf8)
            let lost = try await loading
            #expect(lost.status == 69, "\(lost.output)")
            #expect(
                lost.output.hasSuffix(
                    "; it is unknown whether the record was loaded: look at it; records loaded before it: 1\n"),
                "\(lost.output)")
        }
    }

    private static func record(_ name: String) -> String {
        "dn: ou=\(name),\(SandboxTree.accountsDN)\nobjectClass: organizationalUnit\nou: \(name)\n"
    }

    private func load(_ harness: DaemonHarness, _ arguments: [String]) async throws -> (status: Int32, output: String) {
        let program = try RunningProgram(
            DaemonHarness.program,
            [
                "ldif", "load", "--server", harness.sandbox.uri, "--bind-dn", harness.sandbox.adminDN,
                "--password-file",
                harness.sandbox.adminPasswordFile.string,
            ] + arguments)
        return (await program.end(), program.output)
    }
}
