import Glibc
import Synchronization
package import SystemPackage

/// A private directory server: a real slapd with the shipped schema, indexes, limits and access rules, in a directory.
///
/// It needs no root and no configuration of the system, listens on a UNIX socket (and on 127.0.0.1 where that is asked
/// for), and several of them run side by side. It is for demonstrations, tests and measurements, not for operation.
///
/// Diagnostics: every failure is a ``SandboxError``; when the server does not come up, it holds the end of the server's
/// own log, and what was started has been stopped again.
package final class LDAPSandbox: Sendable {
    /// The directory: absolute, without symbolic links.
    package let directory: FilePath
    /// Where the server listens: `ldapi://` with the socket's path.
    package var uri: String { addresses.uri }
    /// `ldap://127.0.0.1:PORT`, where ``SandboxOptions/loopbackPort`` asked for it.
    package var loopbackURI: String? { addresses.loopbackURI }
    /// `ldaps://127.0.0.1:PORT`, where ``SandboxOptions/loopbackTLSPort`` asked for it.
    package var loopbackTLSURI: String? { addresses.loopbackTLSURI }
    /// The certificate authority that signed the server's certificate, in PEM; there only with ``SandboxOptions/tls``.
    package var caFile: FilePath { files.caCertificate }
    /// slapd's messages.
    package var logFile: FilePath { files.log }

    /// ``SandboxTree/managerDN``.
    package var adminDN: String { SandboxTree.managerDN }
    /// The Manager's random password.
    package var adminPassword: String { passwords.manager }
    /// The file that holds nothing but the Manager's password and can be read by its owner only.
    package var adminPasswordFile: FilePath { files.passwordFile("manager") }
    /// ``SandboxTree/daemonDN``. It can log in where the example tree has been loaded.
    package var daemonDN: String { SandboxTree.daemonDN }
    /// The daemon's random password.
    package var daemonPassword: String { passwords.daemon }
    /// The file that holds nothing but the daemon's password and can be read by its owner only.
    package var daemonPasswordFile: FilePath { files.passwordFile("daemon") }
    /// ``SandboxTree/selfcareDN``. It can log in where the example tree has been loaded.
    package var selfcareDN: String { SandboxTree.selfcareDN }
    /// The random password of what writes the wishes.
    package var selfcarePassword: String { passwords.selfcare }

    /// The server's process id; it changes with ``restart()``.
    package var processID: Int32 { running.withLock { $0.process.id } }
    /// Whether the server's process runs, paused or not.
    package var isRunning: Bool { running.withLock { $0.process }.isRunning }

    let files: SandboxFiles
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
        files: SandboxFiles, addresses: SandboxAddresses, passwords: SandboxPasswords, startTimeout: Duration,
        running: consuming sending Running
    ) {
        self.files = files
        self.directory = files.path
        self.addresses = addresses
        self.passwords = passwords
        self.startTimeout = startTimeout
        self.running = Mutex(running)
    }

    // MARK: Starting

    /// Starts a server in a directory, and returns when it answers.
    ///
    /// A directory that is not there is made; one that holds a sandbox's data is started again on it, with the options
    /// given now and the passwords it has.
    ///
    /// - Throws: ``SandboxError``, with code `alreadyRunning` where a server runs in the directory, `portInUse` where another
    ///   program has the port, `directory` where the directory holds other files.
    package static func start(
        in directory: FilePath, options: SandboxOptions = SandboxOptions()
    ) async throws(SandboxError) -> LDAPSandbox {
        let pieces = try SandboxPieces(at: options.pieces)
        _ = try SlapdLauncher.program("slapd")
        let files = try SandboxFiles.make(at: directory)
        let lock = try SandboxLock(files.lock)
        defer { lock.release() }
        if let process = try SlapdProcess.running(in: files) {
            throw SandboxError(
                .alreadyRunning, "a sandbox runs in \(files.path) already, process \(process.id)",
                hint: "use it, or stop it first")
        }
        try files.mark()
        if files.hasData {
            return try await start(files, passwords: try SandboxPasswords(readingFrom: files), pieces, options)
        }
        do {
            let passwords = try SandboxPasswords.make(in: files)
            return try await start(files, passwords: passwords, fillingFirst: true, pieces, options)
        } catch {
            // Nothing is lost with a directory that has never answered, and half of one would be in the way next time.
            try files.remove()
            throw error
        }
    }

    private static func start(
        _ files: SandboxFiles, passwords: SandboxPasswords, fillingFirst: Bool = false, _ pieces: SandboxPieces,
        _ options: SandboxOptions
    ) async throws(SandboxError) -> LDAPSandbox {
        if options.wantsTLS { try await SandboxCertificates.make(in: files) }
        let configuration = SlapdConfiguration(
            pieces: pieces, files: files, managerPassword: passwords.manager, options: options)
        try TextFile.write(try configuration.text(), to: files.configuration)
        if fillingFirst { try await fill(files, pieces: pieces, passwords: passwords, options: options) }
        var attempt = 1
        while true {
            let addresses = try SandboxAddresses(socket: try files.socketPath(), options: options)
            try TextFile.write(addresses.text, to: files.addresses)
            do throws(SandboxError) {
                let running = try await launch(
                    files, addresses: addresses, lifeline: options.endsWithParent ? try Lifeline() : nil,
                    timeout: options.startTimeout)
                return LDAPSandbox(
                    files: files, addresses: addresses, passwords: passwords, startTimeout: options.startTimeout,
                    running: running)
            } catch {
                // A port that was free a moment ago may be another program's by now: then another is chosen.
                guard error.code == .portInUse, options.choosesPort, attempt < 5 else { throw error }
                attempt += 1
            }
        }
    }

    /// The sandbox that runs in a directory, started by this or by another process.
    ///
    /// - Throws: ``SandboxError/Code/notRunning`` where none does.
    package static func running(in directory: FilePath) throws(SandboxError) -> LDAPSandbox {
        let files = try SandboxFiles(existing: directory)
        guard try files.isSandbox(), let process = try SlapdProcess.running(in: files),
            let addresses = SandboxAddresses(text: try TextFile.read(files.addresses))
        else {
            throw SandboxError(.notRunning, "no sandbox runs in \(files.path)", hint: "start one")
        }
        return LDAPSandbox(
            files: files, addresses: addresses, passwords: try SandboxPasswords(readingFrom: files),
            startTimeout: SandboxOptions().startTimeout, running: Running(process: process, lifeline: nil))
    }

    /// Makes the empty database and loads the tree.
    private static func fill(
        _ files: SandboxFiles, pieces: SandboxPieces, passwords: SandboxPasswords, options: SandboxOptions
    ) async throws(SandboxError) {
        try files.removeData()
        try SandboxFiles.makeDirectory(files.data)
        guard options.loadExampleTree else { return }
        let tree = try SandboxTree.text(
            try TextFile.read(pieces.file("example-tree.ldif")),
            passwords: [SandboxTree.daemonDN: passwords.daemon, SandboxTree.selfcareDN: passwords.selfcare])
        try TextFile.write(tree, to: files.tree)
        try await SlapdLauncher.run("slapadd", ["-q", "-f", files.configuration.string, "-l", files.tree.string])
        try files.removeTree()
    }

    /// Starts slapd and waits until it answers; stops it again where it does not.
    private static func launch(
        _ files: SandboxFiles, addresses: SandboxAddresses, lifeline: Lifeline?, timeout: Duration
    ) async throws(SandboxError) -> Running {
        let launcher = SlapdLauncher(files: files)
        try TextFile.write("", to: files.log)
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

    /// Ends the server and removes what the sandbox has made: its files, and the directory where nothing else is in it.
    ///
    /// - Parameter keepingData: leaves the directory as it is, to be started again later.
    package func stop(keepingData: Bool = false) async throws(SandboxError) {
        try await running.withLock { $0.process }.end()
        running.withLock { $0.lifeline = nil }
        if !keepingData { try files.remove() }
    }

    // MARK: Faults

    /// Ends the server without asking it (SIGKILL), as a crash does, and returns when it is gone.
    package func kill() async throws(SandboxError) {
        try await running.withLock { $0.process }.end(force: true)
    }

    /// Makes the server hang (SIGSTOP): connections stay, nothing answers.
    package func pause() { running.withLock { $0.process }.signal(SIGSTOP) }

    /// Lets a paused server go on (SIGCONT).
    package func resume() { running.withLock { $0.process }.signal(SIGCONT) }

    /// Ends the server, where it runs, and starts it again on the same data, addresses and passwords.
    package func restart() async throws(SandboxError) {
        try await running.withLock { $0.process }.end()
        let lifeline = running.withLock { $0.lifeline } == nil ? nil : try Lifeline()
        let started = try await Self.launch(files, addresses: addresses, lifeline: lifeline, timeout: startTimeout)
        running.withLock { $0 = started }
    }
}
