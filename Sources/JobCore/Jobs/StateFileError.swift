public import SystemPackage

/// A file of the state folder that could not be read or written.
public struct StateFileError: Error, Hashable, Sendable {
    /// What was tried: "read", "write", "set aside" or "remove".
    public var operation: String
    /// The file itself, also where a draft beside it or its folder was at fault.
    public var path: FilePath
    /// What the kernel said.
    public var errno: Errno

    init(_ operation: String, _ path: FilePath, _ error: any Error) {
        self.operation = operation
        self.path = path
        self.errno = error as? Errno ?? .ioError
    }
}

extension StateFileError: CustomStringConvertible {
    /// What failed, where, and what mends it.
    public var description: String {
        "\(path.printable): cannot \(operation): \(errno) (errno \(errno.rawValue)); \(cure)"
    }

    /// What mends it.
    public var cure: String {
        let folder = path.removingLastComponent().shellWord
        return switch errno {
        case _ where errno.isShortage || errno == .diskQuotaExceeded:
            errno.shortageHint(at: path.removingLastComponent())
        case .noSuchFileOrDirectory: "create the folder: mkdir -p \(folder)"
        default: "see that the daemon's user may write there: ls -ld \(folder) \(path.shellWord)"
        }
    }
}
