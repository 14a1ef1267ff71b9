import Glibc
import JobCore
package import SystemPackage

/// Makes sure that a directory of the daemon's own is there and that nobody else can meddle with it.
package enum RuntimeDirectory {
    /// Creates the directory with its parents when it is missing, and checks it when it is there.
    ///
    /// - Parameters:
    ///   - path: absolute.
    ///   - mode: of a directory that is created, whatever the umask; one that exists keeps its own.
    /// - Throws: when it cannot be made, is no directory, or others could change it or a directory above it.
    package static func prepare(_ path: FilePath, mode: UInt32 = 0o755) throws(RuntimeDirectoryError) {
        guard path.isAbsolute else {
            throw RuntimeDirectoryError(path, "is not an absolute path", hint: "write it from /")
        }
        try create(path.lexicallyNormalized(), mode: mode)
        do throws(FileTrustError) {
            try FileTrust.check(path, as: .directory)
        } catch {
            throw RuntimeDirectoryError(path, error.findingOfFile, hint: error.hint)
        }
        guard access(path.string, W_OK | X_OK) == 0 else {
            throw RuntimeDirectoryError(path, "cannot be written", errno)
        }
    }

    private static func create(_ path: FilePath, mode: UInt32) throws(RuntimeDirectoryError) {
        if mkdir(path.string, mode) == 0 {
            guard chmod(path.string, mode) == 0 else {
                throw RuntimeDirectoryError(path, "cannot be given its mode", errno)
            }
            return
        }
        switch errno {
        case EEXIST: return
        case ENOENT where path.removingLastComponent() != path:
            try create(path.removingLastComponent(), mode: 0o755)
            guard mkdir(path.string, mode) == 0 || errno == EEXIST, chmod(path.string, mode) == 0 else {
                throw RuntimeDirectoryError(path, "cannot be created", errno)
            }
        case let code: throw RuntimeDirectoryError(path, "cannot be created", code)
        }
    }
}

/// Why a directory cannot serve.
package struct RuntimeDirectoryError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The directory.
    package let path: FilePath
    /// What is wrong and what to do about it.
    package let reason: String
    private let code: Int32

    fileprivate init(_ path: FilePath, _ reason: String, hint: String) {
        self.path = path
        self.reason = "\(reason); \(hint)"
        code = 0
    }

    fileprivate init(_ path: FilePath, _ reason: String, _ code: Int32) {
        self.path = path
        self.reason =
            "\(reason): \(Errno(rawValue: code)); let the daemon's user write there, or name another directory"
        self.code = code
    }

    /// The directory, what is wrong with it, and the hint.
    package var description: String { "\(path): \(reason)" }

    /// What the process ends with.
    package var exitStatus: ProcessExitStatus {
        [EACCES, EPERM, EROFS].contains(code) ? .notAllowed : .wrongConfiguration
    }
}
