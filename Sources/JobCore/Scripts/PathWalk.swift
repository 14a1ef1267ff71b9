import Glibc
package import SystemPackage

/// Resolves a path as the kernel does, component by component with lstat; symbolic links are followed explicitly, so
/// that each is seen.
///
/// Every job examines some ten paths, so they are text here: a check takes a fifth less than with `FilePath` (callgrind).
struct PathWalk {
    /// The kernel's limit (path_resolution(7)).
    static let largestNumberOfLinks = 40

    /// The component that was examined last.
    private var last: PathComponentStatus?

    private let file: FilePath
    /// The current directory of the walk, links resolved; empty for the root.
    private var directory = ""
    /// The names of the remaining components, the next one last.
    private var pending: [String]
    private var links = 0

    /// - Parameter file: an absolute path.
    init(to file: FilePath) throws(FileTrustError) {
        guard let text = String(validating: file) else {
            throw FileTrustError(file: file, problem: .unreachable(.illegalByteSequence), path: file)
        }
        self.file = file
        self.pending = Self.steps(of: text)
    }

    /// Whether the last component is the target of the path.
    var isComplete: Bool { pending.isEmpty && last?.kind != .link }

    /// Examines the next component.
    /// - Returns: nil if there is none.
    mutating func advance() throws(FileTrustError) -> PathComponentStatus? {
        guard last != nil else { return try examine("/") }
        while let next = pending.popLast() {
            if next == ".." {
                directory = String(
                    directory[..<(directory.utf8.lastIndex(of: UInt8(ascii: "/")) ?? directory.startIndex)])
                guard pending.isEmpty else { continue }
                return try examineDirectory()
            }
            let path = directory + "/" + next
            let component = try examine(path)
            switch component.kind {
            case .link: try follow(component)
            case .directory: directory = path
            case .file, .other: break
            }
            return component
        }
        // A link to `/` or `.` has no components, so its target has not been examined yet.
        return last?.kind == .link ? try examineDirectory() : nil
    }

    /// The names, the next one last, without `.`.
    private static func steps(of path: String) -> [String] {
        var (path, steps) = (path, [String]())
        path.withUTF8 { bytes in
            var end = bytes.endIndex
            while end > 0 {
                let start = bytes[..<end].lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0
                let name = String(decoding: bytes[start..<end], as: UTF8.self)
                if !name.isEmpty, name != "." { steps.append(name) }
                end = start - 1
            }
        }
        return steps
    }

    /// Where the path leads, without symbolic links.
    /// - Throws: when this process must be able to execute the file and cannot.
    func resolvedPath(mustBeExecutable: Bool) throws(FileTrustError) -> FilePath {
        guard let last else {
            throw FileTrustError(file: file, problem: .notAFile, path: file)
        }
        guard !mustBeExecutable || faccessat(AT_FDCWD, last.text, X_OK, AT_EACCESS) == 0
        else {
            throw FileTrustError(file: file, problem: .notExecutable, path: last.path, status: last)
        }
        return last.path
    }

    private mutating func examineDirectory() throws(FileTrustError) -> PathComponentStatus {
        try examine(directory.isEmpty ? "/" : directory)
    }

    private mutating func examine(_ path: String) throws(FileTrustError) -> PathComponentStatus {
        var status = stat()
        guard lstat(path, &status) == 0 else { throw unreachable(path, Errno(rawValue: errno)) }
        let kind: PathComponentStatus.Kind =
            switch status.st_mode & S_IFMT {
            case S_IFDIR: .directory
            case S_IFLNK: .link
            case S_IFREG: .file
            default: .other
            }
        let component = PathComponentStatus(
            text: path, kind: kind, owner: status.st_uid, mode: status.st_mode & 0o7777)
        last = component
        return component
    }

    private mutating func follow(_ link: PathComponentStatus) throws(FileTrustError) {
        links += 1
        guard links <= Self.largestNumberOfLinks else {
            throw FileTrustError(file: file, problem: .tooManyLinks, path: link.path)
        }
        let target = try withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Int(PATH_MAX)) {
            buffer throws(FileTrustError) -> String in
            let length = buffer.withMemoryRebound(to: CChar.self) { room in
                room.baseAddress.map { readlink(link.text, $0, room.count) } ?? -1
            }
            guard length >= 0 else { throw unreachable(link.text, Errno(rawValue: errno)) }
            guard let target = String(validating: buffer.prefix(length), as: UTF8.self) else {
                throw unreachable(link.text, .illegalByteSequence)
            }
            return target
        }
        if target.utf8.first == UInt8(ascii: "/") { directory = "" }
        pending += Self.steps(of: target)
    }

    private func unreachable(_ path: String, _ errno: Errno) -> FileTrustError {
        FileTrustError(file: file, problem: .unreachable(errno), path: FilePath(path))
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
    var text: String
    /// Its file type.
    package var kind: Kind
    /// The owner's uid.
    package var owner: UInt32
    /// Permission bits, set-id bits and sticky bit, without the file type.
    package var mode: UInt32

    /// The path of the component.
    package var path: FilePath { FilePath(text) }

    /// Whether the group or others may write. A POSIX ACL appears here too: the group bits are its mask, which limits
    /// every entry.
    var isWritableByOthers: Bool { mode & 0o022 != 0 }

    /// Whether only the owner of an entry, the owner of the directory and root may rename or remove an entry.
    var isSticky: Bool { mode & 0o1000 != 0 }
}
