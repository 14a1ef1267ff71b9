import Sandbox
import Foundation
import SystemPackage
import Testing

/// What the options make of the server.
@Suite struct OptionTests {
    static let syncRequest = "1.3.6.1.4.1.4203.1.9.1.1"

    @Test(arguments: [true, false]) func `the server offers Content Sync unless it is switched off`(on: Bool)
        async throws
    {
        var options = SandboxOptions.testing
        options.contentSync = on
        try await LDAPSandbox.temporary(options: options) { sandbox in
            let sync = try await ldap(
                "ldapsearch", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
                ["-LLL", "-b", SandboxTree.accountsDN, "-E", "!sync=ro", "1.1"])
            #expect(sync.code == (on ? 0 : 12), "\(sync.errors)")
            let root = try await ldap(
                "ldapsearch", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
                ["-LLL", "-b", "", "-s", "base", "supportedControl"])
            #expect(root.output.contains("supportedControl: \(Self.syncRequest)\n") == on)
        }
    }

    @Test func `without the example tree the server has no entries and the Manager can fill it`() async throws {
        var options = SandboxOptions.testing
        options.loadExampleTree = false
        try await LDAPSandbox.temporary(options: options) { sandbox in
            let empty = try await ldap(
                "ldapsearch", sandbox, as: sandbox.adminDN, sandbox.adminPassword, ["-LLL", "-b", SandboxTree.suffix])
            #expect(empty.code == 32)
            try await sandbox.load(
                "dn: \(SandboxTree.suffix)\nobjectClass: dcObject\nobjectClass: organization\ndc: stoney-cloud\no: x\n")
        }
    }

    @Test func `it listens on its socket only, and on 127.0.0.1 only where a port is asked for`() async throws {
        var options = SandboxOptions.testing
        try await LDAPSandbox.temporary(options: options) { sandbox in
            #expect(sandbox.loopbackURI == nil && sandbox.loopbackTLSURI == nil)
            let none = try listeners(sandbox)
            #expect(none.isEmpty)
        }
        options.loopbackPort = 0
        options.loopbackTLSPort = 0
        try await LDAPSandbox.temporary(options: options) { sandbox in
            let plain = try #require(sandbox.loopbackURI)
            let secure = try #require(sandbox.loopbackTLSURI)
            let expected = Set([plain.replacing("ldap://", with: ""), secure.replacing("ldaps://", with: "")])
            #expect(try listeners(sandbox) == expected)
        }
    }

    /// The TCP addresses on which a sandbox's server listens, as the kernel lists them.
    private func listeners(_ sandbox: LDAPSandbox) throws -> Set<String> {
        let directory = "/proc/\(sandbox.processID)"
        let sockets = try FileManager.default.contentsOfDirectory(atPath: directory + "/fd").compactMap { name in
            try? FileManager.default.destinationOfSymbolicLink(atPath: "\(directory)/fd/\(name)")
        }
        var found: Set<String> = []
        for table in ["tcp", "tcp6"] {
            for line in try String(contentsOfFile: "\(directory)/net/\(table)", encoding: .utf8).split(separator: "\n")
            {
                let words = line.split(separator: " ")
                guard words.count > 9, words[3] == "0A", sockets.contains("socket:[\(words[9])]") else { continue }
                let parts = words[1].split(separator: ":")
                let port = Int(parts[1], radix: 16) ?? 0
                found.insert((parts[0] == "0100007F" ? "127.0.0.1" : String(parts[0])) + ":\(port)")
            }
        }
        return found
    }

    @Test func `with a certificate it offers StartTLS and ldaps to clients that trust its authority`() async throws {
        var options = SandboxOptions.testing
        options.tls = true
        options.loopbackPort = 0
        options.loopbackTLSPort = 0
        try await LDAPSandbox.temporary(options: options) { sandbox in
            let plain = try #require(sandbox.loopbackURI)
            let secure = try #require(sandbox.loopbackTLSURI)
            for host in ["127.0.0.1", "localhost"] {
                for (uri, extra) in [(plain, ["-ZZ"]), (secure, [])] {
                    let uri = uri.replacing("127.0.0.1", with: host)
                    let trusted = try await whoAmI(sandbox, uri, extra, authority: sandbox.caFile)
                    #expect(trusted.output == "dn:\(sandbox.daemonDN)\n", "\(uri): \(trusted.errors)")
                    let untrusted = try await whoAmI(sandbox, uri, extra, authority: nil)
                    #expect(untrusted.code != 0, "\(uri)")
                }
            }
        }
    }

    private func whoAmI(
        _ sandbox: LDAPSandbox, _ uri: String, _ extra: [String], authority: FilePath?
    ) async throws -> Outcome {
        try await command(
            "/usr/bin/env",
            [
                "LDAPTLS_REQCERT=demand", "LDAPTLS_CACERT=\(authority?.string ?? "/dev/null")", "ldapwhoami", "-x",
                "-H", uri,
            ]
                + ["-D", sandbox.daemonDN, "-w", sandbox.daemonPassword] + extra)
    }

    @Test func `additional lines are added to the configuration, such as an overlay for faults`() async throws {
        var options = SandboxOptions.testing
        options.globalLines = ["moduleload retcode"]
        options.databaseLines = [
            "overlay retcode", "retcode-parent \"ou=faults,\(SandboxTree.suffix)\"",
            "retcode-item \"cn=busy\" 0x33 op=search",
        ]
        try await LDAPSandbox.temporary(options: options) { sandbox in
            let busy = try await ldap(
                "ldapsearch", sandbox, as: sandbox.adminDN, sandbox.adminPassword,
                ["-b", "cn=busy,ou=faults,\(SandboxTree.suffix)", "-s", "base"])
            #expect(busy.code == 51)
        }
    }

    @Test func `writes are flushed unless that is switched off`() async throws {
        for flushes in [true, false] {
            var options = SandboxOptions.testing
            options.flushesToDisk = flushes
            try await LDAPSandbox.temporary(options: options) { sandbox in
                let text = try String(contentsOfFile: sandbox.directory.appending("slapd.conf").string, encoding: .utf8)
                #expect(text.contains("\ndbnosync\n") != flushes)
            }
        }
        #expect(SandboxOptions().flushesToDisk && !SandboxOptions().endsWithParent)
    }
}
