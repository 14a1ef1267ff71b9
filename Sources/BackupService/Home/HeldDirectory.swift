import CLinux
import Glibc
import SystemPackage

/// A directory held open: what is done relative to it happens in this directory, whatever becomes of its name meanwhile.
///
/// Names are resolved with openat2 so that neither a symbolic link nor `..` can lead anywhere else.
final class HeldDirectory: Sendable {
    let descriptor: Int32
    /// How it was reached, for messages.
    let path: FilePath

    /// O_PATH, which the C library's module does not show: the place is held, and nothing is read or written. Such a descriptor needs no
    /// right to read the directory itself.
    private static let pathOnly = 0o10_000_000 | O_DIRECTORY | O_CLOEXEC

    private init(descriptor: Int32, path: FilePath) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { close(descriptor) }

    /// What one call on one name said.
    struct Failure: Error, Hashable, CustomStringConvertible {
        var operation: String
        var path: FilePath
        var cause: Errno

        var description: String { "could not \(operation) \(path): \(cause)" }
    }

    /// Opens a directory by its whole path, following links: for the directories that the settings name.
    init(configured path: FilePath) throws(Failure) {
        let descriptor = open(path.string, Self.pathOnly)
        guard descriptor >= 0 else { throw Failure(operation: "open", path: path, cause: Errno(rawValue: errno)) }
        self.descriptor = descriptor
        self.path = path
    }

    /// How far an opened directory may lie from this one.
    enum Reach { case anyFileSystem, sameFileSystem }

    /// The directory of that name directly inside, or nil where there is none.
    func directory(_ name: FilePath.Component, reach: Reach = .anyFileSystem) throws(Failure) -> HeldDirectory? {
        let resolve =
            CLINUX_RESOLVE_BENEATH | CLINUX_RESOLVE_NO_SYMLINKS | CLINUX_RESOLVE_NO_MAGICLINKS
            | (reach == .sameFileSystem ? CLINUX_RESOLVE_NO_XDEV : 0)
        let (opened, cause) = call(name) {
            clinux_openat2(descriptor, $0, UInt64(Self.pathOnly), 0, resolve)
        }
        if opened >= 0 { return HeldDirectory(descriptor: opened, path: path.appending(name)) }
        if cause == .noSuchFileOrDirectory { return nil }
        throw Failure(operation: "open", path: path.appending(name), cause: cause)
    }

    /// Owner, mode, device and inode of the directory itself.
    func status() throws(Failure) -> stat {
        var status = stat()
        try check("examine", fstat(descriptor, &status))
        return status
    }

    /// Whether what is made inside gets rights from here besides those that it is made with: a group, or an access control list.
    func bequeathsRights() throws(Failure) -> Bool {
        if try status().st_mode & S_ISGID != 0 { return true }
        let answer = clinux_has_default_acl(descriptor)
        try check("look for a default ACL of", min(answer, 0))
        return answer > 0
    }

    /// Owner and kind of a name inside, links not followed; nil where there is none.
    func status(of name: FilePath.Component) throws(Failure) -> stat? {
        var status = stat()
        let (result, cause) = call(name) { fstatat(descriptor, $0, &status, AT_SYMLINK_NOFOLLOW) }
        if result == 0 { return status }
        if cause == .noSuchFileOrDirectory { return nil }
        throw Failure(operation: "examine", path: path.appending(name), cause: cause)
    }

    /// Makes a directory, or says false where the name exists already. Only its owner may do anything with it at first.
    func makeDirectory(_ name: FilePath.Component) throws(Failure) -> Bool {
        let (result, cause) = call(name) { mkdirat(descriptor, $0, 0o700) }
        if result == 0 { return true }
        if cause == .fileExists { return false }
        throw Failure(operation: "make", path: path.appending(name), cause: cause)
    }

    /// Renames without ever replacing, or says false where the new name exists already.
    func rename(_ name: FilePath.Component, into target: HeldDirectory, as newName: FilePath.Component) throws(Failure)
        -> Bool
    {
        let (result, cause) = call(name) { old in
            newName.withPlatformString { new in
                clinux_renameat2(
                    descriptor, old, target.descriptor, new, CLINUX_RENAME_NOREPLACE)
            }
        }
        if result == 0 { return true }
        if cause == .fileExists || cause == .directoryNotEmpty { return false }
        throw Failure(
            operation: "rename to \(target.path.appending(newName))", path: path.appending(name), cause: cause)
    }

    func removeFile(_ name: FilePath.Component) throws(Failure) { try remove(name, flags: 0) }
    func removeEmptyDirectory(_ name: FilePath.Component) throws(Failure) { try remove(name, flags: AT_REMOVEDIR) }

    /// A name that is gone already is no failure.
    private func remove(_ name: FilePath.Component, flags: Int32) throws(Failure) {
        let (result, cause) = call(name) { unlinkat(descriptor, $0, flags) }
        guard result != 0, cause != .noSuchFileOrDirectory else { return }
        throw Failure(operation: "remove", path: path.appending(name), cause: cause)
    }

    /// - Parameter owner: nil leaves it to whoever runs the daemon.
    func set(owner: (uid: UInt32, gid: UInt32)?, mode: UInt32) throws(Failure) {
        let readable = try reopened()
        defer { close(readable) }
        if let owner { try check("chown", fchown(readable, owner.uid, owner.gid)) }
        try check("chmod", fchmod(readable, mode))
    }

    /// Takes away the ACL by which its owner may have given rights in all that is made inside from now on, also by others (acl(5)).
    func removeDefaultACL() throws(Failure) {
        let readable = try reopened()
        defer { close(readable) }
        try check("remove the default ACL of", clinux_remove_default_acl(readable))
    }

    /// Sees to it that names made or removed in it survive a crash of the machine.
    func synchronize() throws(Failure) {
        let readable = try reopened()
        defer { close(readable) }
        try check("fsync", fsync(readable))
    }

    /// The bytes of a plain file inside; nil where there is none. Neither a link nor a pipe is opened in its place.
    /// - Throws: EFBIG for a file that is longer than `SmallFile.limit`, EINVAL for something that is not a plain file.
    func contents(of name: FilePath.Component) throws(Failure) -> [UInt8]? {
        let (opened, cause) = call(name) { openat(descriptor, $0, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) }
        if opened < 0, cause == .noSuchFileOrDirectory { return nil }
        return try explained("read", name) {
            guard opened >= 0 else { throw cause }
            let file = FileDescriptor(rawValue: opened)
            return try file.closeAfter {
                var status = stat()
                guard fstat(opened, &status) == 0 else { throw Errno(rawValue: errno) }
                guard status.st_mode & S_IFMT == S_IFREG else { throw Errno.invalidArgument }
                return try SmallFile.bytes(of: file)
            }
        }
    }

    /// Replaces a file inside, for good: a crash leaves the old bytes or the new ones. They are written to NAME.new first.
    func write(_ bytes: [UInt8], to name: FilePath.Component, mode: UInt32 = 0o600) throws(Failure) {
        let draft = FilePath.Component.named("\(name).new")
        try removeFile(draft)
        let (opened, cause) = call(draft) {
            openat(descriptor, $0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        }
        try explained("write", draft) {
            guard opened >= 0 else { throw cause }
            let file = FileDescriptor(rawValue: opened)
            try file.closeAfter {
                try file.writeAll(bytes)
                guard fchmod(opened, mode) == 0, fsync(opened) == 0 else { throw Errno(rawValue: errno) }
            }
        }
        let (result, reason) = call(draft) { old in
            name.withPlatformString { new in clinux_renameat2(descriptor, old, descriptor, new, 0) }
        }
        guard result == 0 else { throw Failure(operation: "replace", path: path.appending(name), cause: reason) }
        try synchronize()
    }

    /// Makes a symbolic link inside.
    func link(_ name: FilePath.Component, to target: FilePath) throws(Failure) {
        let (result, cause) = call(name) { symlinkat(target.string, descriptor, $0) }
        guard result == 0 else { throw Failure(operation: "link", path: path.appending(name), cause: cause) }
    }

    /// Sees to it that everything written so far to the file system outlasts a loss of power.
    func synchronizeFileSystem() throws(Failure) {
        let readable = try reopened()
        defer { close(readable) }
        try check("syncfs", clinux_syncfs(readable))
    }

    private func explained<Value>(
        _ operation: String, _ name: FilePath.Component, _ body: () throws -> Value
    ) throws(Failure) -> Value {
        do {
            return try body()
        } catch {
            throw Failure(operation: operation, path: path.appending(name), cause: error as? Errno ?? .ioError)
        }
    }

    /// The names inside, without `.` and `..`, in no order.
    func names() throws(Failure) -> [FilePath.Component] {
        var names: [FilePath.Component] = []
        try forEachName {
            names.append($0)
            return true
        }
        return names
    }

    /// Whether there is no name inside. It reads no further than to the first.
    func isEmpty() throws(Failure) -> Bool {
        try firstName { _ in true } == nil
    }

    /// A name inside for which something holds, or nil; it reads no further.
    func firstName(
        where isWanted: (FilePath.Component) throws(Failure) -> Bool
    ) throws(Failure) -> FilePath.Component? {
        var found: FilePath.Component?
        try forEachName { name throws(Failure) in
            if try isWanted(name) { found = name }
            return found == nil
        }
        return found
    }

    /// - Parameter body: whether to go on.
    private func forEachName(_ body: (FilePath.Component) throws(Failure) -> Bool) throws(Failure) {
        let readable = try reopened()
        guard let stream = fdopendir(readable) else {
            let cause = Errno(rawValue: errno)
            close(readable)
            throw Failure(operation: "read", path: path, cause: cause)
        }
        defer { closedir(stream) }
        errno = 0
        while let item = readdir(stream) {
            let name = withUnsafePointer(to: &item.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { FilePath.Component(platformString: $0) }
            }
            if let name, name.kind == .regular, try !body(name) { return }
            errno = 0
        }
        try check("read", errno == 0 ? 0 : -1)
    }

    /// The same directory with the right to read, chown and chmod, which a path descriptor has not.
    private func reopened() throws(Failure) -> Int32 {
        let readable = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        try check("open", readable)
        return readable
    }

    /// Names go to the kernel as the bytes they are: an account may upload files whose names are no text.
    private func call(
        _ name: FilePath.Component, _ body: (UnsafePointer<CChar>) -> Int32
    ) -> (result: Int32, cause: Errno) {
        name.withPlatformString { text in
            let result = body(text)
            return (result, Errno(rawValue: errno))
        }
    }

    private func check(_ operation: String, _ result: Int32) throws(Failure) {
        guard result >= 0 else { throw Failure(operation: operation, path: path, cause: Errno(rawValue: errno)) }
    }
}

extension FilePath.Component {
    /// A name that the program itself put together, without a slash in it.
    static func named(_ text: String) -> Self { FilePath(text).lastComponent ?? ".nameless" }
}
