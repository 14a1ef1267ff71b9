package import SystemPackage

/// The options of a sandbox. The defaults are those of a demonstration; tests start from ``testing``.
package struct SandboxOptions: Sendable {
    /// A TCP port on 127.0.0.1 for `ldap://`, 1 to 65535, or 0 for a free one; nil: none.
    package var loopbackPort: Int?
    /// A TCP port on 127.0.0.1 for `ldaps://`, 1 to 65535, or 0 for a free one; nil: none. It implies ``tls``.
    package var loopbackTLSPort: Int?
    /// Makes a certificate for `localhost` and 127.0.0.1, so that the server offers StartTLS.
    package var tls = false
    /// Loads the overlay for Content Sync (RFC 4533); without it clients have to poll.
    package var contentSync = true
    /// Loads the shipped example tree into an empty database; without it only the Manager can bind.
    package var loadExampleTree = true
    /// Flushes every write to the disk. Without it writes are many times faster, and a crash of the machine may lose data.
    package var flushesToDisk = true
    /// Ends the server when this process ends in any way, or releases the sandbox.
    package var endsWithParent = false
    /// Further lines for the global part of slapd.conf, such as `moduleload retcode`.
    package var globalLines: [String] = []
    /// Further lines for the database, after the overlays, such as `overlay retcode` and its settings.
    package var databaseLines: [String] = []
    /// The directory of the shipped files (schema, indexes, limits, access rules, example tree); nil: see ``SandboxPieces``.
    package var pieces: FilePath?
    /// How long the server may take until it answers.
    package var startTimeout: Duration = .seconds(20)

    /// For a demonstration: the server outlives this process, and keeps its data.
    package init() {}

    /// For one test: the server ends with this process and does not flush.
    package static var testing: SandboxOptions {
        var options = SandboxOptions()
        options.endsWithParent = true
        options.flushesToDisk = false
        options.startTimeout = .seconds(120)
        return options
    }

    /// Whether a free port is to be chosen.
    var choosesPort: Bool { loopbackPort == 0 || loopbackTLSPort == 0 }

    var wantsTLS: Bool { tls || loopbackTLSPort != nil }
}

/// The text of a sandbox's slapd.conf.
struct SlapdConfiguration {
    static let schemaDirectory: FilePath = "/etc/ldap/schema"
    static let moduleDirectory: FilePath = "/usr/lib/ldap"

    var pieces: SandboxPieces
    var files: SandboxFiles
    var managerPassword: String
    var options: SandboxOptions

    func text() throws(SandboxError) -> String {
        var lines = [SandboxFiles.headline]
        for name in ["core", "cosine", "nis", "inetorgperson"] {
            lines.append("include \(try Self.quoted(Self.schemaDirectory.appending("\(name).schema").string))")
        }
        for name in ["stoney-cloud.schema", "provisioning-claim.schema"] {
            lines.append("include \(try Self.quoted(pieces.file(name).string))")
        }
        lines += [
            "modulepath \(Self.moduleDirectory)", "moduleload back_mdb", "loglevel none",
            "pidfile \(try Self.quoted(files.pidFile.string))",
        ]
        // With the module loaded, slapd announces Content Sync even if no database has it.
        if options.contentSync { lines.append("moduleload syncprov") }
        if options.wantsTLS {
            lines += [
                "TLSCACertificateFile \(try Self.quoted(files.caCertificate.string))",
                "TLSCertificateFile \(try Self.quoted(files.serverCertificate.string))",
                "TLSCertificateKeyFile \(try Self.quoted(files.serverKey.string))",
            ]
        }
        lines += options.globalLines
        lines += [
            "database frontend", "access to dn.base=\"\" by * read", "access to dn.base=\"cn=Subschema\" by * read",
            "database mdb", "suffix \"\(SandboxTree.suffix)\"", "rootdn \"\(SandboxTree.managerDN)\"",
            "rootpw \(try Self.quoted(managerPassword))", "directory \(try Self.quoted(files.data.string))",
            // Of address space, not of disk space.
            "maxsize 17179869184",
        ]
        if !options.flushesToDisk { lines.append("dbnosync") }
        for name in ["indexes.conf", "limits.conf", "access-claim.conf", "access.conf"] {
            lines.append("include \(try Self.quoted(pieces.file(name).string))")
        }
        if options.contentSync { lines += ["overlay syncprov", "syncprov-checkpoint 100 10"] }
        lines += options.databaseLines
        lines.append("include \(try Self.quoted(pieces.file("config.conf").string))")
        return lines.joined(separator: "\n") + "\n"
    }

    /// A word of slapd.conf that may hold blanks and quotes.
    static func quoted(_ word: String) throws(SandboxError) -> String {
        guard !word.utf8.contains(where: { $0 < 0x20 }) else {
            throw SandboxError(
                .option, "slapd.conf cannot hold the control character in \"\(word)\"", hint: "choose another name")
        }
        var text = "\""
        for character in word {
            if character == "\"" || character == "\\" { text.append("\\") }
            text.append(character)
        }
        return text + "\""
    }
}
