import Glibc
public import SystemPackage

/// Why a file or directory is not trusted (row L2): which component on the way to it is at fault, and the command that fixes it.
public struct FileTrustError: Error, Hashable, Sendable {
    /// Which rule is not kept.
    public enum Problem: Hashable, Sendable {
        /// The path does not begin at the root.
        case notAbsolute
        /// The component cannot be examined.
        case unreachable(Errno)
        /// The links lead in a circle, or so it seems.
        case tooManyLinks
        /// A component on the way, or what is to be a directory, is none.
        case notADirectory
        /// What is to be a regular file is none.
        case notAFile
        /// Nobody may execute the program.
        case notExecutable
        /// Neither of these may be the owner: the numbers are the trusted ones.
        case wrongOwner(trusted: [UInt32])
        /// Somebody besides the owner may write to it.
        case writable
        /// A directory with the sticky bit that others may write to holds something that belongs to somebody not trusted.
        case strangerInSharedDirectory(trusted: [UInt32])
        /// So many files can be imported that they are not all looked at.
        case tooManyFiles(limit: Int)
    }

    /// The file or directory that was asked for.
    public var file: FilePath
    /// Which rule is not kept.
    public var problem: Problem
    /// The component at fault.
    public var path: FilePath
    /// As lstat found it; nil when it could not be examined.
    public var status: PathComponentStatus?

    /// What lstat says of a path that no other try makes better. Else it is the file system, which may come back (NFS).
    private static let wrongPaths: Set<Errno> = [
        .noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels, .fileNameTooLong, .permissionDenied,
        .notPermitted,
    ]

    /// What another try can be expected to bring.
    package var failureClass: FailureClass {
        switch problem {
        case .unreachable(let errno) where errno.isShortage: .shortage
        case .unreachable(let errno) where !Self.wrongPaths.contains(errno): .retryable
        default: .configuration
        }
    }
}

extension FileTrustError: CustomStringConvertible {
    /// `component (on the way to file): reason [owner, mode]; cure`
    public var description: String { "\(finding); \(cure)" }

    /// The same without the cure.
    public var finding: String {
        "\(path.printable)\(path == file ? "" : " (on the way to \(file.printable))"): \(reason)\(facts)"
    }

    /// The same for a message that begins with the file.
    public var findingOfFile: String {
        path == file ? reason + facts : "\(path.printable), on the way to it, \(reason)\(facts)"
    }

    private var facts: String {
        status.map { " [owner \(Self.name(ofUser: $0.owner)), mode \(Self.octal($0.mode))]" } ?? ""
    }

    /// Nothing is there.
    public var isAbsent: Bool { problem == .unreachable(.noSuchFileOrDirectory) }

    private var reason: String {
        switch problem {
        case .notAbsolute: "is not an absolute path"
        case .unreachable(let errno): "cannot be examined: \(errno) (errno \(errno.rawValue))"
        case .tooManyLinks: "more than \(PathWalk.largestNumberOfLinks) symbolic links"
        case .notADirectory: "is not a directory"
        case .notAFile: "is not a regular file"
        case .notExecutable: "is not executable"
        case .wrongOwner(let trusted): "does not belong to \(Self.names(ofUsers: trusted))"
        case .writable: "can be written by others than its owner"
        case .strangerInSharedDirectory(let trusted):
            "lies in a directory that others can write to, and does not belong to \(Self.names(ofUsers: trusted))"
        case .tooManyFiles(let limit): "holds more than \(limit) files that Python can import"
        }
    }

    /// What fixes it, ready to be copied into a shell where it is a command.
    public var cure: String {
        let word = path.shellWord
        return switch problem {
        case .notAbsolute: "give the whole path, beginning with /"
        case .unreachable(let errno) where errno.isShortage:
            errno.shortageHint(at: file.removingLastComponent())
        case .unreachable: "see what is there: namei -l \(file.shellWord)"
        case .tooManyLinks: "see where they lead: namei -l \(file.shellWord)"
        case .notADirectory, .notAFile: "correct the setting that names it: ls -ld \(word)"
        case .notExecutable: "chmod u+x \(word)"
        case .wrongOwner: "chown root \(word)"
        case .strangerInSharedDirectory: "move it to a directory of root's, or: chown -h root \(word)"
        case .writable: "chmod go-w \(word)"
        case .tooManyFiles: "keep only handlers and their modules there"
        }
    }

    /// A mode as chmod takes it, of four digits or more.
    package static func octal(_ mode: UInt32) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    private static func names(ofUsers numbers: [UInt32]) -> String {
        numbers.isEmpty ? "anybody trusted" : numbers.sorted().map(name(ofUser:)).joined(separator: " or ")
    }

    /// `alice (1000)`, or `1000` when the user database does not know the number.
    private static func name(ofUser number: UInt32) -> String {
        var user = passwd()
        var found: UnsafeMutablePointer<passwd>?
        // Names of some directories are long, and the entry holds the home and the real name as well.
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64 * 1024) { buffer in
            guard let start = buffer.baseAddress, getpwuid_r(number, &user, start, buffer.count, &found) == 0,
                found != nil,
                let name = user.pw_name
            else { return String(number) }
            return "\(String(cString: name)) (\(number))"
        }
    }
}
