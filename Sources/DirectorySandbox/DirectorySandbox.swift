import Glibc
import Synchronization
public import SystemPackage

/// A private directory server: a real slapd with the shipped schema, indexes, limits and access rules, in a folder.
///
/// It needs no root and no configuration of the system, listens on a UNIX socket (and on 127.0.0.1 where that is asked
/// for), and several of them run side by side. It is for demonstrations, tests and measurements, not for operation.
///
/// Diagnostics: every failure is a ``SandboxError``; when the server does not come up, it holds the end of the server's
/// own log, and what was started has been stopped again.
public final class DirectorySandbox: Sendable {
    /// The folder: absolute, without symbolic links.
    public let directory: FilePath
    /// Where the server listens: `ldapi://` with the socket's path.
    public var uri: String { addresses.uri }
    /// `ldap://127.0.0.1:PORT`, where ``SandboxOptions/loopbackPort`` asked for it.
    public var loopbackURI: String? { addresses.loopbackURI }
    /// `ldaps://127.0.0.1:PORT`, where ``SandboxOptions/loopbackTLSPort`` asked for it.
    public var loopbackTLSURI: String? { addresses.loopbackTLSURI }
    /// The certificate authority that signed the server's certificate, in PEM; there only with ``SandboxOptions/tls``.
    public var caFile: FilePath { folder.caCertificate }
    /// slapd's messages.
    public var logFile: FilePath { folder.log }

    /// ``SandboxTree/managerDN``.
    public var adminDN: String { SandboxTree.managerDN }
    /// The Manager's random password.
    public var adminPassword: String { passwords.manager }
    /// The file that holds nothing but the Manager's password and can be read by its owner only.
    public var adminPasswordFile: FilePath { folder.passwordFile("manager") }
    /// ``SandboxTree/daemonDN``. It can log in where the example tree has been loaded.
    public var daemonDN: String { SandboxTree.daemonDN }
    /// The daemon's random password.
    public var daemonPassword: String { passwords.daemon }
    /// The file that holds nothing but the daemon's password and can be read by its owner only.
    public var daemonPasswordFile: FilePath { folder.passwordFile("daemon") }
    /// ``SandboxTree/selfcareDN``. It can log in where the example tree has been loaded.
    public var selfcareDN: String { SandboxTree.selfcareDN }
    /// The random password of what writes the wishes.
    public var selfcarePassword: String { passwords.selfcare }

    /// The server's process id; it changes with ``restart()``.
    public var processID: Int32 { running.withLock { $0.process.id } }
    /// Whether the server's process runs, paused or not.
    public var isRunning: Bool { running.withLock { $0.process }.isRunning }

    let folder: SandboxFolder
    let addresses: SandboxAddresses
    private let passwords: SandboxPasswords
    private let startTimeout: Duration
    private let running: Mutex<Running>

    private struct Running {
        var process: SlapdProcess
        /// Held for as long as the server shall live, where it ends with its parent.
        var lifeline: Lifeline?
    }

    private init(
        folder: SandboxFolder, addresses: SandboxAddresses, passwords: SandboxPasswords, startTimeout: Duration,
        running: consuming sending Running
    ) {
        self.folder = folder
        self.directory = folder.path
        self.addresses = addresses
        self.passwords = passwords
        self.startTimeout = startTimeout
        self.running = Mutex(running)
    }

    // MARK: Starting

    /// Starts a server in a folder, and returns when it answers.
    ///
    /// A folder that is not there is made; one that holds a sandbox's data is started again on it, with the options
    /// given now and the passwords it has.
    ///
    /// - Throws: ``SandboxError``, with code `alreadyRunning` where a server runs in the folder, `portInUse` where another
    ///   program has the port, `folder` where the folder holds other files.
    public static func start(
        in directory: FilePath, options: SandboxOptions = SandboxOptions()
    ) async throws(SandboxError) -> DirectorySandbox {
        let pieces = try SandboxPieces(at: options.pieces)
        _ = try SlapdLauncher.program("slapd")
        let folder = try SandboxFolder.make(at: directory)
        let lock = try FolderLock(folder.lock)
        defer { lock.release() }
        if let process = try SlapdProcess.running(in: folder) {
            throw SandboxError(
                .alreadyRunning, "a sandbox runs in \(folder.path) already, process \(process.id)",
                hint: "use it, or stop it first")
        }
        try folder.mark()
        if folder.hasData {
            return try await start(folder, passwords: try SandboxPasswords(readingFrom: folder), pieces, options)
        }
        do {
            let passwords = try SandboxPasswords.make(in: folder)
            return try await start(folder, passwords: passwords, fillingFirst: true, pieces, options)
        } catch {
            // Nothing is lost with a directory that has never answered, and half of one would be in the way next time.
            try folder.remove()
            throw error
        }
    }

    private static func start(
        _ folder: SandboxFolder, passwords: SandboxPasswords, fillingFirst: Bool = false, _ pieces: SandboxPieces,
        _ options: SandboxOptions
    ) async throws(SandboxError) -> DirectorySandbox {
        if options.wantsTLS { try await SandboxCertificates.make(in: folder) }
        let configuration = SlapdConfiguration(
            pieces: pieces, folder: folder, managerPassword: passwords.manager, options: options)
        try TextFile.write(try configuration.text(), to: folder.configuration)
        if fillingFirst { try await fill(folder, pieces: pieces, passwords: passwords, options: options) }
        var attempt = 1
        while true {
            let addresses = try SandboxAddresses(socket: try folder.socketPath(), options: options)
            try TextFile.write(addresses.text, to: folder.addresses)
            do throws(SandboxError) {
                let running = try await launch(
                    folder, addresses: addresses, lifeline: options.endsWithParent ? try Lifeline() : nil,
                    timeout: options.startTimeout)
                return DirectorySandbox(
                    folder: folder, addresses: addresses, passwords: passwords, startTimeout: options.startTimeout,
                    running: running)
            } catch {
                // A port that was free a moment ago may be another program's by now: then another is chosen.
                guard error.code == .portInUse, options.choosesPort, attempt < 5 else { throw error }
                attempt += 1
            }
        }
    }

    /// The sandbox that runs in a folder, started by this or by another process.
    ///
    /// - Throws: ``SandboxError/Code/notRunning`` where none does.
    public static func running(in directory: FilePath) throws(SandboxError) -> DirectorySandbox {
        let folder = try SandboxFolder(existing: directory)
        guard try folder.isSandbox(), let process = try SlapdProcess.running(in: folder),
            let addresses = SandboxAddresses(text: try TextFile.read(folder.addresses))
        else {
            throw SandboxError(.notRunning, "no sandbox runs in \(folder.path)", hint: "start one")
        }
        return DirectorySandbox(
            folder: folder, addresses: addresses, passwords: try SandboxPasswords(readingFrom: folder),
            startTimeout: SandboxOptions().startTimeout, running: Running(process: process, lifeline: nil))
    }

    /// Makes the empty database and loads the tree.
    private static func fill(
        _ folder: SandboxFolder, pieces: SandboxPieces, passwords: SandboxPasswords, options: SandboxOptions
    ) async throws(SandboxError) {
        try folder.removeData()
        try SandboxFolder.makeDirectory(folder.data)
        guard options.loadExampleTree else { return }
        let tree = try SandboxTree.text(
            try TextFile.read(pieces.file("example-tree.ldif")),
            passwords: [SandboxTree.daemonDN: passwords.daemon, SandboxTree.selfcareDN: passwords.selfcare])
        try TextFile.write(tree, to: folder.tree)
        try await SlapdLauncher.run("slapadd", ["-q", "-f", folder.configuration.string, "-l", folder.tree.string])
        try folder.removeTree()
    }

    /// Starts slapd and waits until it answers; stops it again where it does not.
    private static func launch(
        _ folder: SandboxFolder, addresses: SandboxAddresses, lifeline: Lifeline?, timeout: Duration
    ) async throws(SandboxError) -> Running {
        let launcher = SlapdLauncher(folder: folder)
        try TextFile.write("", to: folder.log)
        let process = try await launcher.start(listeningOn: addresses.all, lifeline: lifeline)
        var answers = false
        _ = await SlapdProcess.wait(upTo: timeout) {
            answers = ServerProbe.answers(at: addresses.socket)
            return answers || Task.isCancelled || process.hasEnded
        }
        if answers && process.isRunning { return Running(process: process, lifeline: lifeline) }
        let ended = process.hasEnded
        try await process.end(force: true)
        let said = launcher.lastWords
        if said.contains("errno=98") {
            throw SandboxError(
                .portInUse, "another program uses \(addresses.all.dropFirst().joined(separator: " or "))",
                hint: "choose another port, or 0 for a free one")
        }
        guard ended else {
            throw SandboxError(
                .timeout, "slapd does not answer on \(addresses.uri) within \(timeout)",
                hint: "see what it says: \(said)")
        }
        throw SandboxError(
            .serverFailed, "slapd ended instead of starting", hint: "see what it says: \(said)")
    }

    // MARK: Stopping

    /// Ends the server and removes what the sandbox has made: its files, and the folder where nothing else is in it.
    ///
    /// - Parameter keepingData: leaves the folder as it is, to be started again later.
    public func stop(keepingData: Bool = false) async throws(SandboxError) {
        try await running.withLock { $0.process }.end()
        running.withLock { $0.lifeline = nil }
        if !keepingData { try folder.remove() }
    }

    // MARK: Faults

    /// Ends the server without asking it (SIGKILL), as a crash does, and returns when it is gone.
    public func kill() async throws(SandboxError) {
        try await running.withLock { $0.process }.end(force: true)
    }

    /// Makes the server hang (SIGSTOP): connections stay, nothing answers.
    public func pause() { running.withLock { $0.process }.signal(SIGSTOP) }

    /// Lets a paused server go on (SIGCONT).
    public func resume() { running.withLock { $0.process }.signal(SIGCONT) }

    /// Ends the server, where it runs, and starts it again on the same data, addresses and passwords.
    public func restart() async throws(SandboxError) {
        try await running.withLock { $0.process }.end()
        let lifeline = running.withLock { $0.lifeline } == nil ? nil : try Lifeline()
        let started = try await Self.launch(folder, addresses: addresses, lifeline: lifeline, timeout: startTimeout)
        running.withLock { $0 = started }
    }
}
