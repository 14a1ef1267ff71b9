import Glibc
package import SystemPackage

/// Resolves a path as the kernel does, component by component with lstat; symbolic links are followed explicitly, so
/// that each is seen.
struct PathWalk {
    /// The kernel's limit (path_resolution(7)).
    static let largestNumberOfLinks = 40

    /// The component that was examined last.
    private var last: PathComponentStatus?

    private let file: FilePath
    /// The current directory of the walk, links resolved.
    private var directory: FilePath = "/"
    /// The remaining components, the next one last.
    private var pending: [FilePath.Component]
    private var links = 0

    /// - Parameter file: an absolute path.
    init(to file: FilePath) {
        self.file = file
        self.pending = Self.steps(of: file)
    }

    /// Whether the last component is the target of the path.
    var isComplete: Bool { pending.isEmpty && last?.kind != .link }

    /// Examines the next component.
    /// - Returns: nil if there is none.
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
        // A link to `/` or `.` has no components, so its target has not been examined yet.
        return last?.kind == .link ? try examine(directory) : nil
    }

    /// The components, the next one last, without `.`.
    private static func steps(of path: FilePath) -> [FilePath.Component] {
        path.components.filter { $0.kind != .currentDirectory }.reversed()
    }

    /// Where the path leads, without symbolic links.
    /// - Throws: when this process must be able to execute the file and cannot.
    func resolvedPath(mustBeExecutable: Bool) throws(FileTrustError) -> FilePath {
        guard let last else {
            throw FileTrustError(file: file, problem: .notAFile, path: file)
        }
        guard !mustBeExecutable || last.path.withPlatformString({ faccessat(AT_FDCWD, $0, X_OK, AT_EACCESS) }) == 0
        else {
            throw FileTrustError(file: file, problem: .notExecutable, path: last.path, status: last)
        }
        return last.path
    }

    private mutating func examine(_ path: FilePath) throws(FileTrustError) -> PathComponentStatus {
        var status = stat()
        guard path.withPlatformString({ lstat($0, &status) }) == 0 else {
            throw FileTrustError(file: file, problem: .unreachable(Errno(rawValue: errno)), path: path)
        }
        let kind: PathComponentStatus.Kind =
            switch status.st_mode & S_IFMT {
            case S_IFDIR: .directory
            case S_IFLNK: .link
            case S_IFREG: .file
            default: .other
            }
        let component = PathComponentStatus(
            path: path, kind: kind, owner: status.st_uid, mode: status.st_mode & 0o7777)
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

/// The lstat result of one component of a path.
package struct PathComponentStatus: Hashable, Sendable {
    /// The file type; a link is not followed.
    package enum Kind: Hashable, Sendable {
        case directory, link, file
        /// A device, a socket or a pipe.
        case other
    }

    /// The path of the component, links in the directories above it resolved.
    package var path: FilePath
    /// Its file type.
    package var kind: Kind
    /// The owner's uid.
    package var owner: UInt32
    /// Permission bits, set-id bits and sticky bit, without the file type.
    package var mode: UInt32

    /// Whether the group or others may write. A POSIX ACL appears here too: the group bits are its mask, which limits
    /// every entry.
    var isWritableByOthers: Bool { mode & 0o022 != 0 }

    /// Whether only the owner of an entry, the owner of the directory and root may rename or remove an entry.
    var isSticky: Bool { mode & 0o1000 != 0 }
}
