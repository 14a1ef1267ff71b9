import EventLoop
import Glibc
import SystemPackage

/// Starts slapd and its tools.
struct SlapdLauncher: Sendable {
    /// Searched for slapd and slapadd, since the PATH of many users lacks them.
    private static let programDirectories: [FilePath] = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"]
    /// LDAPNOINIT: slapd uses libldap, which must not read an `ldaprc` (ldap.conf(5)).
    private static let environment = [
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "LDAPNOINIT": "1",
    ]

    let files: SandboxFiles

    /// - Throws: ``SandboxError/Code/missingProgram`` with the package to install.
    static func program(_ name: String) throws(SandboxError) -> FilePath {
        for directory in programDirectories where access(directory.appending(name).string, X_OK) == 0 {
            return directory.appending(name)
        }
        let package = name == "openssl" ? "openssl" : "slapd"
        throw SandboxError(
            .missingProgram, "the program \(name) is missing", hint: "run bin/setup, or apt-get install \(package)")
    }

    /// Runs a tool to its end.
    /// - Throws: ``SandboxError/Code/serverFailed`` with its output, unless it exits with 0.
    static func run(_ name: String, _ arguments: [String]) async throws(SandboxError) {
        let program = try program(name)
        let outcome: ChildProcess.Outcome
        do {
            outcome = try await ChildProcess.run(
                ChildProcess.Program(program, arguments, environment: environment, in: "."), keeping: 1 << 20)
        } catch {
            throw SandboxError(.serverFailed, "cannot run \(program): \(error)", hint: "run bin/setup --check")
        }
        guard outcome.termination == .exited(code: 0) else {
            let said = lastLines(of: String(decoding: outcome.error, as: UTF8.self))
            throw SandboxError(
                .serverFailed, "\(name) failed (\(outcome.termination)): \(said)", hint: "see what it says")
        }
    }

    /// Starts slapd in its own session, so that it gets no signals of a terminal and outlives this process, unless it is tied to a lifeline.
    /// - Returns: the process, which may have ended already.
    func start(listeningOn uris: [String], lifeline: Lifeline?) async throws(SandboxError) -> SlapdProcess {
        let arguments =
            ["-c", lifeline == nil ? Self.detached : Self.tied, "slapd-of-sandbox", files.log.string]
            + [try Self.program("slapd").string, "-d", "none", "-f", files.configuration.string]
            + ["-h", uris.joined(separator: " ")]
        let output: String
        do {
            let outcome = try await ChildProcess.run(
                ChildProcess.Program("/bin/sh", arguments, environment: Self.environment),
                input: lifeline.map { .file($0.reader) } ?? .empty, keeping: 4096)
            output = String(decoding: outcome.output, as: UTF8.self)
        } catch {
            throw SandboxError(.serverFailed, "cannot start slapd: \(error)", hint: "run bin/setup --check")
        }
        guard let id = Int32(output.filter { !$0.isWhitespace }) else {
            throw SandboxError(.serverFailed, "cannot start slapd: \(lastWords)", hint: "run bin/setup --check")
        }
        return SlapdProcess(id: id, configuration: files.configuration)
    }

    /// The end of slapd's log.
    var lastWords: String {
        guard let text = try? TextFile.read(files.log), !text.isEmpty else { return "there was no output" }
        return Self.lastLines(of: text)
    }

    private static func lastLines(of text: String) -> String {
        let lines = text.split(separator: "\n").suffix(8).map { line in
            // Lines begin with the time and the thread: 6b010fa2.06331457 0x7fbfca9a3200
            let words = line.split(separator: " ", maxSplits: 2)
            return words.count == 3 && words[1].hasPrefix("0x") ? String(words[2]) : String(line)
        }
        return lines.joined(separator: "\n")
    }

    /// slapd allocates memory for as many connections as it may have open files: gigabytes if that is unlimited.
    private static let limit = "ulimit -n 4096 2>/dev/null; log=$1; shift; "

    /// `sh -c … slapd-of-sandbox LOG PROGRAM ARGUMENT…`: writes the process id.
    private static let detached = limit + #""$@" </dev/null >>"$log" 2>&1 & echo $!"#

    /// The same, with a shell that remains as the parent: it reads the lifeline until all writers are gone, and then kills slapd. Since only it reaps
    /// slapd, the process id cannot be reused before. The outer shell waits for the id before it ends.
    private static let tied =
        limit + #"""
            exec 3<&0 </dev/null
            id=$(
                (
                    "$@" 3<&- >>"$log" 2>&1 &
                    slapd=$!
                    echo $slapd
                    exec >/dev/null 2>&1
                    read -r _ <&3
                    kill -KILL $slapd
                    wait $slapd
                ) &
            )
            echo $id
            """#
}

/// A running slapd of this sandbox, identified by the configuration on its command line. That is checked before every signal, since process ids
/// are reused.
struct SlapdProcess: Sendable, Hashable {
    let id: Int32
    let configuration: FilePath

    /// The process of the directory's pid file; nil if that is stale.
    static func running(in files: SandboxFiles) throws(SandboxError) -> SlapdProcess? {
        guard let text = try TextFile.readIfThere(files.pidFile), let id = Int32(text.filter { !$0.isWhitespace })
        else { return nil }
        let process = SlapdProcess(id: id, configuration: files.configuration)
        return process.isRunning ? process : nil
    }

    /// Whether the process runs and is the sandbox's. A zombie does not run.
    var isRunning: Bool {
        guard id > 0, let words = try? TextFile.read(FilePath("/proc/\(id)/cmdline")) else { return false }
        return words.split(separator: "\0").contains { $0 == configuration.string } && !hasEnded
    }

    /// Whether the process has ended. During a start, when the command line is still empty, only this tells whether it has failed.
    var hasEnded: Bool { [nil, "Z", "X"].contains(state) }

    /// Whether the process is stopped (SIGSTOP).
    var isPaused: Bool { state == "T" }

    /// The letter of proc(5): R, S, D, T, Z, …; nil: there is no such process.
    private var state: Character? {
        guard let line = try? TextFile.read(FilePath("/proc/\(id)/stat")) else { return nil }
        // The name in parentheses may contain parentheses and blanks; the state follows the last one.
        return line.split(separator: ")").last?.first { $0 != " " }
    }

    /// Sends a signal, if the process still runs and is the sandbox's.
    func signal(_ number: Int32) { if isRunning { Glibc.kill(id, number) } }

    /// Waits until a condition holds, even in a cancelled task, which must still end its processes.
    /// - Returns: whether it held in time.
    static func wait(upTo timeout: Duration, until condition: () async -> Bool) async -> Bool {
        let deadline = ContinuousClock.now + timeout
        while true {
            if await condition() { return true }
            if ContinuousClock.now >= deadline { return false }
            await Task<Void, Never> { try? await Task.sleep(for: .milliseconds(5)) }.value
        }
    }

    /// Ends the process: SIGTERM, then SIGKILL.
    func end(force: Bool = false) async throws(SandboxError) {
        if !force {
            signal(SIGTERM)
            // A paused server does not handle SIGTERM.
            signal(SIGCONT)
            if await Self.wait(upTo: .seconds(10), until: { !isRunning }) { return }
        }
        signal(SIGKILL)
        guard await Self.wait(upTo: .seconds(10), until: { !isRunning }) else {
            throw SandboxError(
                .timeout, "slapd, process \(id), does not end", hint: "see with ps what the process waits for")
        }
    }
}

/// A pipe whose write end only this process holds: the reader gets end of file when this value or this process is gone.
final class Lifeline: Sendable {
    let reader: FileDescriptor
    private let writer: FileDescriptor

    init() throws(SandboxError) {
        do {
            (reader, writer) = try FileDescriptor.pipe(options: .closeOnExec)
        } catch {
            throw SandboxError(.serverFailed, "cannot make a pipe: \(error)", hint: "allow more open files (ulimit -n)")
        }
    }

    deinit {
        for end in [reader, writer] {
            do {
                try end.close()
            } catch {
                // close(2) of a pipe fails only for an invalid descriptor.
                assertionFailure("a lifeline cannot be closed: \(error)")
            }
        }
    }
}

/// Checks whether a server on a UNIX socket answers, by an anonymous bind (RFC 4511, section 4.2).
enum ServerProbe {
    /// Message 1, bind request, version 3, no name, no password.
    private static let bindRequest: [UInt8] = [
        0x30, 0x0c, 0x02, 0x01, 0x01, 0x60, 0x07, 0x02, 0x01, 0x03, 0x04, 0x00, 0x80, 0x00,
    ]

    /// Whether the server answers within 200 ms.
    static func answers(at path: FilePath) -> Bool {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var timeout = timeval(tv_sec: 0, tv_usec: 200_000)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, size)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &timeout, size)
        guard connect(descriptor, to: path) else { return false }
        let sent = send(descriptor, bindRequest, bindRequest.count, Int32(MSG_NOSIGNAL))
        guard sent == bindRequest.count else { return false }
        var answer: UInt8 = 0
        return recv(descriptor, &answer, 1, 0) == 1 && answer == 0x30
    }

    /// A free TCP port on 127.0.0.1.
    static func freePort() throws(SandboxError) -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, size) == 0 && getsockname(descriptor, $0, &size) == 0
            }
        }
        guard bound else { throw SandboxFiles.failure("no free port on 127.0.0.1", errno) }
        return Int(UInt16(bigEndian: address.sin_port))
    }

    private static func connect(_ descriptor: Int32, to path: FilePath) -> Bool {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.string.utf8)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { room in
            guard bytes.count < room.count else { return false }
            room.copyBytes(from: bytes)
            return true
        }
        guard fits else { return false }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, size) == 0 }
        }
    }
}

/// Makes a certificate authority and a server certificate for this machine and 127.0.0.1, with openssl.
enum SandboxCertificates {
    private static let newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365"]

    /// Makes the files unless they exist.
    static func make(in files: SandboxFiles) async throws(SandboxError) {
        if access(files.serverCertificate.string, F_OK) == 0 { return }
        try SandboxFiles.makeDirectory(files.certificates)
        try await SlapdLauncher.run(
            "openssl",
            ["req", "-x509"] + newKey + [
                "-subj", "/CN=Authority of a sandbox", "-keyout", files.caKey.string,
                "-out", files.caCertificate.string,
            ])
        let names = (["IP:127.0.0.1"] + hostNames().map { "DNS:" + $0 }).joined(separator: ",")
        try await SlapdLauncher.run(
            "openssl",
            ["req", "-x509"] + newKey + [
                "-CA", files.caCertificate.string, "-CAkey", files.caKey.string, "-subj", "/CN=localhost",
                "-addext", "subjectAltName=\(names)", "-addext", "basicConstraints=critical,CA:FALSE",
                "-keyout", files.serverKey.string, "-out", files.serverCertificate.string,
            ])
    }

    /// The names of this machine: libldap replaces `localhost` by the full one when it checks a certificate.
    private static func hostNames() -> [String] {
        var names = ["localhost"]
        var bytes = [CChar](repeating: 0, count: 256)
        guard gethostname(&bytes, bytes.count - 1) == 0 else { return names }
        let short = String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        names.append(short)
        var hints = addrinfo()
        hints.ai_flags = AI_CANONNAME
        var found: UnsafeMutablePointer<addrinfo>?
        if getaddrinfo(short, nil, &hints, &found) == 0, let found {
            if let full = found.pointee.ai_canonname { names.append(String(cString: full)) }
            freeaddrinfo(found)
        }
        return names.filter { name in
            !name.isEmpty
                && name.utf8.allSatisfy {
                    $0 == 0x2d || $0 == 0x2e || Character(Unicode.Scalar($0)).isLetter
                        || Character(Unicode.Scalar($0)).isNumber
                }
        }
    }
}
