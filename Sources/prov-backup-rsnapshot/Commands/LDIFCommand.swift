import ArgumentParser
import BackupService
import Daemon
import LDAP
import Sandbox
import SystemPackage

struct LDIFCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ldif",
        abstract:
            "Write test LDIFs for an account, load LDIF files into the directory, or print what a site's server needs.",
        subcommands: [LDIFCreateCommand.self, LDIFLoadCommand.self, LDIFSiteCommand.self])
}

struct LDIFLoadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Load LDIF files: entries are added, change records are carried out.",
        discussion: """
            The directory is that of a sandbox (--sandbox), or the one that --server and --bind-dn name, or else the one of \
            the settings with the daemon's own rights.
            """)

    @OptionGroup var target: LoadTarget
    @Flag(name: [.customShort("k"), .long], help: "Go on with the next record after an error.")
    var continueOnError = false
    @Argument(help: "LDIF files, loaded one after the other.", completion: .file(extensions: ["ldif"]))
    var files: [String]

    func run() async throws {
        let connection = try await target.connect()
        defer { connection.close() }
        var loader = LDIFLoader(connection: connection, continuesOnError: continueOnError)
        for file in files { try await loader.load(file) }
        let records = loader.loaded == 1 ? "record" : "records"
        print("\(loader.loaded) \(records) loaded" + (loader.failed > 0 ? ", \(loader.failed) failed" : ""))
        if loader.failed > 0 { throw ExitCode(ProcessExitStatus.failure.rawValue) }
    }
}

/// Which directory to load into, as whom.
struct LoadTarget: ParsableArguments {
    @OptionGroup var files: SettingsOptions
    @Option(help: "A sandbox's directory; its manager's rights are used.") var sandbox: String?
    @Option(help: "ldap://, ldaps:// or ldapi:// address.") var server: String?
    @Option(help: "As whom to bind, with --server; without it nobody, or over ldapi:// the user of this process.")
    var bindDN: String?
    @Option(help: "A file that holds the password for --bind-dn.") var passwordFile: String?

    func validate() throws {
        if sandbox != nil && server != nil {
            throw ValidationError("--sandbox and --server exclude each other; leave one out.")
        }
        if (bindDN != nil) != (passwordFile != nil) {
            throw ValidationError("--bind-dn and --password-file go together.")
        }
        if bindDN != nil && server == nil { throw ValidationError("--bind-dn needs --server.") }
    }

    func connect() async throws -> LDAPConnection {
        if let sandbox {
            let running = try CommandFailure.translatingSandbox {
                try LDAPSandbox.running(in: SandboxSettings.server(in: FilePath(sandbox)))
            }
            return try await connect(
                to: running.uri,
                .simple(bindDN: try DN(parsing: running.adminDN), password: Secret(running.adminPassword)))
        }
        guard let server else { return try await files.load().connectOnce() }
        guard let bindDN, let passwordFile else {
            return try await connect(to: server, server.hasPrefix("ldapi:") ? .external : .anonymous)
        }
        let password = try TextFiles.firstLine(of: passwordFile)
        return try await connect(to: server, .simple(bindDN: try DN(parsing: bindDN), password: Secret(password)))
    }

    private func connect(to server: String, _ credentials: Credentials) async throws -> LDAPConnection {
        let address = try ServerAddress(parsing: server)
        return try await CommandFailure.translating {
            try await LDAPConnection.open(address, options: ConnectionOptions(credentials: credentials))
        }
    }
}
