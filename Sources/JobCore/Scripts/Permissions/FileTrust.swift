import EventLoop
import Glibc
public import SystemPackage

/// Whether what root runs or believes can be trusted (specification: rows.md L2): nobody but root and this daemon's own user can have put it there or can change it.
///
/// The rules, for every component from `/` down, links followed by hand:
/// - A directory belongs to a trusted owner, and neither its group nor others can write to it.
/// - Except a directory with the sticky bit (such as `/tmp`) on the way: others may write to it when the next component belongs to a trusted
///   owner. Only the owner of an entry, the owner of the directory (trusted as well) and root can rename or remove an entry there, so a
///   stranger can neither replace ours nor have put a link of his own there. (A hard link to a file of root's he could have made where the kernel's
///   `fs.protected_hardlinks` is off, which is not the default.)
/// - A symbolic link is as good as the directory that holds it: its own mode means nothing. What it leads to is checked in the same way, from where
///   it begins.
/// - The file is a regular one of a trusted owner, not writable by group or others, and executable for us when it is a program.
///
/// To check first and to use afterwards is safe here: when the check passes, only trusted owners can change any component, then and later. What a program
/// itself runs, its interpreter included, is the owner's business.
public enum FileTrust {
    /// What a path is to lead to.
    public enum Kind: Hashable, Sendable {
        /// A regular file that is executed.
        case program
        /// A regular file that is read.
        case file
        /// A directory whose entries are believed to be ours.
        case directory
        /// A regular file that Python reads, with everything that can be imported from its directory.
        case pythonScript
    }

    /// Root, and the user as whom this process acts.
    public static var usualOwners: Set<UInt32> { [0, geteuid()] }

    /// Checks every component of the way to a file or directory. It waits for the file systems it looks at.
    /// - Parameters:
    ///   - path: absolute.
    ///   - kind: what it is to be.
    ///   - trustedOwners: the numbers of the users that may own it and the directories above it.
    /// - Returns: it as it was found, for the history.
    /// - Throws: ``FileTrustError`` for the first component at fault, from `/` down.
    @discardableResult
    public static func check(
        _ path: FilePath, as kind: Kind = .program, trustedOwners: Set<UInt32> = usualOwners
    ) throws(FileTrustError) -> ScriptIdentity {
        guard path.isAbsolute else { throw FileTrustError(file: path, problem: .notAbsolute, path: path) }
        var walk = PathWalk(to: path)
        var judge = Judge(file: path, kind: kind, trustedOwners: trustedOwners)
        // Judged step by step, so that nothing below a component at fault is looked at.
        while let component = try walk.advance() {
            if let error = judge.fault(in: component, isLast: walk.isComplete) { throw error }
        }
        let identity = try walk.identity(mustBeExecutable: kind == .program)
        if kind == .pythonScript {
            try PythonModules.check(in: path.removingLastComponent(), trustedOwners: trustedOwners)
        }
        return identity
    }

    /// The same for tasks, whose threads must not wait for a file system.
    @discardableResult
    package static func checkInBackground(_ path: FilePath, as kind: Kind = .program) async throws(FileTrustError)
        -> ScriptIdentity
    {
        try await BlockingWork.run { () -> Result<ScriptIdentity, FileTrustError> in
            do throws(FileTrustError) { return .success(try check(path, as: kind)) } catch { return .failure(error) }
        }.get()
    }

    /// The decision alone, given what lstat said of the components of a path from `/` down.
    struct Judge {
        let file: FilePath
        let kind: Kind
        let trustedOwners: Set<UInt32>
        private var sharedDirectories: Set<FilePath> = []

        init(file: FilePath, kind: Kind, trustedOwners: Set<UInt32>) {
            (self.file, self.kind, self.trustedOwners) = (file, kind, trustedOwners)
        }

        /// - Parameter isLast: whether the component is what the path leads to; else there is more to come.
        mutating func fault(in component: PathComponentStatus, isLast: Bool) -> FileTrustError? {
            let isInSharedDirectory =
                !sharedDirectories.isEmpty && sharedDirectories.contains(component.path.removingLastComponent())
            if component.kind == .directory, component.isWritableByOthers { sharedDirectories.insert(component.path) }
            return FileTrust.problem(
                of: component, as: isLast ? kind : nil, isInSharedDirectory: isInSharedDirectory,
                trustedOwners: trustedOwners
            ).map { FileTrustError(file: file, problem: $0, path: component.path, status: component) }
        }
    }

    /// - Parameter kind: what the component is to be; nil: a directory on the way.
    private static func problem(
        of component: PathComponentStatus, as kind: Kind?, isInSharedDirectory: Bool, trustedOwners: Set<UInt32>
    ) -> FileTrustError.Problem? {
        let isTrusted = trustedOwners.contains(component.owner)
        if isInSharedDirectory && !isTrusted { return .strangerInSharedDirectory(trusted: trustedOwners.sorted()) }
        switch (component.kind, kind) {
        case (.link, _): return nil
        case (.directory, nil), (.directory, .directory), (.file, .program), (.file, .file), (.file, .pythonScript):
            if !isTrusted { return .wrongOwner(trusted: trustedOwners.sorted()) }
            let isShared = kind == nil && component.isSticky
            return component.isWritableByOthers && !isShared ? .writable : nil
        case (_, nil), (_, .directory): return .notADirectory
        case (_, .program), (_, .file), (_, .pythonScript): return .notAFile
        }
    }
}

/// One thing that this process runs or believes, under the name that the settings have for it.
public struct TrustedPath: Hashable, Sendable {
    /// A setting, or a program's name.
    public let subject: String
    /// Absolute.
    public let path: FilePath
    /// What it is to be.
    public let kind: FileTrust.Kind

    /// One thing that is run or believed.
    public init(_ subject: String, _ path: FilePath, _ kind: FileTrust.Kind) {
        self.subject = subject
        self.path = path
        self.kind = kind
    }

    /// Why it must not be used; nil also when it is not there or cannot be executed, which is for its user to say. It waits for the file system.
    public var fault: FileTrustError? {
        do {
            try FileTrust.check(path, as: kind)
            return nil
        } catch {
            return error.file == path && (error.isAbsent || error.problem == .notExecutable) ? nil : error
        }
    }
}

/// Why a file or directory is not trusted (specification: rows.md L2): which component on the way to it is at fault, and the command that fixes it.
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
    /// `component (on the way to file): reason [owner, mode]; hint`
    public var description: String { "\(finding); \(hint)" }

    /// The same without the hint.
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
    public var hint: String {
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
