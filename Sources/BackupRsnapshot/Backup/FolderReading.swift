import CLinux
import Glibc
import SystemPackage

/// A folder below another, opened to be read name by name: however many files it has, one is in memory.
///
/// No symbolic link leads to it and no mount lies between. Diagnostics: `HeldFolder.Failure`.
final class FolderReading {
    /// Owner, size and the like of the folder itself.
    let status: stat
    private let stream: OpaquePointer
    private let path: FilePath

    /// - Parameters:
    ///   - path: below the folder; empty for the folder itself.
    /// - Returns: nil where there is no such folder: gone, replaced by something else, or on another file system.
    init?(_ path: [UInt8], below top: HeldFolder) throws(HeldFolder.Failure) {
        self.path = path.isEmpty ? top.path : FilePath("\(top.path)/\(String(decoding: path, as: UTF8.self))")
        let text = (path.isEmpty ? [UInt8(ascii: ".")] : path).map(CChar.init(bitPattern:)) + [0]
        let descriptor = clinux_openat2(
            top.descriptor, text, UInt64(O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0,
            CLINUX_RESOLVE_BENEATH | CLINUX_RESOLVE_NO_SYMLINKS | CLINUX_RESOLVE_NO_MAGICLINKS | CLINUX_RESOLVE_NO_XDEV)
        guard descriptor >= 0 else {
            let cause = Errno(rawValue: errno)
            if HeldFolder.isElsewhere(cause) { return nil }
            throw HeldFolder.Failure(operation: "open", path: self.path, cause: cause)
        }
        var found = stat()
        guard fstat(descriptor, &found) == 0, let stream = fdopendir(descriptor) else {
            let cause = Errno(rawValue: errno)
            close(descriptor)
            throw HeldFolder.Failure(operation: "read", path: self.path, cause: cause)
        }
        self.stream = stream
        status = found
    }

    deinit { closedir(stream) }

    /// The next name with what stands there, links not followed; nil at the end. Names that go meanwhile are left out.
    func next() throws(HeldFolder.Failure) -> (name: [CChar], status: stat)? {
        while true {
            errno = 0
            guard let item = readdir(stream) else {
                guard errno == 0 else { throw failure("read") }
                return nil
            }
            let name = Self.name(of: item)
            if name == [0x2e, 0] || name == [0x2e, 0x2e, 0] { continue }
            var status = stat()
            if fstatat(dirfd(stream), name, &status, AT_SYMLINK_NOFOLLOW) == 0 { return (name, status) }
            guard errno == ENOENT else { throw failure("examine what lies in") }
        }
    }

    private func failure(_ operation: String) -> HeldFolder.Failure {
        HeldFolder.Failure(operation: operation, path: path, cause: Errno(rawValue: errno))
    }

    /// The bytes, with the NUL that closes them.
    private static func name(of item: UnsafeMutablePointer<dirent>) -> [CChar] {
        withUnsafePointer(to: &item.pointee.d_name) { field in
            field.withMemoryRebound(to: CChar.self, capacity: 256) { text in
                Array(UnsafeBufferPointer(start: text, count: strlen(text) + 1))
            }
        }
    }
}

extension HeldFolder {
    /// Whether a folder could not be opened because it is no part of the tree: gone, no folder any more, or on another file system.
    static func isElsewhere(_ cause: Errno) -> Bool {
        [.noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels, .improperLink].contains(cause)
    }
}
