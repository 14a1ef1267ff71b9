import Glibc
import SystemPackage

/// The files of one sandbox, and what is done with them. Only files that a sandbox makes are ever removed.
struct SandboxFiles: Sendable {
    /// First line of the configuration, by which a directory is known to be a sandbox's.
    static let headline = "# The private directory server of a sandbox. Made anew at each start: do not change it."
    /// The longest path that the address of a UNIX socket holds, in bytes (`sun_path` less its final NUL).
    static let longestSocketPath = 107

    /// The directory itself: absolute and without symbolic links, so that a process can be recognised by it.
    let path: FilePath

    var configuration: FilePath { path.appending("slapd.conf") }
    var pidFile: FilePath { path.appending("slapd.pid") }
    var log: FilePath { path.appending("slapd.log") }
    var lock: FilePath { path.appending("lock") }
    /// The tree with its passwords, while it is being loaded.
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

    /// Makes the directory, private to its owner, or takes one that is empty or a sandbox's already.
    ///
    /// - Throws: ``SandboxError/Code/directory`` where it holds anything else.
    static func make(at directory: FilePath) throws(SandboxError) -> SandboxFiles {
        try makeDirectory(directory)
        let files = try SandboxFiles(existing: directory)
        guard try files.isSandbox() ? true : files.isEmpty() else {
            throw SandboxError(
                .directory, "the directory \(files.path) holds other files", hint: "name an empty or a new directory")
        }
        guard chmod(files.path.string, 0o700) == 0 else {
            throw failure("cannot make the directory \(files.path) private", errno)
        }
        return files
    }

    /// Makes the directory known as a sandbox's, before anything else is written into it.
    func mark() throws(SandboxError) {
        if try !isSandbox() { try TextFile.write(Self.headline + "\n", to: configuration) }
    }

    /// Whether the directory has been made by a sandbox.
    func isSandbox() throws(SandboxError) -> Bool {
        try TextFile.readIfThere(configuration)?.hasPrefix(Self.headline) ?? false
    }

    /// Whether the directory has been filled to the end: the addresses are written after that.
    var hasData: Bool { access(addresses.string, F_OK) == 0 }

    /// A directory and those above it, each private where it is made.
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

    /// Where the server's socket lies: in the directory, or, where the address would be too long, in a short private
    /// directory of its own under the temporary directory.
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

    /// Makes a new directory with a name that no other has, private to its owner.
    static func makeUnique(in parent: FilePath) throws(SandboxError) -> FilePath {
        var name = Array(parent.appending(uniqueTemplate).string.utf8CString)
        guard mkdtemp(&name) != nil else { throw failure("cannot make a directory in \(parent)", errno) }
        return FilePath(String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }

    /// Removes everything that a sandbox has made, and the directory itself where nothing else is in it.
    func remove() throws(SandboxError) {
        try removeShortSocketDirectory()
        try removeData()
        try Self.removeFiles(in: certificates) { $0.hasSuffix(".crt") || $0.hasSuffix(".key") }
        for file in [pidFile, log, addresses, tree, path.appending("ldapi")] { try Self.removeFile(file) }
        for who in SandboxPasswords.names { try Self.removeFile(passwordFile(who)) }
        // The configuration last but one: while it stands, the directory is known to be a sandbox's and can be removed again.
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

    /// Whether the directory holds nothing, or nothing yet but the lock of a start that is under way.
    private func isEmpty() throws(SandboxError) -> Bool {
        try Self.names(in: path).allSatisfy { $0 == lock.lastComponent?.string }
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

    /// The names in a directory; none where it is not there.
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
