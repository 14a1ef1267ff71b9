import Glibc
import SystemPackage

/// The files of a sandbox. Only files that a sandbox has made are removed.
struct SandboxFiles: Sendable {
    /// The first line of the configuration, which marks a directory as a sandbox's.
    static let headline = mark + " It is written at each start: do not change it."
    /// Existing sandboxes carry it, so it must not change.
    private static let mark = "# The private directory server of a sandbox."
    /// The longest path of a UNIX socket, in bytes (`sun_path` without the NUL).
    static let longestSocketPath = 107

    /// Absolute and without symbolic links, so that it identifies the sandbox's process.
    let path: FilePath

    var configuration: FilePath { path.appending("slapd.conf") }
    var pidFile: FilePath { path.appending("slapd.pid") }
    var log: FilePath { path.appending("slapd.log") }
    var lock: FilePath { path.appending("lock") }
    /// The tree with its passwords, while it is loaded.
    var tree: FilePath { path.appending("tree.ldif") }
    var data: FilePath { path.appending("data") }
    var addresses: FilePath { path.appending("addresses") }
    var certificates: FilePath { path.appending("tls") }
    var caCertificate: FilePath { certificates.appending("ca.crt") }
    var caKey: FilePath { certificates.appending("ca.key") }
    var serverCertificate: FilePath { certificates.appending("server.crt") }
    var serverKey: FilePath { certificates.appending("server.key") }
    var shortSocketDirectory: FilePath { path.appending("socket-directory") }

    func passwordFile(_ who: String) -> FilePath { path.appending("\(who).password") }

    /// The sandbox's directory at a path that exists.
    init(existing directory: FilePath) throws(SandboxError) {
        guard let resolved = realpath(directory.string, nil) else {
            throw Self.failure("cannot use the directory \(directory)", errno)
        }
        defer { free(resolved) }
        path = FilePath(platformString: resolved)
    }

    /// Makes the directory with mode 0700, or uses one that is empty or a sandbox's.
    /// - Throws: ``SandboxError/Code/directory`` if it holds other files.
    static func make(at directory: FilePath) throws(SandboxError) -> SandboxFiles {
        try makeDirectory(directory)
        let files = try SandboxFiles(existing: directory)
        // In this order: another process may be making a sandbox there.
        guard try files.isEmpty() ? true : files.isSandbox() else {
            throw SandboxError(
                .directory, "the directory \(files.path) holds other files", hint: "name an empty or a new directory")
        }
        guard chmod(files.path.string, 0o700) == 0 else {
            throw failure("cannot make the directory \(files.path) private", errno)
        }
        return files
    }

    /// Marks the directory as a sandbox's, before anything else is written into it.
    func mark() throws(SandboxError) {
        if try !isSandbox() { try TextFile.write(Self.headline + "\n", to: configuration) }
    }

    /// Whether the directory is a sandbox's.
    func isSandbox() throws(SandboxError) -> Bool {
        try TextFile.readIfThere(configuration)?.hasPrefix(Self.mark) ?? false
    }

    /// Whether the database was filled completely; the addresses are written after that.
    var hasData: Bool { access(addresses.string, F_OK) == 0 }

    /// Makes a directory and those above it, with mode 0700.
    static func makeDirectory(_ directory: FilePath) throws(SandboxError) {
        if mkdir(directory.string, 0o700) == 0 { return }
        var number = errno
        if number == ENOENT, let parent = Optional(directory.removingLastComponent()), !parent.isEmpty {
            try makeDirectory(parent)
            if mkdir(directory.string, 0o700) == 0 { return }
            number = errno
        }
        var status = stat()
        if number == EEXIST, stat(directory.string, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { return }
        throw failure("cannot make the directory \(directory)", number)
    }

    /// The path of the server's socket: in the directory, or if that is too long, in a private directory below the temporary directory.
    func socketPath() throws(SandboxError) -> FilePath {
        let near = path.appending("ldapi")
        if near.length <= Self.longestSocketPath { return near }
        try removeShortSocketDirectory()
        let temporary = getenv("TMPDIR").map { FilePath(platformString: $0) }
        for parent in [temporary, "/tmp"].compactMap({ $0 }) {
            guard parent.appending(Self.uniqueTemplate).appending("ldapi").length <= Self.longestSocketPath else {
                continue
            }
            let short = try Self.makeUnique(in: parent)
            try TextFile.write("\(short)\n", to: shortSocketDirectory)
            return short.appending("ldapi")
        }
        throw SandboxError(
            .directory,
            "the socket \(near) has \(near.length) bytes, the system allows \(Self.longestSocketPath), and neither "
                + "TMPDIR nor /tmp takes a shorter one",
            hint: "name a directory with a shorter path")
    }

    private static let uniqueTemplate = "prov-sandbox-XXXXXX"

    /// Makes a new directory with a unique name and mode 0700.
    static func makeUnique(in parent: FilePath) throws(SandboxError) -> FilePath {
        var name = Array(parent.appending(uniqueTemplate).string.utf8CString)
        guard mkdtemp(&name) != nil else { throw failure("cannot make a directory in \(parent)", errno) }
        return FilePath(String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }

    /// Removes the sandbox's files, and the directory if it is empty then.
    func remove() throws(SandboxError) {
        try removeShortSocketDirectory()
        try removeData()
        try Self.removeFiles(in: certificates) { $0.hasSuffix(".crt") || $0.hasSuffix(".key") }
        for file in [pidFile, log, addresses, tree, path.appending("ldapi")] { try Self.removeFile(file) }
        for who in SandboxPasswords.names { try Self.removeFile(passwordFile(who)) }
        // Last but one: while the configuration exists, the directory is marked and the removal can be repeated.
        try Self.removeFile(configuration)
        try Self.removeFile(lock)
        if rmdir(path.string) != 0, errno != ENOTEMPTY, errno != EEXIST, errno != ENOENT {
            throw Self.failure("cannot remove the directory \(path)", errno)
        }
    }

    func removeTree() throws(SandboxError) { try Self.removeFile(tree) }

    /// Removes the database.
    func removeData() throws(SandboxError) {
        try Self.removeFiles(in: data) { $0 == "data.mdb" || $0 == "lock.mdb" }
    }

    private func removeShortSocketDirectory() throws(SandboxError) {
        guard access(shortSocketDirectory.string, F_OK) == 0 else { return }
        let line = try TextFile.read(shortSocketDirectory).split(separator: "\n").first ?? ""
        let short = FilePath(String(line))
        if short.lastComponent?.string.hasPrefix("prov-sandbox-") == true {
            try Self.removeFiles(in: short) { $0 == "ldapi" }
        }
        try Self.removeFile(shortSocketDirectory)
    }

    /// Whether the directory is empty, except for the lock of the current start.
    /// Whether it has no files but those that are there before the first ``mark()``.
    private func isEmpty() throws(SandboxError) -> Bool {
        try Self.names(in: path).allSatisfy { name in
            var status = stat()
            return name == lock.lastComponent?.string
                || name == configuration.lastComponent?.string
                    && stat(configuration.string, &status) == 0 && status.st_size == 0
        }
    }

    private static func removeFiles(in directory: FilePath, where ours: (String) -> Bool) throws(SandboxError) {
        for name in try names(in: directory) where ours(name) { try removeFile(directory.appending(name)) }
        if rmdir(directory.string) != 0, errno != ENOENT, errno != ENOTEMPTY, errno != EEXIST {
            throw failure("cannot remove the directory \(directory)", errno)
        }
    }

    private static func removeFile(_ file: FilePath) throws(SandboxError) {
        if unlink(file.string) != 0, errno != ENOENT { throw failure("cannot remove \(file)", errno) }
    }

    /// The names in a directory; empty if it does not exist.
    private static func names(in directory: FilePath) throws(SandboxError) -> [String] {
        guard let handle = opendir(directory.string) else {
            if errno == ENOENT { return [] }
            throw failure("cannot read the directory \(directory)", errno)
        }
        defer { closedir(handle) }
        var names: [String] = []
        while let entry = readdir(handle) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    static func failure(_ reason: String, _ number: Int32) -> SandboxError {
        SandboxError(
            .directory, "\(reason): \(String(cString: strerror(number)))",
            hint: "name a directory in which this user may write")
    }
}

/// The random passwords of a sandbox, made with its data, each in a file of mode 0600.
struct SandboxPasswords: Sendable {
    static let names = ["manager", "daemon", "selfcare"]

    let manager: String
    let daemon: String
    let selfcare: String

    static func make(in files: SandboxFiles) throws(SandboxError) -> SandboxPasswords {
        for name in names { try TextFile.write(random() + "\n", to: files.passwordFile(name)) }
        return try SandboxPasswords(readingFrom: files)
    }

    init(readingFrom files: SandboxFiles) throws(SandboxError) {
        manager = try Self.line(of: files.passwordFile("manager"))
        daemon = try Self.line(of: files.passwordFile("daemon"))
        selfcare = try Self.line(of: files.passwordFile("selfcare"))
    }

    private static func line(of file: FilePath) throws(SandboxError) -> String {
        guard let line = try TextFile.read(file).split(separator: "\n").first else {
            throw SandboxError(.directory, "\(file) is empty", hint: "stop the sandbox and start it in a new directory")
        }
        return String(line)
    }

    private static func random() -> String {
        let alphabet = Array("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789")
        var generator = SystemRandomNumberGenerator()
        return String((0..<24).compactMap { _ in alphabet.randomElement(using: &generator) })
    }
}

/// The addresses of a sandbox's server.
struct SandboxAddresses: Sendable, Hashable {
    let socket: FilePath
    let port: Int?
    let tlsPort: Int?

    init(socket: FilePath, port: Int?, tlsPort: Int?) {
        self.socket = socket
        self.port = port
        self.tlsPort = tlsPort
    }

    /// Chooses free ports if the options ask for them.
    init(socket: FilePath, options: SandboxOptions) throws(SandboxError) {
        self.init(
            socket: socket, port: try Self.port(options.loopbackPort, "loopbackPort"),
            tlsPort: try Self.port(options.loopbackTLSPort, "loopbackTLSPort"))
    }

    private static func port(_ wanted: Int?, _ option: String) throws(SandboxError) -> Int? {
        guard let wanted else { return nil }
        if wanted == 0 { return try ServerProbe.freePort() }
        guard 1...65535 ~= wanted else {
            throw SandboxError(
                .option, "\(option) is \(wanted), which is no TCP port", hint: "use 1 to 65535, or 0 for a free one")
        }
        return wanted
    }

    var uri: String { "ldapi://" + Self.percentEncoded(socket.string) }
    var loopbackURI: String? { port.map { "ldap://127.0.0.1:\($0)" } }
    var loopbackTLSURI: String? { tlsPort.map { "ldaps://127.0.0.1:\($0)" } }
    var all: [String] { [uri, loopbackURI, loopbackTLSURI].compactMap { $0 } }

    /// The text of the sandbox's file of addresses: one `key value` a line.
    var text: String {
        var lines = ["socket \(socket)"]
        if let port { lines.append("port \(port)") }
        if let tlsPort { lines.append("tlsPort \(tlsPort)") }
        return lines.joined(separator: "\n") + "\n"
    }

    /// - Returns: nil for any other text than that of ``text``.
    init?(text: String) {
        var values: [Substring: Substring] = [:]
        for line in text.split(separator: "\n") {
            guard let blank = line.firstIndex(of: " ") else { return nil }
            values[line[..<blank]] = line[line.index(after: blank)...]
        }
        guard let socket = values["socket"] else { return nil }
        self.init(
            socket: FilePath(String(socket)), port: values["port"].flatMap { Int($0) },
            tlsPort: values["tlsPort"].flatMap { Int($0) })
    }

    /// A path as the host of an `ldapi://` URI: everything but unreserved characters escaped (RFC 3986 section 2.3).
    private static func percentEncoded(_ path: String) -> String {
        let digits = Array("0123456789ABCDEF")
        var text = ""
        for byte in path.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                text.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                text += "%"
                text.append(digits[Int(byte >> 4)])
                text.append(digits[Int(byte & 15)])
            }
        }
        return text
    }
}

/// Prevents two concurrent starts in one directory. The kernel releases it when the process ends.
struct SandboxLock {
    private let descriptor: Int32

    init(_ file: FilePath) throws(SandboxError) {
        descriptor = open(file.string, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SandboxFiles.failure("cannot make \(file)", errno) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw SandboxError(
                .alreadyRunning, "another process is starting a sandbox in \(file.removingLastComponent())",
                hint: "wait until it runs and use it")
        }
    }

    func release() {
        // close(2) is not enough: a child that is being started has a copy of the descriptor until its exec.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }
}

/// Small files of mode 0600.
enum TextFile {
    static func read(_ path: FilePath) throws(SandboxError) -> String {
        if let text = try readIfThere(path) { return text }
        throw SandboxError(.directory, "there is no \(path)", hint: "stop the sandbox and start it in a new directory")
    }

    /// nil if the file does not exist or, below /proc, if its process has ended.
    static func readIfThere(_ path: FilePath) throws(SandboxError) -> String? {
        do {
            let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
            return try file.closeAfter {
                var bytes: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 65536)
                while true {
                    let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
                    if count == 0 { return String(decoding: bytes, as: UTF8.self) }
                    bytes += buffer[..<count]
                }
            }
        } catch {
            if let number = error as? Errno, [.noSuchFileOrDirectory, .noSuchProcess].contains(number) { return nil }
            throw SandboxError(.directory, "cannot read \(path): \(error)", hint: "check its owner and mode")
        }
    }

    /// A reader always finds the beginning of one of the texts, so that a sandbox is always known by its mark.
    static func write(_ text: String, to path: FilePath) throws(SandboxError) {
        do {
            let file = try FileDescriptor.open(
                path, .writeOnly, options: [.create, .closeOnExec], permissions: .ownerReadWrite)
            try file.closeAfter {
                let count = try file.writeAll(Array(text.utf8))
                try file.resize(to: Int64(count))
            }
        } catch {
            throw SandboxError(
                .directory, "cannot write \(path): \(error)", hint: "name a directory in which this user may write")
        }
    }
}
