import ArgumentParser
import BackupService
import Daemon
import EventLoop
import Glibc
import LDAP
import Sandbox
import SystemPackage

struct LDIFCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ldif",
        abstract:
            "Write test LDIFs for an account, load LDIF files into the LDAP server, or print the configuration for a site's server.",
        subcommands: [LDIFCreateCommand.self, LDIFLoadCommand.self, LDIFSiteCommand.self])
}

struct LDIFLoadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Load LDIF files: entries are added, change records are applied.",
        discussion: """
            The LDAP server is that of a sandbox (--sandbox), or of --server and --bind-dn, otherwise that of the settings, with \
            the daemon's identity.
            """)

    @OptionGroup var settings: SettingsOptions
    @Option(help: "A sandbox's directory; records are loaded as its manager.") var sandbox: String?
    @Option(help: "ldap://, ldaps:// or ldapi:// address.") var server: String?
    @Option(help: "The bind DN, with --server (default: anonymous, over ldapi:// the user of this process).")
    var bindDN: String?
    @Option(help: "A file with the password for --bind-dn.") var passwordFile: String?
    @Flag(name: [.customShort("k"), .long], help: "Continue with the next record after an error.")
    var continueOnError = false
    @Argument(help: "LDIF files, loaded one after the other.", completion: .file(extensions: ["ldif"]))
    var files: [String]

    func validate() throws {
        if sandbox != nil && server != nil {
            throw ValidationError("--sandbox and --server exclude each other; leave one out.")
        }
        if (bindDN != nil) != (passwordFile != nil) {
            throw ValidationError("--bind-dn and --password-file go together.")
        }
        if bindDN != nil && server == nil { throw ValidationError("--bind-dn needs --server.") }
    }

    func run() async throws {
        let connection = try await connect()
        defer { connection.close() }
        let isDaemon = sandbox == nil && server == nil
        var loader = LDIFLoader(connection: connection, isDaemon: isDaemon, continuesOnError: continueOnError)
        for file in files { try await loader.load(file) }
        let records = loader.loaded == 1 ? "record" : "records"
        print("\(loader.loaded) \(records) loaded" + (loader.failed > 0 ? ", \(loader.failed) failed" : ""))
        if loader.failed > 0 { throw ExitCode(ProcessExitStatus.failure.rawValue) }
    }

    private func connect() async throws -> LDAPConnection {
        if let sandbox {
            let running = try LDAPSandbox.running(in: SandboxSettings.server(in: FilePath(sandbox)))
            return try await connect(
                to: running.uri,
                .simple(bindDN: try DN(parsing: running.adminDN), password: Secret(running.adminPassword)))
        }
        guard let server else { return try await settings.load().connectOnce() }
        guard let bindDN, let passwordFile else {
            return try await connect(to: server, server.hasPrefix("ldapi:") ? .external : .anonymous)
        }
        let password = try TextFiles.firstLine(of: passwordFile)
        return try await connect(to: server, .simple(bindDN: try DN(parsing: bindDN), password: Secret(password)))
    }

    private func connect(to server: String, _ credentials: Credentials) async throws -> LDAPConnection {
        try await LDAPConnection.open(
            ServerAddress(parsing: server), options: ConnectionOptions(credentials: credentials))
    }
}

struct LDIFCreateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Write the four LDIFs of the test flow for an account.",
        discussion:
            "01 adds the account with the request add, 02 requests modify, 03 requests delete, 04 removes the entry.")

    @Option(help: "The account's uid: seven digits or more.") var uid: String
    @Option(help: "sstBelongsToResellerUID.") var reseller = "4000000"
    @Option(help: "sstBelongsToCustomerUID.") var customer = "4000001"
    @Option(help: "sstBelongsToPersonUID.") var people = "4000002"
    @Option(help: "First name, for cn and gecos.") var givenname = "Givenname"
    @Option(help: "Last name, for cn and gecos.") var surname = "Surname"
    @Option(help: "The parent entry of the accounts.") var base =
        "ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org"
    @Option(help: "The parent directory of the home; one of HOME_ROOTS.") var homeRoot = "/var/backup"
    @Option(help: "The backup server of the account.") var host: String?
    @Option(
        name: [.customShort("o"), .long], help: "The output directory; it is created if it is missing.",
        completion: .directory)
    var output = "data"

    func run() throws {
        let files: [TestLDIFs.File]
        do {
            files = try TestLDIFs(
                uid: uid, reseller: reseller, customer: customer, people: people, givenName: givenname,
                surname: surname, base: try DN(base, of: "--base"), homeRoot: FilePath(homeRoot), host: host
            ).files()
        } catch let error as TestLDIFs.Invalid {
            throw ValidationError("\(error)")
        }
        try TextFiles.makeDirectory(output, option: "--output")
        for file in files {
            let path = "\(output)/\(file.name)"
            try TextFiles.write(file.text, to: path)
            print(path)
        }
    }
}

struct LDIFSiteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "site",
        abstract:
            "Print the configuration that an LDAP server needs besides the schema, with the names of this site.",
        discussion: """
            For a server with its configuration in cn=config, such as Debian's. The comment at the top of the LDIF says how to load it. This \
            command neither changes nor contacts a server.
            """)

    @Option(help: "The suffix of the site's database, such as dc=nodomain.") var base: String
    @Option(
        name: .customLong("daemon-dn"),
        help: "The bind DN of the daemon (default: cn=prov-backup-rsnapshot,ou=programs below the base).")
    var daemonDN: String?
    @Flag(
        help: "Print the access rule that daemons which share accounts (CLAIM) need in addition, and nothing else.")
    var claim = false

    func run() throws {
        let site: SiteLDIF
        do {
            site = try SiteLDIF(
                base: try DN(base, of: "--base"), daemonDN: try daemonDN.map { try DN($0, of: "--daemon-dn") },
                pieces: SandboxPieces())
        } catch let error as SandboxError where error.code == .option {
            throw CommandFailure(error.reason, hint: error.hint, status: .wrongUsage)
        }
        print(LDIFWriter.comment(claim ? claimHead : head(site)))
        for record in claim ? [site.claimRecord] : site.records { StandardOutput.write(LDIFWriter.text(for: record)) }
    }

    private func head(_ site: SiteLDIF) -> String {
        """
        The configuration that the LDAP server of this site needs for the backup accounts. Load the schema
        (stoney-cloud.ldif) first.

        It is made for Debian's default configuration with the suffix \(base). Remove the parts that your server
        already has; correct the database if that of \(base) is not olcDatabase={1}mdb. As root on the directory
        server, who is authenticated by the socket:

            ldapmodify -Y EXTERNAL -H ldapi:/// -f site.ldif
            ldappasswd -Y EXTERNAL -H ldapi:/// -S \("\(site.daemonDN)".shellWord)

        Debian permits anonymous clients to read everything. After loading this, the accounts and their service
        are only accessible for \(site.daemonDN),
        cn=selfcare,ou=programs,\(base), the administrator, and root on the LDAP server.
        The rules precede the existing ones, which still apply to all other entries.

        The corresponding settings:

            ADMIN_USER = \(site.daemonDN)
            SERVICE_SUBTREE = \(site.accountsDN)
        """
    }

    private var claimHead: String {
        """
        The access rule for provisioningClaim, for daemons that share accounts. Load it after the schema
        (provisioning-claim.ldif) and the output of ldif site without --claim, whose first rule stays before it.
        Correct the database if that of \(base) is not olcDatabase={1}mdb. As root on the LDAP server:

            ldapadd -Y EXTERNAL -H ldapi:/// -f provisioning-claim.ldif
            ldapmodify -Y EXTERNAL -H ldapi:/// -f claim.ldif

        Then set CLAIM = provisioningClaim on each daemon, and add the class provisioningClaimable to each account.
        """
    }
}

extension DN {
    /// - Throws: `ValidationError` with the option.
    fileprivate init(_ text: String, of option: String) throws {
        do { self = try DN(parsing: text) } catch { throw ValidationError("\(option): \(error)") }
    }
}

/// Loads LDIF files record by record, with only a part of the file in memory.
struct LDIFLoader {
    let connection: LDAPConnection
    /// Whether the connection has the identity of the daemon.
    let isDaemon: Bool
    let continuesOnError: Bool
    private(set) var loaded = 0
    private(set) var failed = 0

    /// - Throws: `CommandFailure` at the first error, unless it continues on errors.
    mutating func load(_ path: String) async throws {
        let file = try TextFiles.open(path)
        defer { _ = Glibc.close(file.rawValue) }
        var progress = ProgressBar(title: path, total: TextFiles.size(of: file))
        defer { progress.finish() }
        var parser = LDIFParser(source: path, urlContents: TextFiles.contents(ofURL:))
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
            if count == 0 { parser.finish() } else { parser.append(buffer[..<count]) }
            try await drain(&parser, path)
            if count == 0 { return }
            progress.advance(by: count)
        }
    }

    private mutating func drain(_ parser: inout LDIFParser, _ path: String) async throws {
        while true {
            do {
                guard let record = try parser.next() else { return }
                do throws(LDAPError) {
                    try await apply(record)
                    loaded += 1
                } catch {
                    let isUnknown = error.isConnectionLost || error.code == .timeout
                    try note(
                        CommandFailure(
                            error, hint: isDaemon && error.code == .insufficientAccessRights ? Self.notForDaemon : nil,
                            consequence: isUnknown
                                ? "it is unknown whether the record was loaded: look at it" : Self.notLoaded
                        ), at: "\(path):\(record.line): \(record.dn)")
                }
            } catch let error as LDAPSyntaxError {
                try note(CommandFailure(error.description, hint: Self.notLoaded), at: nil)
            }
        }
    }

    private static let notLoaded = "the record was not loaded"
    private static let notForDaemon =
        "this is the daemon's identity, which may only do what its work needs; load it as the program that writes the requests "
        + "(--server, --bind-dn, --password-file)"

    /// - Parameter place: nil: the reason has it.
    private mutating func note(_ failure: CommandFailure, at place: String?) throws {
        let reason = place.map { "\($0): \(failure.reason)" } ?? failure.reason
        failed += 1
        guard continuesOnError, failure.status != .unavailable else {
            throw CommandFailure(
                reason, hint: "\(failure.hint); records loaded before it: \(loaded)", status: failure.status)
        }
        printError("\(reason); \(failure.hint)")
    }

    private func apply(_ record: LDIFRecord) async throws(LDAPError) {
        guard !record.controls.contains(where: \.isCritical) else {
            throw LDAPError(
                .unavailableCriticalExtension, operation: "load \(record.dn)", server: connection.server.description,
                diagnostic: "the record has a critical control, and this command cannot send controls")
        }
        switch record.change {
        case .content(let attributes), .add(let attributes):
            try await connection.add(Entry(dn: record.dn, attributes: attributes))
        case .delete:
            _ = try await connection.delete(record.dn)
        case .modify(let modifications):
            _ = try await connection.modify(record.dn, modifications)
        case .rename(let newRDN, let deleteOldRDN, let newSuperior):
            try await connection.rename(record.dn, to: newRDN, deleteOldRDN: deleteOldRDN, newSuperior: newSuperior)
        }
    }
}

/// Files that commands read and write.
enum TextFiles {
    static func open(_ path: String) throws -> FileDescriptor {
        do {
            let file = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
            var status = stat()
            guard fstat(file.rawValue, &status) == 0, status.st_mode & S_IFMT != S_IFDIR else {
                try? file.close()
                throw Errno.isDirectory
            }
            return file
        } catch let error as Errno {
            throw CommandFailure("\(path): \(error)", hint: "check the path and its rights")
        }
    }

    /// Replaces the file atomically.
    static func write(
        _ text: String, to path: String, mode: FilePermissions = [.ownerReadWrite, .groupRead, .otherRead]
    ) throws {
        let draft = "\(path).new"
        do {
            let file = try FileDescriptor.open(
                FilePath(draft), .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: mode)
            _ = try file.closeAfter { try file.writeAll(text.utf8) }
        } catch let error as Errno {
            throw CommandFailure("\(draft) cannot be written: \(error)", hint: "check the directory and its rights")
        }
        guard rename(draft, path) == 0 else {
            throw CommandFailure(
                "\(path) cannot be replaced: \(Errno(rawValue: errno))", hint: "check the directory and its rights")
        }
    }

    /// - Parameter option: the option that names the directory.
    static func makeDirectory(_ path: String, mode: mode_t = 0o777, option: String) throws {
        guard mkdir(path, mode) == 0 || errno == EEXIST else {
            throw CommandFailure(
                "\(path) cannot be created: \(Errno(rawValue: errno))", hint: "choose another with \(option)")
        }
    }

    /// The size in bytes; 0: not a regular file.
    static func size(of file: FileDescriptor) -> Int {
        var status = stat()
        return fstat(file.rawValue, &status) == 0 ? Int(status.st_size) : 0
    }

    /// The first line without its end, for secrets.
    static func firstLine(of path: String) throws -> String {
        let text = String(decoding: try contents(of: path, limit: 1 << 16), as: UTF8.self)
        return String(text.prefix { !$0.isNewline })
    }

    /// The local file of an LDIF value's URL.
    static func contents(ofURL url: String) throws -> [UInt8] {
        guard url.lowercased().hasPrefix("file:///"), !url.contains("%") else {
            throw CommandFailure("the URL \(url) cannot be read", hint: "use file:///PATH with a plain path")
        }
        return try contents(of: String(url.dropFirst("file://".count)), limit: 64 << 20)
    }

    private static func contents(of path: String, limit: Int) throws -> [UInt8] {
        do {
            return try FilePath(path).reading { file throws(Errno) in try file.contents(limit: limit) }
        } catch .fileTooLarge {
            throw CommandFailure("\(path) is larger than \(limit) bytes", hint: "name another file")
        } catch {
            throw CommandFailure("\(path): \(error)", hint: "check the path and its rights")
        }
    }
}
