import FoundationEssentials
import Glibc
import Synchronization
package import SystemPackage

/// A private LDAP server: slapd with the shipped schema, indexes, limits and access rules, in a directory.
///
/// It needs neither root nor a configuration of the system, listens on a UNIX socket and optionally on 127.0.0.1, and several of them can run at
/// the same time. It is for demonstrations, tests and benchmarks, not for production.
///
/// Errors: ``SandboxError``. If the server does not start, it contains the end of the server's log, and the process has been ended.
package final class LDAPSandbox: Sendable {
    /// The directory: absolute, without symbolic links.
    package let directory: FilePath
    /// `ldapi://` with the socket's path.
    package var uri: String { addresses.uri }
    /// `ldap://127.0.0.1:PORT`, with ``SandboxOptions/loopbackPort``.
    package var loopbackURI: String? { addresses.loopbackURI }
    /// `ldaps://127.0.0.1:PORT`, with ``SandboxOptions/loopbackTLSPort``.
    package var loopbackTLSURI: String? { addresses.loopbackTLSURI }
    /// The certificate of the server's authority, in PEM; only with ``SandboxOptions/tls``.
    package var caFile: FilePath { files.caCertificate }

    /// ``SandboxTree/managerDN``.
    package var adminDN: String { SandboxTree.managerDN }
    /// The Manager's random password.
    package var adminPassword: String { passwords.manager }
    /// A file with only the Manager's password, of mode 0600.
    package var adminPasswordFile: FilePath { files.passwordFile("manager") }
    /// ``SandboxTree/daemonDN``. It can bind if the example tree was loaded.
    package var daemonDN: String { SandboxTree.daemonDN }
    /// The daemon's random password.
    package var daemonPassword: String { passwords.daemon }
    /// A file with only the daemon's password, of mode 0600.
    package var daemonPasswordFile: FilePath { files.passwordFile("daemon") }
    /// ``SandboxTree/selfcareDN``. It can bind if the example tree was loaded.
    package var selfcareDN: String { SandboxTree.selfcareDN }
    /// The random password of ``selfcareDN``.
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
        /// Held while the server shall run, if it ends with its parent.
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
    /// A missing directory is made; in a sandbox's directory the server is started on the existing data, with the given options and the existing
    /// passwords.
    /// - Throws: ``SandboxError``: `alreadyRunning` if a server runs in the directory, `portInUse`, `directory` if it holds other files.
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
            // A server that has never answered has no data to lose, and a partial directory would prevent the next start.
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
                // Another program may have taken the free port meanwhile: another one is chosen.
                guard error.code == .portInUse, options.choosesPort, attempt < 5 else { throw error }
                attempt += 1
            }
        }
    }

    /// The sandbox that runs in a directory, started by this or another process.
    /// - Throws: ``SandboxError/Code/notRunning``.
    package static func running(in directory: FilePath) throws(SandboxError) -> LDAPSandbox {
        let files = try SandboxFiles(existing: directory)
        guard try files.isSandbox(), let process = try SlapdProcess.running(in: files),
            let addresses = SandboxAddresses(text: try TextFile.read(files.addresses))
        else {
            throw SandboxError(
                .notRunning, "no sandbox runs in \(files.path)",
                hint: "start one: prov-backup-rsnapshot sandbox start --directory \(files.path.removingLastComponent())"
            )
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

    /// Starts slapd and waits until it answers; ends it if it does not.
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

    /// Ends the server and removes the sandbox's files, and the directory if it is empty then.
    /// - Parameter keepingData: keeps the directory unchanged for a later start.
    package func stop(keepingData: Bool = false) async throws(SandboxError) {
        try await running.withLock { $0.process }.end()
        running.withLock { $0.lifeline = nil }
        if !keepingData { try files.remove() }
    }

    /// Removes the files of a sandbox whose server does not run, and the directory if it is empty then.
    /// - Throws: ``SandboxError/Code/alreadyRunning``.
    package static func remove(stoppedIn directory: FilePath) throws(SandboxError) {
        let files = try SandboxFiles(existing: directory)
        let lock = try SandboxLock(files.lock)
        defer { lock.release() }
        if let process = try SlapdProcess.running(in: files) {
            throw SandboxError(
                .alreadyRunning, "a sandbox runs in \(files.path), process \(process.id)", hint: "stop it first")
        }
        try files.remove()
    }

    // MARK: Faults

    /// Ends the server by SIGKILL, as a crash does, and returns when it is gone.
    package func kill() async throws(SandboxError) {
        try await running.withLock { $0.process }.end(force: true)
    }

    /// Stops the server (SIGSTOP): connections stay open, nothing answers.
    package func pause() { running.withLock { $0.process }.signal(SIGSTOP) }

    /// Continues a paused server (SIGCONT).
    package func resume() { running.withLock { $0.process }.signal(SIGCONT) }

    /// Ends the server if it runs, and starts it on the same data, addresses and passwords.
    package func restart() async throws(SandboxError) {
        try await running.withLock { $0.process }.end()
        let lifeline = running.withLock { $0.lifeline } == nil ? nil : try Lifeline()
        let started = try await Self.launch(files, addresses: addresses, lifeline: lifeline, timeout: startTimeout)
        running.withLock { $0 = started }
    }
}

extension LDAPSandbox {
    /// Runs a body with a server in a new directory below the temporary directory. The server is ended and the directory removed with all files
    /// afterwards, also after an error.
    package static func temporary<Result>(
        options: SandboxOptions = .testing, _ body: (LDAPSandbox) async throws -> Result
    ) async throws -> Result {
        let parent = getenv("TMPDIR").map { FilePath(platformString: $0) } ?? "/tmp"
        let sandbox = try await start(in: try SandboxFiles.makeUnique(in: parent), options: options)
        let result: Result
        do {
            result = try await body(sandbox)
        } catch {
            try await sandbox.stopAndRemoveAll()
            throw error
        }
        try await sandbox.stopAndRemoveAll()
        return result
    }

    private func stopAndRemoveAll() async throws {
        try await stop()
        if access(directory.string, F_OK) == 0 { try FileManager.default.removeItem(atPath: directory.string) }
    }
}

/// The state of a sandbox's directory.
package enum SandboxStatus: Sendable, Hashable {
    /// No sandbox has been started in this directory, or it has been removed.
    case absent
    /// There is data, but no server runs on it. A stale pid file is ignored.
    case stopped
    case running(processID: Int32, paused: Bool, uris: [String])

    /// A process counts only if its command line names this sandbox.
    /// - Throws: ``SandboxError/Code/directory`` if the directory exists and cannot be read.
    package static func of(_ directory: FilePath) throws(SandboxError) -> SandboxStatus {
        guard access(directory.string, F_OK) == 0 else { return .absent }
        let files = try SandboxFiles(existing: directory)
        guard try files.isSandbox() else { return .absent }
        guard let process = try SlapdProcess.running(in: files) else { return .stopped }
        let addresses = SandboxAddresses(text: try TextFile.read(files.addresses))
        return .running(processID: process.id, paused: process.isPaused, uris: addresses?.all ?? [])
    }
}

/// A failure of a sandbox.
package struct SandboxError: Error, CustomStringConvertible, Sendable {
    package enum Code: Sendable, Hashable {
        /// The shipped files of etc/openldap are missing or incomplete.
        case pieces
        /// A program is missing: slapd, slapadd or openssl.
        case missingProgram
        /// The directory holds other files, or the system refuses.
        case directory
        /// A sandbox already runs in this directory.
        case alreadyRunning
        /// No sandbox runs in this directory.
        case notRunning
        /// Another program uses the port.
        case portInUse
        /// The server or one of its tools ended with an error.
        case serverFailed
        /// The server does not answer or end in time.
        case timeout
        /// An option has an invalid value.
        case option
    }

    package let code: Code
    package let reason: String
    package let hint: String

    init(_ code: Code, _ reason: String, hint: String) {
        self.code = code
        self.reason = reason
        self.hint = hint
    }

    package var description: String { "\(reason); \(hint)" }
}
