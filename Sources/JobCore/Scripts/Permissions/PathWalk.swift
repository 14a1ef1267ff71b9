import Glibc
public import SystemPackage

/// Goes the way to a file or directory as the kernel does, component by component, with lstat: links are followed by hand, so that each is seen.
struct PathWalk {
    /// As many as the kernel follows (path_resolution(7)).
    static let largestNumberOfLinks = 40

    /// What was found last.
    private var last: PathComponentStatus?

    private let file: FilePath
    /// Where the walk stands, links resolved.
    private var directory: FilePath = "/"
    /// What is still to be gone, the next one last.
    private var pending: [FilePath.Component]
    private var links = 0
    private var lastStatus = stat()

    /// - Parameter file: an absolute path.
    init(to file: FilePath) {
        self.file = file
        self.pending = Self.steps(of: file)
    }

    /// Whether the last component found is what the path leads to.
    var isComplete: Bool { pending.isEmpty && last?.kind != .link }

    /// Looks at the next component.
    /// - Returns: nil when there is none.
    mutating func advance() throws(FileTrustError) -> PathComponentStatus? {
        guard last != nil else { return try examine("/") }
        while let next = pending.popLast() {
            switch next.kind {
            case .currentDirectory:
                continue
            case .parentDirectory:
                directory.removeLastComponent()
                guard pending.isEmpty else { continue }
                return try examine(directory)
            case .regular:
                let path = directory.appending(next)
                let component = try examine(path)
                switch component.kind {
                case .link: try follow(path)
                case .directory: directory = path
                case .file, .other: break
                }
                return component
            }
        }
        return nil
    }

    /// The components, the next one last; `.` leads nowhere.
    private static func steps(of path: FilePath) -> [FilePath.Component] {
        path.components.filter { $0.kind != .currentDirectory }.reversed()
    }

    /// - Throws: when we may not execute it, and must.
    func identity(mustBeExecutable: Bool) throws(FileTrustError) -> ScriptIdentity {
        guard let last else {
            throw FileTrustError(file: file, problem: .notAFile, path: file)
        }
        guard !mustBeExecutable || last.path.withPlatformString({ faccessat(AT_FDCWD, $0, X_OK, AT_EACCESS) }) == 0
        else {
            throw FileTrustError(file: file, problem: .notExecutable, path: last.path, status: last)
        }
        return ScriptIdentity(
            path: file, resolvedPath: last.path, device: UInt64(lastStatus.st_dev), inode: UInt64(lastStatus.st_ino),
            owner: last.owner, mode: last.mode, size: Int64(lastStatus.st_size),
            modified: Duration(lastStatus.st_mtim))
    }

    private mutating func examine(_ path: FilePath) throws(FileTrustError) -> PathComponentStatus {
        guard path.withPlatformString({ lstat($0, &lastStatus) }) == 0 else {
            throw FileTrustError(file: file, problem: .unreachable(Errno(rawValue: errno)), path: path)
        }
        let kind: PathComponentStatus.Kind =
            switch lastStatus.st_mode & S_IFMT {
            case S_IFDIR: .directory
            case S_IFLNK: .link
            case S_IFREG: .file
            default: .other
            }
        let component = PathComponentStatus(
            path: path, kind: kind, owner: lastStatus.st_uid, group: lastStatus.st_gid,
            mode: lastStatus.st_mode & 0o7777)
        last = component
        return component
    }

    private mutating func follow(_ link: FilePath) throws(FileTrustError) {
        links += 1
        guard links <= Self.largestNumberOfLinks else {
            throw FileTrustError(file: file, problem: .tooManyLinks, path: link)
        }
        let target = try withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX) + 1) {
            buffer throws(FileTrustError) -> FilePath in
            let start = buffer.baseAddress
            let length = link.withPlatformString { link in start.map { readlink(link, $0, Int(PATH_MAX)) } ?? -1 }
            guard let start, length >= 0 else {
                throw FileTrustError(file: file, problem: .unreachable(Errno(rawValue: errno)), path: link)
            }
            start[length] = 0
            return FilePath(platformString: start)
        }
        if target.isAbsolute { directory = "/" }
        pending += Self.steps(of: target)
    }
}

/// What lstat said of one component on the way to a script.
public struct PathComponentStatus: Hashable, Sendable {
    /// What stands at the path itself: a link is not followed.
    public enum Kind: Hashable, Sendable {
        /// A directory.
        case directory
        /// A symbolic link.
        case link
        /// A regular file.
        case file
        /// A device, a socket or a pipe.
        case other
    }

    /// The component with everything above it, links resolved.
    public var path: FilePath
    /// What it is.
    public var kind: Kind
    /// The owner's user number.
    public var owner: UInt32
    /// The group's number.
    public var group: UInt32 = 0
    /// Permission bits, set-id bits and sticky bit, without the file type.
    public var mode: UInt32

    /// The group or everybody may write. A POSIX ACL shows here as well: the group bits are then its mask, and no entry of it gives more.
    var isWritableByOthers: Bool { mode & 0o022 != 0 }

    /// In a directory with the sticky bit, only the owner of an entry, of the directory, or root may rename or remove the entry.
    var isSticky: Bool { mode & 0o1000 != 0 }
}
