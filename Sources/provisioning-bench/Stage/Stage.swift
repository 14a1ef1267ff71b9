import LDAP
import Sandbox
import EventLoop
import SystemPackage

/// A directory server with accounts, and the places on the disk that go with them, in one directory.
///
/// The server is slapd with an mdb database as the sandbox sets it up: the shipped indexes, limits and access rules, Content Sync, and a
/// flush to the disk with every commit. All contestants work on the same one and bind as the same DN.
struct Stage: Sendable {
    let directory: FilePath
    let sandbox: LDAPSandbox
    /// The Manager's connection, for preparing and looking.
    let manager: LDAPConnection
    let template: AccountTemplate
    /// How many accounts there are, from `AccountTemplate.firstUID` on.
    let accounts: Int

    var homes: FilePath { directory.appending("homes") }
    var configurations: FilePath { directory.appending("rsnapshot.d") }
    /// The daemon's password, and not even a newline behind it: what the LDAP tools want.
    var passwordFile: FilePath { directory.appending("password") }
    private static func server(_ directory: FilePath) -> FilePath { directory.appending("slapd") }

    /// A server without accounts.
    init(in directory: FilePath) async throws {
        try Files.make(directory)
        for name in ["homes", "rsnapshot.d"] { try Files.make(directory.appending(name)) }
        let sandbox = try await LDAPSandbox.start(in: Self.server(directory), options: Self.options)
        try Files.write(sandbox.daemonPassword, to: directory.appending("password"))
        try await self.init(
            directory, sandbox, accounts: 0, template: try AccountTemplate(homes: directory.appending("homes")))
    }

    private init(_ directory: FilePath, _ sandbox: LDAPSandbox, accounts: Int, template: AccountTemplate) async throws {
        self.directory = directory
        self.sandbox = sandbox
        self.accounts = accounts
        self.template = template
        manager = try await Self.connection(sandbox)
    }

    private static var options: SandboxOptions {
        var options = SandboxOptions()
        options.endsWithParent = true
        // After slapadd it looks for the last change among all entries before it answers.
        options.startTimeout = .seconds(300)
        return options
    }

    /// Another connection of the Manager's.
    static func connection(_ sandbox: LDAPSandbox) async throws -> LDAPConnection {
        let credentials = Credentials.simple(
            bindDN: try DN(parsing: sandbox.adminDN), password: Secret(sandbox.adminPassword))
        return try await LDAPConnection.open(
            ServerAddress(parsing: sandbox.uri),
            options: ConnectionOptions(credentials: credentials, operationTimeout: .seconds(120)))
    }

    /// The server with so many accounts more, of which the last ones wish something; slapadd makes them while it is stopped.
    @MainActor func growing(
        by count: Int, wishing: Int = 0, _ wish: AccountTemplate.Mode = .modify
    ) async throws -> Stage {
        let first = AccountTemplate.firstUID + accounts
        let end = first + count
        guard end <= AccountTemplate.uids.upperBound else {
            throw BenchFailure("there are no numbers for so many accounts")
        }
        manager.close()
        try await sandbox.stop(keepingData: true)
        var next = first
        let configuration = Self.server(directory).appending("slapd.conf")
        let entries = ChildProcess.Input.pieces {
            guard next < end else { return nil }
            let chunk = next..<min(end, next + 500)
            next = chunk.upperBound
            var bytes: [UInt8] = []
            for uid in chunk {
                bytes.append(contentsOf: template.text(uid, uid >= end - wishing ? wish : .modified).utf8)
            }
            return bytes
        }
        try await Tool.run("/usr/sbin/slapadd", ["-q", "-w", "-f", configuration.string], input: entries)
        let sandbox = try await LDAPSandbox.start(in: Self.server(directory), options: Self.options)
        return try await Stage(directory, sandbox, accounts: accounts + count, template: template)
    }

    /// Ends the server that runs in a directory, where one does.
    static func end(in directory: FilePath) async throws {
        guard case .running = try SandboxStatus.of(server(directory)) else { return }
        do {
            try await LDAPSandbox.running(in: server(directory)).stop()
        } catch  where error.code == .notRunning {
            // It ends by itself when its stage is given up, and has done so just now.
        }
    }

    /// The numbers of the last accounts.
    func last(_ count: Int) -> Range<Int> {
        let end = AccountTemplate.firstUID + accounts
        return max(AccountTemplate.firstUID, end - count)..<end
    }

    /// The numbers of the first accounts.
    func first(_ count: Int) -> Range<Int> {
        AccountTemplate.firstUID..<AccountTemplate.firstUID + min(count, accounts)
    }

    static let accountsDN = SandboxTree.accountsDN

    static func dn(_ uid: Int) throws -> DN { try DN(parsing: accountsDN).appending("uid", "\(uid)") }
}
