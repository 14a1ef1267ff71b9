import CLinux
import EventLoop
import Glibc
import Provisioning
import SystemPackage

/// Walks through a tree, name by name and depth first, by descriptors only.
///
/// The tree's owner may change it at any time, so nothing in it is trusted: no symbolic link is followed and no mount is entered. The tree may
/// be deeper than PATH_MAX: the deepest ``window`` directories are open, and a directory above them is opened again as `..` and compared with
/// its recorded inode. If it is another one, a directory was moved, and the path is searched again from the top.
/// Memory: about 50 bytes and the name for each level, and 32 KiB for each open directory.
///
/// ```swift
/// while let event = try walk.next() {
///     if case .name(let name) = event, try walk.isDirectory(name) { try walk.enter(name.text) }
/// }
/// ```
/// Errors: `HeldDirectory.Failure` with the place, `CancellationError`, ``LimitExceeded``.
final class TreeWalk {
    /// The tree has too many names or is too deep.
    struct LimitExceeded: Error, Hashable, CustomStringConvertible {
        /// The tree.
        var path: FilePath
        /// The user who owns it; if that is root, the owner of the directory that was being read.
        var owner: UInt32
        var limit: NameLimit
        /// Whether the levels were too many, not the names.
        var isTooDeep = false

        var description: String {
            isTooDeep
                ? "\(path) has directories nested more than \(limit.levels) deep"
                : "\(path) has more than \(limit), or its owner makes or moves them while they are read"
        }
        var hint: String {
            isTooDeep ? "let user \(owner) remove them" : "find the process and end it: ps -fu \(owner)"
        }
    }

    /// A name in the directory that is being read, valid until the next call of ``next()``.
    struct Name {
        /// The inode of the directory entry; for a mount it differs from that of its status.
        let inode: UInt64
        fileprivate let type: UInt8
        /// Any bytes but `/`, ended by NUL.
        let text: UnsafePointer<CChar>

        fileprivate init(_ item: UnsafeMutablePointer<dirent>) {
            inode = UInt64(item.pointee.d_ino)
            type = item.pointee.d_type
            let offset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 0
            text = UnsafePointer((UnsafeMutableRawPointer(item) + offset).assumingMemoryBound(to: CChar.self))
        }

        /// `.` or `..`
        fileprivate var isDots: Bool { text[0] == 0x2e && (text[1] == 0 || text[1] == 0x2e && text[2] == 0) }
    }

    enum Event {
        case name(Name)
        /// All names of a directory were read, and the walk is back in its parent. Name and bytes on the disk as of the entry.
        case left(name: [CChar], bytes: UInt64)
    }

    /// The most directories that are open at a time.
    static let window = 32

    private struct Level {
        let device: UInt64
        let inode: UInt64
        let bytes: UInt64
        /// The index of its name in `names`.
        let name: Int
        /// nil while it is closed; then reading continues at `position`.
        var stream: OpaquePointer?
        var position = 0

        func isSame(_ status: stat) -> Bool { device == UInt64(status.st_dev) && inode == UInt64(status.st_ino) }
    }

    /// The status of the tree's top when it was opened.
    let status: stat
    private let top: HeldDirectory
    private let limit: NameLimit
    private let isCancelled: () -> Bool
    private var levels: [Level] = []
    /// The names of the levels below the top, each ended by NUL.
    private var names: [CChar] = []
    /// The first level that is open; those above it are closed.
    private var shallowestOpen = 0
    /// Names visited, including those of earlier walks that are counted together.
    private(set) var steps: Int
    private var moved = 0
    /// The former owner of the last directory that was taken from its owner.
    private var formerOwner: UInt32?

    private static let sameTree =
        CLINUX_RESOLVE_BENEATH | CLINUX_RESOLVE_NO_SYMLINKS | CLINUX_RESOLVE_NO_MAGICLINKS | CLINUX_RESOLVE_NO_XDEV

    /// - Parameters:
    ///   - name: the tree's top, a directory in `parent` and on its file system.
    ///   - steps: names that earlier walks have visited, counted towards the same limit.
    ///   - isCancelled: called at every directory and at least every 256 names.
    init(
        _ name: FilePath.Component, in parent: HeldDirectory, limit: NameLimit, after steps: Int = 0,
        isCancelled: @escaping () -> Bool
    ) throws(HeldDirectory.Failure) {
        guard let top = try parent.directory(name, crossesMounts: false) else {
            throw parent.failure("open", name, .noSuchFileOrDirectory)
        }
        self.top = top
        self.limit = limit
        self.steps = steps
        self.isCancelled = isCancelled
        status = try top.status()
        _ = try enter(".", from: top.descriptor)
    }

    deinit { for level in levels { if let stream = level.stream { closedir(stream) } } }

    /// - Returns: nil at the end of the tree.
    func next() throws -> Event? {
        while let stream = levels.last?.stream {
            errno = 0
            if let item = readdir(stream) {
                let name = Name(item)
                if name.isDots { continue }
                try step()
                return .name(name)
            }
            guard errno == 0 else { throw failure("read") }
            if isCancelled() { throw CancellationError() }
            if let event = try leave() { return event }
        }
        return nil
    }

    /// Starts again at the top, after the end.
    func beginAgain() throws {
        try step()
        _ = try enter(".", from: top.descriptor)
    }

    /// Counts one name towards the limit.
    func step() throws {
        steps += 1
        if steps > limit.names { throw LimitExceeded(path: top.path, owner: owner, limit: limit) }
        if steps % 256 == 0, isCancelled() { throw CancellationError() }
    }

    /// The user who can change the tree.
    private var owner: UInt32 {
        var current = status
        if current.st_uid == 0 { fstat(descriptor, &current) }
        return current.st_uid == 0 ? formerOwner ?? 0 : current.st_uid
    }

    // MARK: - Names of the current directory

    /// - Returns: nil if the name is gone.
    func status(of name: UnsafePointer<CChar>) throws(HeldDirectory.Failure) -> stat? {
        var status = stat()
        if fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 { return status }
        guard errno == ENOENT else { throw failure("examine", name) }
        return nil
    }

    func isDirectory(_ name: Name) throws(HeldDirectory.Failure) -> Bool {
        guard name.type == DT_UNKNOWN else { return name.type == DT_DIR }
        return try status(of: name.text).map { $0.st_mode & S_IFMT == S_IFDIR } ?? false
    }

    /// Enters a directory: its names come next.
    /// - Throws: `HeldDirectory.Failure`, with `isOutsideTree` if it is gone, replaced or a mount; ``LimitExceeded`` if ``isDeepest``.
    @discardableResult
    func enter(_ name: UnsafePointer<CChar>) throws -> stat {
        if isDeepest { throw LimitExceeded(path: top.path, owner: owner, limit: limit, isTooDeep: true) }
        return try enter(name, from: descriptor)
    }

    /// As root, makes root the owner of the current directory, with mode 0700, so that processes that hold it open cannot use it any more.
    func takeFromOwner() throws(HeldDirectory.Failure) {
        guard geteuid() == 0 else { return }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure("examine") }
        if status.st_uid != 0 { formerOwner = status.st_uid }
        guard fchown(descriptor, 0, 0) == 0, fchmod(descriptor, 0o700) == 0 else { throw failure("take") }
    }

    /// Whether the current directory is so deep that no directory in it can be entered.
    var isDeepest: Bool { levels.count >= limit.levels }

    /// Moves a name of the current directory to the top of the tree, under a free name; the walk visits it there, or when it starts again.
    /// A name that is gone is no error.
    func moveToTop(_ name: UnsafePointer<CChar>) throws {
        repeat {
            try step()
            moved += 1
            let free = ".moved-\(moved)"
            if clinux_renameat2(descriptor, name, top.descriptor, free, CLINUX_RENAME_NOREPLACE) == 0 { return }
        } while errno == EEXIST
        guard errno == ENOENT else { throw failure("move", name) }
    }

    /// Leaves the current directory without reading it.
    func skip() throws { _ = try leave() }

    /// - Parameter flags: AT_REMOVEDIR for an empty directory, else 0.
    /// - Returns: false if the name is gone already.
    func remove(_ name: UnsafePointer<CChar>, flags: Int32) throws(HeldDirectory.Failure) -> Bool {
        if unlinkat(descriptor, name, flags) == 0 { return true }
        guard errno == ENOENT else { throw failure("remove", name) }
        return false
    }

    /// Changes the group of a name that has a certain owner and group. The file is held open, so that it cannot be replaced meanwhile; of a link
    /// the link itself is changed, and a mount is not.
    func changeGroup(
        of name: UnsafePointer<CChar>, ownedBy user: UInt32, from former: UInt32, to group: UInt32
    ) throws(HeldDirectory.Failure) {
        let flags = UInt64(CLINUX_O_PATH | O_NOFOLLOW | O_CLOEXEC)
        let held = clinux_openat2(descriptor, name, flags, 0, Self.sameTree)
        guard held >= 0 else {
            let failure = failure("open", name)
            guard failure.isOutsideTree else { throw failure }
            return
        }
        defer { close(held) }
        try changeGroup(of: held, name, ownedBy: user, from: former, to: group)
    }

    /// The same for the tree's top.
    func changeGroupOfTop(ownedBy user: UInt32, from former: UInt32, to group: UInt32) throws(HeldDirectory.Failure) {
        try changeGroup(of: top.descriptor, nil, ownedBy: user, from: former, to: group)
    }

    private func changeGroup(
        of held: Int32, _ name: UnsafePointer<CChar>?, ownedBy user: UInt32, from former: UInt32, to group: UInt32
    ) throws(HeldDirectory.Failure) {
        var status = stat()
        guard fstat(held, &status) == 0 else { throw failure("examine", name) }
        guard status.st_uid == user, status.st_gid == former else { return }
        guard fchownat(held, "", .max, group, CLINUX_AT_EMPTY_PATH) == 0 else { throw failure("chgrp", name) }
        // chown clears these bits, and a snapshot keeps the modes of its files.
        let bits = status.st_mode & (S_ISUID | S_ISGID)
        guard bits != 0, status.st_mode & S_IFMT == S_IFREG else { return }
        guard chmod("/proc/self/fd/\(held)", status.st_mode & 0o7777) == 0 else { throw failure("chmod", name) }
    }

    /// The device of the current directory.
    var device: UInt64 { levels.last?.device ?? 0 }

    private var descriptor: Int32 { levels.last?.stream.map { dirfd($0) } ?? -1 }

    // MARK: - Down and up

    private func enter(_ name: UnsafePointer<CChar>, from directory: Int32) throws(HeldDirectory.Failure) -> stat {
        guard let opened = open(name, from: directory, Self.sameTree) else { throw failure("open", name) }
        if levels.count - shallowestOpen == Self.window { suspendShallowest() }
        levels.append(
            Level(
                device: UInt64(opened.status.st_dev), inode: UInt64(opened.status.st_ino),
                bytes: opened.status.allocatedBytes, name: names.count, stream: opened.stream))
        if levels.count > 1 { names += UnsafeBufferPointer(start: name, count: strlen(name) + 1) }
        return opened.status
    }

    private func suspendShallowest() {
        if let stream = levels[shallowestOpen].stream {
            levels[shallowestOpen].position = telldir(stream)
            levels[shallowestOpen].stream = nil
            closedir(stream)
        }
        shallowestOpen += 1
    }

    /// - Returns: nil at the top, and if the directory was moved.
    private func leave() throws -> Event? {
        guard let child = levels.popLast() else { return nil }
        defer { if let stream = child.stream { closedir(stream) } }
        guard let parent = levels.last else { return nil }
        let name = Array(names[child.name...])
        names.removeSubrange(child.name...)
        if parent.stream != nil { return .left(name: name, bytes: child.bytes) }
        let above = open("..", from: child.stream.map { dirfd($0) } ?? -1, Self.sameTree & ~CLINUX_RESOLVE_BENEATH)
        if let above, parent.isSame(above.status) {
            resume(above.stream)
            return .left(name: name, bytes: child.bytes)
        }
        if let above { closedir(above.stream) } else if Errno(rawValue: errno).isShortage { throw failure("open") }
        try findAgain()
        return nil
    }

    /// Opens the deepest directory of the path that is still in its place, and continues there.
    private func findAgain() throws {
        var place = openat(top.descriptor, ".", CLINUX_O_PATH | O_DIRECTORY | O_CLOEXEC)
        guard place >= 0 else { throw failure("open") }
        defer { close(place) }
        var found = 1
        while found < levels.count, let next = try descend(from: place, to: levels[found]) {
            close(place)
            place = next
            found += 1
            try step()
        }
        if found < levels.count {
            names.removeSubrange(levels[found].name...)
            levels.removeSubrange(found...)
        }
        guard let opened = open(".", from: place, Self.sameTree) else { throw failure("open") }
        resume(opened.stream)
    }

    /// - Returns: a descriptor of the level's directory; nil if it is not in its place any more.
    private func descend(from place: Int32, to level: Level) throws(HeldDirectory.Failure) -> Int32? {
        let next = names[level.name...].withUnsafeBufferPointer { name in
            name.baseAddress.map {
                clinux_openat2(place, $0, UInt64(CLINUX_O_PATH | O_DIRECTORY | O_CLOEXEC), 0, Self.sameTree)
            } ?? -1
        }
        if next < 0, Errno(rawValue: errno).isShortage { throw failure("open") }
        guard next >= 0 else { return nil }
        var status = stat()
        if fstat(next, &status) == 0, level.isSame(status) { return next }
        close(next)
        return nil
    }

    /// Continues reading the deepest level, which was closed.
    private func resume(_ stream: OpaquePointer) {
        let last = levels.count - 1
        seekdir(stream, levels[last].position)
        levels[last].stream = stream
        shallowestOpen = last
    }

    /// - Returns: nil, with errno set.
    private func open(
        _ name: UnsafePointer<CChar>, from directory: Int32, _ resolve: UInt64
    ) -> (stream: OpaquePointer, status: stat)? {
        let descriptor = clinux_openat2(directory, name, UInt64(O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, resolve)
        guard descriptor >= 0 else { return nil }
        var status = stat()
        if fstat(descriptor, &status) == 0, let stream = fdopendir(descriptor) { return (stream, status) }
        let cause = errno
        close(descriptor)
        errno = cause
        return nil
    }

    // MARK: - Errors

    /// The failure of the last system call, by errno.
    private func failure(_ operation: String, _ name: UnsafePointer<CChar>? = nil) -> HeldDirectory.Failure {
        let cause = Errno(rawValue: errno)
        return HeldDirectory.Failure(operation: operation, path: path(name), cause: cause)
    }

    /// The path of a name in the current directory, or of that directory; the middle of a long path is left out.
    private func path(_ name: UnsafePointer<CChar>?) -> FilePath {
        func text(_ names: ArraySlice<CChar>) -> String {
            String(decoding: names.map { $0 == 0 ? UInt8(ascii: "/") : UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        let way = names.count < 2048 ? text(names[...]) : "\(text(names.prefix(1024)))/…/\(text(names.suffix(256)))"
        let path = top.path.appending(way)
        return name.map { path.appending(String(cString: $0)) } ?? path
    }
}

extension BlockingWork {
    /// Runs a walk through an account's files on a thread for walks, within TIMEOUT.
    /// - Parameters:
    ///   - code: of the failures.
    ///   - unfinished: what is not done when the time is over, as a sentence.
    ///   - explain: turns a failed system call into a failure.
    /// - Throws: `ProvisioningFailure`; `CancellationError`.
    @MainActor static func walk(
        within timeLimit: Duration, code: ProvisioningExitCode, unfinished: String,
        explain: (HeldDirectory.Failure) -> ProvisioningFailure,
        _ body: @escaping @Sendable (_ isCancelled: @escaping @Sendable () -> Bool) throws -> Void
    ) async throws {
        do {
            try await run(on: .walks, until: Deadline(in: timeLimit), body)
        } catch let failure as HeldDirectory.Failure {
            throw explain(failure)
        } catch let excess as TreeWalk.LimitExceeded {
            throw ProvisioningFailure(
                code, .retryable, reason: "\(excess)", hint: "\(excess.hint); the next attempt continues")
        } catch is Deadline.Passed {
            throw ProvisioningFailure(
                code, .retryable, reason: "\(unfinished) within TIMEOUT",
                hint: "the next attempt continues; if none finishes, raise TIMEOUT in [Backup Jobs]")
        }
    }
}
