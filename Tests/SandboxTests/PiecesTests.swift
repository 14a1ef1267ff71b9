import Sandbox
import Foundation
import SystemPackage
import Testing

/// The shipped pieces of etc/openldap: that each form loads, and that both forms say the same.
@Suite struct PiecesTests {
    /// Where the shipped examples expect the pieces, the data and the pid file.
    static let placeholders = ["/usr/share/prov-backup-rsnapshot/openldap", "/var/lib/ldap/stoney-cloud", "/run/slapd"]

    private func text(_ name: String) throws -> String {
        try String(contentsOfFile: SandboxPieces().directory.appending(name).string, encoding: .utf8)
    }

    /// Writes a shipped file into a directory, with the places in it that it names.
    private func example(_ name: String, in directory: FilePath) throws -> FilePath {
        let pieces = try SandboxPieces().directory.string
        var content = try text(name)
        for (placeholder, place) in zip(
            Self.placeholders, [pieces, directory.appending("data").string, directory.string])
        {
            #expect(content.contains(placeholder), "\(name) does not name \(placeholder)")
            content = content.replacing(placeholder, with: place)
        }
        let file = directory.appending(name)
        try content.write(toFile: file.string, atomically: false, encoding: .utf8)
        return file
    }

    /// What a server would run with: the records of cn=config, each value on one line.
    private func configuration(
        of name: String, in directory: FilePath
    ) async throws -> [String: [String]] {
        let form = directory.appending(name)
        for directory in ["data", "slapd.d"] {
            try FileManager.default.createDirectory(
                atPath: form.appending(directory).string, withIntermediateDirectories: true)
        }
        let file = try example(name, in: form)
        let directory = form.appending("slapd.d").string
        let tree = try SandboxPieces().directory.appending("example-tree.ldif").string
        let loading: [(FilePath, [String])] =
            name.hasSuffix(".ldif")
            ? [
                ("/usr/sbin/slapadd", ["-n", "0", "-F", directory, "-l", file.string]),
                ("/usr/sbin/slapadd", ["-F", directory, "-l", tree]), ("/usr/sbin/slaptest", ["-F", directory]),
            ]
            : [
                ("/usr/sbin/slapadd", ["-f", file.string, "-l", tree]),
                ("/usr/sbin/slaptest", ["-f", file.string, "-F", directory]),
            ]
        for (program, arguments) in loading {
            let outcome = try await command(program, arguments)
            #expect(outcome.code == 0, "\(program) \(arguments): \(outcome.errors)")
        }
        let dump = try await command("/usr/sbin/slapcat", ["-n", "0", "-F", directory, "-o", "ldif-wrap=no"])
        #expect(dump.code == 0, "\(dump.errors)")
        return Self.records(dump.output)
    }

    /// LDIF records by their DN, with the blanks of each line folded: slapd keeps those of the file it has read.
    static func records(_ ldif: String) -> [String: [String]] {
        var records: [String: [String]] = [:]
        for record in ldif.split(separator: "\n\n") {
            let lines = record.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
            guard let dn = lines.first else { continue }
            records[dn] = Array(lines.dropFirst())
        }
        return records
    }

    @Test func `both forms of the schema and of the example can be loaded and are equal`() async throws {
        try await withDirectory { directory in
            let classic = try await configuration(of: "example-slapd.conf", in: directory)
            let modern = try await configuration(of: "example-config.ldif", in: directory)
            for schema in [
                "dn: cn={4}stoney-cloud,cn=schema,cn=config", "dn: cn={5}provisioning-claim,cn=schema,cn=config",
            ] {
                let expected = try #require(classic[schema]).filter { $0.hasPrefix("olc") }
                #expect(!expected.isEmpty)
                #expect(try #require(modern[schema]).filter { $0.hasPrefix("olc") } == expected)
            }
            let compared = [
                "olcAccess", "olcLimits", "olcDbIndex", "olcSuffix", "olcRootDN", "olcDbMaxSize", "olcSpCheckpoint",
            ]
            for dn in [
                "dn: olcDatabase={-1}frontend,cn=config", "dn: olcDatabase={1}mdb,cn=config",
                "dn: olcOverlay={0}syncprov,olcDatabase={1}mdb,cn=config",
            ] {
                let both = try [#require(classic[dn]), #require(modern[dn])].map { lines in
                    Set(lines.filter { line in compared.contains { line.hasPrefix($0 + ":") } }.flatMap(Self.canonical))
                }
                #expect(both[0] == both[1])
                #expect(!both[0].isEmpty)
            }
            let rules = try [classic, modern].map {
                try #require($0["dn: olcDatabase={0}config,cn=config"]).filter { $0.hasPrefix("olcAccess: ") }
                    .flatMap(Self.canonical).sorted()
            }
            #expect(rules[0] == rules[1])
            #expect(rules[0].count == 2)
        }
    }

    /// One line a value: an index of several attributes is several indexes; dn.base is the other name of dn.exact.
    static func canonical(_ line: String) -> [String] {
        guard line.hasPrefix("olcDbIndex: ") else {
            return [line.replacing("dn.base=", with: "dn.exact=").replacing("cn=Subschema", with: "cn=subschema")]
        }
        let words = line.split(separator: " ")
        return words[1].split(separator: ",").map { "olcDbIndex: \($0) \(words[2])" }
    }

    @Test func `each shipped file begins with a comment about its use`() throws {
        let directory = try SandboxPieces().directory.string
        let names = try FileManager.default.contentsOfDirectory(atPath: directory)
        #expect(names.count == 12)
        for name in names {
            let comment = try text(name).split(separator: "\n", omittingEmptySubsequences: false).prefix {
                $0.hasPrefix("#")
            }
            #expect(comment.count >= 4, "\(name)")
            #expect(comment.contains { $0.contains("How to ") }, "\(name)")
        }
    }

    @Test func `the example tree has the entries above the accounts, the active switch, and the programs`() async throws
    {
        try await LDAPSandbox.temporary { sandbox in
            let search = try await ldap(
                "ldapsearch", sandbox, as: sandbox.adminDN, sandbox.adminPassword,
                ["-LLL", "-o", "ldif-wrap=no", "-b", SandboxTree.suffix, "sstIsActive"])
            let dns = search.output.split(separator: "\n").filter { $0.hasPrefix("dn: ") }.map { $0.dropFirst(4) }
            #expect(dns.count == 9)
            for dn in [
                SandboxTree.suffix, SandboxTree.accountsDN, SandboxTree.switchDN, SandboxTree.daemonDN,
                SandboxTree.selfcareDN,
            ] { #expect(dns.contains { $0 == dn }, "\(dn)") }
            #expect(search.output.contains("dn: \(SandboxTree.switchDN)\nsstIsActive: TRUE\n"))
        }
    }

    @Test func `no entry of the shipped tree can bind before a password is set`() async throws {
        #expect(
            try text("example-tree.ldif").split(separator: "\n").filter { $0.hasPrefix("userPassword") }
                == ["userPassword: {CRYPT}*", "userPassword: {CRYPT}*"])
        var options = SandboxOptions.testing
        options.loadExampleTree = false
        try await LDAPSandbox.temporary(options: options) { sandbox in
            try await sandbox.load(text("example-tree.ldif"))
            for password in ["{CRYPT}*", "*", ""] {
                let outcome = try await ldap("ldapwhoami", sandbox, as: sandbox.daemonDN, password, [])
                #expect(outcome.code == 49 || outcome.code == 53, "\(password)")
            }
        }
    }
}
