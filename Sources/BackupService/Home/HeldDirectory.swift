import CLinux
import EventLoop
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// A directory held open by a descriptor. Everything relative to it happens in this directory, even if its name changes meanwhile.
///
/// Names are resolved with openat2: neither a symbolic link nor `..` can lead out of the directory.
final class HeldDirectory: Sendable {
    let descriptor: Int32
    /// How it was reached, for messages.
    let path: FilePath

    /// O_PATH needs no permission to read the directory itself.
    private static let pathOnly = CLINUX_O_PATH | O_DIRECTORY | O_CLOEXEC

    private init(descriptor: Int32, path: FilePath) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { close(descriptor) }

    /// A failed system call.
    struct Failure: Error, Hashable, CustomStringConvertible {
        var operation: String
        var path: FilePath
        var cause: Errno

        var description: String { "could not \(operation) \(path): \(cause)" }

        /// Whether a directory is not part of the tree (any more): gone, replaced, or a mount.
        var isOutsideTree: Bool {
            [.noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels, .improperLink].contains(cause)
        }

        /// The failure of a removal that a read-only snapshot of btrfs stops, which any user can make of an own directory; nil for other failures.
        var readOnlySubvolume: ProvisioningFailure? {
            guard cause == .readOnlyFileSystem else { return nil }
            // Of the name itself, or of a name in it.
            for place in [path, path.removingLastComponent()] {
                var status = stat()
                guard lstat(place.string, &status) == 0, status.isDirectory, status.st_ino == 256 else { continue }
                return ProvisioningFailure(
                    .undefinedError, reason: description,
                    hint: "it is a read-only snapshot of btrfs: btrfs property set -ts \(place.shellWord) ro false")
            }
            return nil
        }

        /// - Parameter failureClass: nil: by the cause, else permanent.
        func provisioningFailure(
            _ code: ProvisioningExitCode, _ failureClass: FailureClass? = nil, hint: String
        ) -> ProvisioningFailure {
            ProvisioningFailure(
                code, failureClass ?? FailureClass(cause) ?? .permanent, reason: description, hint: hint)
        }
    }

    /// Opens a directory of the settings by its whole path; symbolic links are followed.
    init(configured path: FilePath) throws(Failure) {
        let descriptor = open(path.string, Self.pathOnly)
        guard descriptor >= 0 else { throw Failure(operation: "open", path: path, cause: Errno(rawValue: errno)) }
        self.descriptor = descriptor
        self.path = path
    }

    // MARK: - The directory itself

    /// Owner, mode, device and inode.
    func status() throws(Failure) -> stat {
        var status = stat()
        try check("examine", fstat(descriptor, &status))
        return status
    }

    /// Whether both are one directory, perhaps with two names.
    func isSame(as other: HeldDirectory) throws(Failure) -> Bool {
        let (first, second) = (try status(), try other.status())
        return first.st_dev == second.st_dev && first.st_ino == second.st_ino
    }

    /// The number of the mount that it lies on, which changes with each mount; 0 before Linux 6.8.
    var mountNumber: UInt64 { clinux_mount_number(descriptor) }

    /// The number of the btrfs subvolume that it lies on; nil: it lies on none.
    func subvolume() throws(Failure) -> UInt64? {
        var number: UInt64 = 0
        try withReadable { number = clinux_btrfs_subvolume($0) }
        return number == 0 ? nil : number
    }

    /// Whether users are held to disk quotas on its file system; nil: the kernel does not tell.
    var enforcesUserQuota: Bool? {
        let answer = clinux_enforces_user_quota(descriptor)
        return answer < 0 ? nil : answer > 0
    }

    /// Whether new files inside inherit a group or an access control list.
    func bequeathsRights() throws(Failure) -> Bool {
        if try status().st_mode & S_ISGID != 0 { return true }
        let answer = clinux_has_default_acl(descriptor)
        try check("look for a default ACL of", min(answer, 0))
        return answer > 0
    }

    /// The absolute path without symbolic links.
    func realPath() throws(Failure) -> FilePath {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = readlink("/proc/self/fd/\(descriptor)", &buffer, buffer.count)
        guard count > 0, count < buffer.count else {
            throw Failure(operation: "find the real path of", path: path, cause: Errno(rawValue: errno))
        }
        return FilePath(String(decoding: buffer.prefix(count), as: UTF8.self))
    }

    /// - Parameter owner: nil: unchanged.
    func set(owner: (uid: UInt32, gid: UInt32)?, mode: UInt32) throws(Failure) {
        try withReadable { (readable) throws(Failure) in
            if let owner { try check("chown", fchown(readable, owner.uid, owner.gid)) }
            try check("chmod", fchmod(readable, mode))
        }
    }

    /// Removes the default ACL (acl(5)), by which the owner may have given itself rights in everything made inside later.
    func removeDefaultACL() throws(Failure) {
        try withReadable { (readable) throws(Failure) in
            try check("remove the default ACL of", clinux_remove_default_acl(readable))
        }
    }

    /// Flushes new and removed names to the disk.
    func synchronize() throws(Failure) {
        try withReadable { (readable) throws(Failure) in try check("fsync", fsync(readable)) }
    }

    /// The same directory, for ``synchronizeFileSystem()``.
    func readable() throws(Failure) -> HeldDirectory { HeldDirectory(descriptor: try reopened(), path: path) }

    /// Flushes the whole file system to the disk. To be called on a ``readable()`` that was made before the first write: the kernel tells each open
    /// file once of every failed write since it was opened, and tells one that is opened afterwards nothing if others have been told (syncfs(2)).
    func synchronizeFileSystem() throws(Failure) { try check("syncfs", clinux_syncfs(descriptor)) }

    // MARK: - Names inside

    /// The directory of that name; nil if there is none.
    /// - Parameter crossesMounts: whether it may be on another file system; if not, a mount fails with the cause `improperLink`.
    func directory(_ name: FilePath.Component, crossesMounts: Bool = true) throws(Failure) -> HeldDirectory? {
        let resolve =
            CLINUX_RESOLVE_BENEATH | CLINUX_RESOLVE_NO_SYMLINKS | CLINUX_RESOLVE_NO_MAGICLINKS
            | (crossesMounts ? 0 : CLINUX_RESOLVE_NO_XDEV)
        return try call("open", name, unless: .noSuchFileOrDirectory) {
            clinux_openat2(descriptor, $0, UInt64(Self.pathOnly), 0, resolve)
        }.map { HeldDirectory(descriptor: $0, path: path.appending(name)) }
    }

    /// Whether something is mounted at a name. A file or a link has no mount.
    func hasMount(at name: FilePath.Component) throws(Failure) -> Bool {
        do throws(Failure) {
            _ = try directory(name, crossesMounts: false)
            return false
        } catch {
            switch error.cause {
            case .improperLink: return true
            case .notDirectory, .tooManySymbolicLinkLevels: return false
            default: throw error
            }
        }
    }

    /// Owner and type of a name, links not followed; nil if there is none.
    func status(of name: FilePath.Component) throws(Failure) -> stat? {
        var status = stat()
        let found = try call("examine", name, unless: .noSuchFileOrDirectory) {
            fstatat(descriptor, $0, &status, AT_SYMLINK_NOFOLLOW)
        }
        return found == nil ? nil : status
    }

    /// Makes a directory of mode 0700.
    /// - Returns: false if the name exists already.
    func makeDirectory(_ name: FilePath.Component) throws(Failure) -> Bool {
        try call("make", name, unless: .fileExists) { mkdirat(descriptor, $0, 0o700) } != nil
    }

    /// Renames without replacing anything.
    /// - Returns: false if the new name exists already.
    func rename(
        _ name: FilePath.Component, into target: HeldDirectory, as newName: FilePath.Component
    ) throws(Failure) -> Bool {
        try call("rename to \(target.path.appending(newName))", name, unless: .fileExists, or: .directoryNotEmpty) {
            old in
            newName.withPlatformString { new in
                clinux_renameat2(descriptor, old, target.descriptor, new, CLINUX_RENAME_NOREPLACE)
            }
        } != nil
    }

    func removeFile(_ name: FilePath.Component) throws(Failure) { try remove(name, flags: 0) }
    func removeEmptyDirectory(_ name: FilePath.Component) throws(Failure) { try remove(name, flags: AT_REMOVEDIR) }

    /// A name that does not exist is no error.
    private func remove(_ name: FilePath.Component, flags: Int32) throws(Failure) {
        _ = try call("remove", name, unless: .noSuchFileOrDirectory) { unlinkat(descriptor, $0, flags) }
    }

    /// Makes a symbolic link.
    func link(_ name: FilePath.Component, to target: FilePath) throws(Failure) {
        _ = try call("link", name) { symlinkat(target.string, descriptor, $0) }
    }

    /// All names, without `.` and `..`, in no order.
    func names() throws(Failure) -> [FilePath.Component] {
        var names: [FilePath.Component] = []
        _ = try firstName {
            names.append($0)
            return false
        }
        return names
    }

    func isEmpty() throws(Failure) -> Bool { try firstName { _ in true } == nil }

    /// The first name that fulfils a condition; reads no further.
    /// - Parameter type: as in dirent, such as DT_LNK: names known to be of another one are skipped; nil: all are tried.
    func firstName(
        ofType type: Int? = nil, where isWanted: (FilePath.Component) throws(Failure) -> Bool
    ) throws(Failure) -> FilePath.Component? {
        let readable = try reopened()
        guard let stream = fdopendir(readable) else {
            let cause = Errno(rawValue: errno)
            close(readable)
            throw Failure(operation: "read", path: path, cause: cause)
        }
        defer { closedir(stream) }
        errno = 0
        while let item = readdir(stream) {
            let found = item.pointee.d_type
            if type == nil || found == DT_UNKNOWN || Int(found) == type {
                let name = withUnsafePointer(to: &item.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { FilePath.Component(platformString: $0) }
                }
                if let name, name.kind == .regular, try isWanted(name) { return name }
            }
            errno = 0
        }
        try check("read", errno == 0 ? 0 : -1)
        return nil
    }

    // MARK: - Files inside

    /// The bytes of a regular file; nil if the name does not exist. A link or a pipe is not opened.
    /// - Throws: EFBIG for a file longer than ``FileDescriptor/longestSmallFile``, EINVAL for anything but a regular file, ELOOP for a link.
    func contents(of name: FilePath.Component) throws(Failure) -> [UInt8]? {
        let opened = try call("read", name, unless: .noSuchFileOrDirectory) {
            openat(descriptor, $0, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        }
        guard let opened else { return nil }
        return try with(opened, "read", name) { file in
            var status = stat()
            guard fstat(opened, &status) == 0 else { throw Errno(rawValue: errno) }
            guard status.st_mode & S_IFMT == S_IFREG else { throw Errno.invalidArgument }
            return try file.bytes()
        }
    }

    /// Replaces a file durably: after a crash it has the old bytes or the new ones. They are written to NAME.new first.
    func write(_ bytes: [UInt8], to name: FilePath.Component, mode: UInt32 = 0o600) throws(Failure) {
        let draft = FilePath.Component.named("\(name).new")
        try create(draft, bytes, mode: mode)
        try replace(name, by: draft)
    }

    /// Writes and flushes a new file; an existing one of that name is removed first.
    func create(_ name: FilePath.Component, _ bytes: [UInt8], mode: UInt32) throws(Failure) {
        try removeFile(name)
        let opened = try call("write", name) {
            openat(descriptor, $0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        }
        guard let opened else { return }
        try with(opened, "write", name) { file in
            try file.writeAll(bytes)
            guard fchmod(opened, mode) == 0, fsync(opened) == 0 else { throw Errno(rawValue: errno) }
        }
    }

    /// Renames a file over another one and flushes that.
    func replace(_ name: FilePath.Component, by draft: FilePath.Component) throws(Failure) {
        _ = try call("replace", name) { new in
            draft.withPlatformString { old in clinux_renameat2(descriptor, old, descriptor, new, 0) }
        }
        try synchronize()
    }

    // MARK: - System calls

    /// Works on an open file of a name and closes it.
    private func with<Value>(
        _ opened: Int32, _ operation: String, _ name: FilePath.Component, _ body: (FileDescriptor) throws -> Value
    ) throws(Failure) -> Value {
        let file = FileDescriptor(rawValue: opened)
        do {
            return try file.closeAfter { try body(file) }
        } catch {
            throw failure(operation, name, error as? Errno ?? .ioError)
        }
    }

    /// The same directory opened for reading, chown and chmod, for which an O_PATH descriptor is not enough.
    private func reopened() throws(Failure) -> Int32 {
        let readable = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        try check("open", readable)
        return readable
    }

    private func withReadable(_ body: (Int32) throws(Failure) -> Void) throws(Failure) {
        let readable = try reopened()
        defer { close(readable) }
        try body(readable)
    }

    /// Calls the kernel with a name as bytes: an account may upload files whose names are not UTF-8.
    /// - Parameter expected: errors for which nil is returned.
    func call(
        _ operation: @autoclosure () -> String, _ name: FilePath.Component, unless expected: Errno? = nil,
        or other: Errno? = nil, _ body: (UnsafePointer<CChar>) -> Int32
    ) throws(Failure) -> Int32? {
        let (result, cause) = name.withPlatformString { text in
            let result = body(text)
            return (result, Errno(rawValue: errno))
        }
        if result >= 0 { return result }
        guard cause == expected || cause == other else { throw failure(operation(), name, cause) }
        return nil
    }

    private func check(_ operation: String, _ result: Int32) throws(Failure) {
        guard result >= 0 else { throw Failure(operation: operation, path: path, cause: Errno(rawValue: errno)) }
    }

    func failure(_ operation: String, _ name: FilePath.Component, _ cause: Errno) -> Failure {
        Failure(operation: operation, path: path.appending(name), cause: cause)
    }
}

extension FilePath.Component {
    /// A name that the program itself has put together, without a slash.
    static func named(_ text: String) -> Self { FilePath(text).lastComponent ?? ".nameless" }
}

extension stat {
    var isDirectory: Bool { st_mode & S_IFMT == S_IFDIR }
    /// Bytes on the disk, as du counts them.
    var allocatedBytes: UInt64 { UInt64(max(0, st_blocks)) * 512 }
}

/// Small files: templates, lists of the kernel, configurations of accounts.
extension FileDescriptor {
    /// Bytes; longer than any such file.
    static let longestSmallFile = 4 << 20

    /// - Throws: `Errno`; EFBIG for a file longer than ``longestSmallFile``, EILSEQ for one that is not UTF-8.
    static func text(at path: FilePath) throws -> String { try String(utf8: try bytes(at: path)) }

    /// - Throws: `Errno`; EFBIG for a file longer than ``longestSmallFile``.
    static func bytes(at path: FilePath) throws(Errno) -> [UInt8] {
        try path.reading { file throws(Errno) in try file.bytes() }
    }

    func bytes() throws(Errno) -> [UInt8] { try contents(limit: Self.longestSmallFile) }
}

extension String {
    init(utf8 bytes: [UInt8]) throws(Errno) {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw Errno.illegalByteSequence }
        self = text
    }
}
