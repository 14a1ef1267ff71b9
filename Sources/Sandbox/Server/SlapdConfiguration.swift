import SystemPackage

/// The text of a sandbox's slapd.conf. A pure value: it reads and writes nothing.
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
        // A server that has loaded the module says that it offers Content Sync, even where no database does.
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
            // Address space, not disk space: the file grows with what is written.
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
