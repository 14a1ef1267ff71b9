import Glibc
public import SystemPackage

/// Why a script is not trusted (row L2): which component on the way to it is at fault, and the command that mends it.
public struct ScriptPermissionError: Error, Hashable, Sendable {
    /// Which rule is not kept.
    public enum Problem: Hashable, Sendable {
        /// The path does not begin at the root.
        case notAbsolute
        /// The component cannot be examined.
        case unreachable(Errno)
        /// The links lead in a circle, or so it seems.
        case tooManyLinks
        /// A component above the script is no folder.
        case notAFolder
        /// The script is no regular file.
        case notAFile
        /// Nobody may execute the script.
        case notExecutable
        /// Neither of these may be the owner: the numbers are the trusted ones.
        case wrongOwner(trusted: [UInt32])
        /// Somebody besides the owner may write to it.
        case writable
        /// A folder with the sticky bit that everybody may write to holds a link or file that belongs to somebody not trusted.
        case strangerInSharedFolder(trusted: [UInt32])
    }

    /// The script that was asked for.
    public var script: FilePath
    /// Which rule is not kept.
    public var problem: Problem
    /// The component at fault.
    public var path: FilePath
    /// As lstat found it; nil when it could not be examined.
    public var status: PathComponentStatus?

    /// A fault as ``ScriptPermissions`` finds it.
    public init(script: FilePath, problem: Problem, path: FilePath, status: PathComponentStatus? = nil) {
        self.script = script
        self.problem = problem
        self.path = path
        self.status = status
    }

    /// What another try can be expected to bring.
    package var failureClass: FailureClass {
        if case .unreachable(let errno) = problem, errno.isShortage { .shortage } else { .configuration }
    }
}

extension ScriptPermissionError: CustomStringConvertible {
    /// `component (on the way to script): reason [owner, mode]; cure`
    public var description: String {
        let place = path == script ? "" : " (on the way to \(script.printable))"
        let facts = status.map { " [owner \(Self.name(ofUser: $0.owner)), mode \(Self.octal($0.mode))]" } ?? ""
        return "\(path.printable)\(place): \(reason)\(facts); \(cure)"
    }

    private var reason: String {
        switch problem {
        case .notAbsolute: "the path of a script must be absolute"
        case .unreachable(let errno): "cannot be examined: \(errno) (errno \(errno.rawValue))"
        case .tooManyLinks: "more than \(ScriptPermissions.largestNumberOfLinks) symbolic links"
        case .notAFolder: "is no folder"
        case .notAFile: "is no regular file"
        case .notExecutable: "is not executable"
        case .wrongOwner(let trusted): "does not belong to \(Self.names(ofUsers: trusted))"
        case .writable: "can be written by others than its owner"
        case .strangerInSharedFolder(let trusted):
            "lies in a folder that others can write to, and does not belong to \(Self.names(ofUsers: trusted))"
        }
    }

    /// What mends it, ready to be copied into a shell.
    public var cure: String {
        let word = path.shellWord
        return switch problem {
        case .notAbsolute: "give the whole path, beginning with /"
        case .unreachable(let errno) where errno.isShortage:
            errno.shortageHint(at: script.removingLastComponent())
        case .unreachable: "see what is there: namei -l \(script.shellWord)"
        case .tooManyLinks: "see where they lead: namei -l \(script.shellWord)"
        case .notAFolder, .notAFile: "correct the setting that names it: ls -ld \(word)"
        case .notExecutable: "chmod u+x \(word)"
        case .wrongOwner: "chown root \(word)"
        case .strangerInSharedFolder: "move the script to a folder of root's, or: chown -h root \(word)"
        case .writable: "chmod go-w \(word)"
        }
    }

    private static func octal(_ mode: UInt32) -> String {
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
