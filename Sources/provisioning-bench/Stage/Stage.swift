import DirectoryClient
import DirectoryModel
import DirectorySandbox
import EventLoop
import SystemPackage

/// A directory server with accounts, and the places on the disk that go with them, in one folder.
///
/// The server is slapd with an mdb database as the sandbox sets it up: the shipped indexes, limits and access rules, Content Sync, and a
/// flush to the disk with every commit. All contestants work on the same one and bind as the same DN.
struct Stage: Sendable {
    let folder: FilePath
    let sandbox: DirectorySandbox
    /// The Manager's connection, for preparing and looking.
    let manager: DirectoryConnection
    let template: AccountTemplate
    /// How many accounts there are, from `AccountTemplate.firstUID` on.
    let accounts: Int

    var homes: FilePath { folder.appending("homes") }
    var configurations: FilePath { folder.appending("rsnapshot.d") }
    /// The daemon's password, and not even a newline behind it: what the LDAP tools want.
    var passwordFile: FilePath { folder.appending("password") }
    private static func server(_ folder: FilePath) -> FilePath { folder.appending("slapd") }

    /// A server without accounts.
    init(in folder: FilePath) async throws {
        try Files.make(folder)
        for name in ["homes", "rsnapshot.d"] { try Files.make(folder.appending(name)) }
        let sandbox = try await DirectorySandbox.start(in: Self.server(folder), options: Self.options)
        try Files.write(sandbox.daemonPassword, to: folder.appending("password"))
        try await self.init(
            folder, sandbox, accounts: 0, template: try AccountTemplate(homes: folder.appending("homes")))
    }

    private init(_ folder: FilePath, _ sandbox: DirectorySandbox, accounts: Int, template: AccountTemplate) async throws
    {
        self.folder = folder
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
    static func connection(_ sandbox: DirectorySandbox) async throws -> DirectoryConnection {
        let credentials = Credentials.simple(
            bindDN: try DN(parsing: sandbox.adminDN), password: Secret(sandbox.adminPassword))
        return try await DirectoryConnection.open(
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
        let configuration = Self.server(folder).appending("slapd.conf")
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
        let sandbox = try await DirectorySandbox.start(in: Self.server(folder), options: Self.options)
        return try await Stage(folder, sandbox, accounts: accounts + count, template: template)
    }

    /// Ends the server that runs in a folder, where one does.
    static func end(in folder: FilePath) async throws {
        guard case .running = try SandboxStatus.of(server(folder)) else { return }
        do {
            try await DirectorySandbox.running(in: server(folder)).stop()
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
