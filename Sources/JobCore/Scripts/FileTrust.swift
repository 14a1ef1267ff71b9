import EventLoop
import Glibc
public import SystemPackage

/// Checks that only root and the daemon's own user can have created or can change a file that root runs or reads
/// (specification: rows.md L2).
///
/// The rules, for every component from `/` down, with symbolic links followed explicitly:
/// - A directory belongs to a trusted owner, and neither its group nor others can write to it.
/// - Exception: others may write to a directory with the sticky bit (such as `/tmp`) on the way if the next component
///   belongs to a trusted owner. Only the owner of an entry, the owner of the directory (also trusted) and root can
///   rename or remove an entry there, so no other user can replace our entry or have created a symbolic link in its
///   place. (A hard link to a file of root is possible if the kernel's `fs.protected_hardlinks` is off, which is not
///   the default.)
/// - A symbolic link is as safe as the directory that contains it; its own mode is irrelevant. Its target is checked
///   in the same way.
/// - The file is a regular one of a trusted owner, not writable by group or others, and executable for us if it is a
///   program.
///
/// Checking first and using the file afterwards is safe: when the check passes, only trusted owners can change any
/// component, then and later. Programs that the file itself runs, including its interpreter, are its owner's
/// responsibility.
public enum FileTrust {
    /// The required kind of a path.
    public enum Kind: Hashable, Sendable {
        /// A regular file that is executed.
        case program
        /// A regular file that is read.
        case file
        /// A directory whose entries must be trusted.
        case directory
        /// A regular file that Python reads; everything that can be imported from its directory is checked too.
        case pythonScript
    }

    /// Root and the user of this process.
    package static let usualOwners: Set<UInt32> = [0, geteuid()]

    /// Checks every component of the path. It blocks.
    /// - Parameters:
    ///   - path: absolute.
    ///   - kind: the required kind.
    ///   - trustedOwners: the uids that may own the file and the directories above it.
    /// - Returns: the path without symbolic links.
    /// - Throws: ``FileTrustError`` for the first faulty component from `/` down.
    @discardableResult
    package static func check(
        _ path: FilePath, as kind: Kind = .program, trustedOwners: Set<UInt32> = usualOwners
    ) throws(FileTrustError) -> FilePath {
        guard path.isAbsolute else { throw FileTrustError(file: path, problem: .notAbsolute, path: path) }
        var walk = try PathWalk(to: path)
        var judge = Judge(file: path, kind: kind, trustedOwners: trustedOwners)
        // Step by step, so that nothing below a faulty component is examined.
        while let component = try walk.advance() {
            if let error = judge.fault(in: component, isLast: walk.isComplete) { throw error }
        }
        let resolved = try walk.resolvedPath(mustBeExecutable: kind == .program)
        if kind == .pythonScript {
            try checkPythonModules(in: path.removingLastComponent(), trustedOwners: trustedOwners)
        }
        return resolved
    }

    /// Checks every component of the path, on a thread for blocking work.
    /// - Throws: ``FileTrustError`` for the first faulty component from `/` down.
    public static func checkInBackground(_ path: FilePath, as kind: Kind = .program) async throws(FileTrustError) {
        try await BlockingWork.run { () throws(FileTrustError) in _ = try check(path, as: kind) }
    }

    /// The decision, given the lstat results of the components of a path from `/` down.
    struct Judge {
        let file: FilePath
        let kind: Kind
        let trustedOwners: Set<UInt32>
        private var sharedDirectories: Set<FilePath> = []

        init(file: FilePath, kind: Kind, trustedOwners: Set<UInt32>) {
            (self.file, self.kind, self.trustedOwners) = (file, kind, trustedOwners)
        }

        /// - Parameter isLast: whether the component is the target of the path.
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

    /// - Parameter kind: the required kind; nil: a directory on the way.
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

/// A path that this process runs or reads with root's rights, with its name in the settings.
package struct TrustedPath: Hashable, Sendable {
    /// The name of the setting or program.
    package let subject: String
    /// Absolute.
    package let path: FilePath
    /// The required kind.
    package let kind: FileTrust.Kind

    package init(_ subject: String, _ path: FilePath, _ kind: FileTrust.Kind) {
        self.subject = subject
        self.path = path
        self.kind = kind
    }

    /// Why it must not be used. nil also if it does not exist or is not executable, which its user reports. It
    /// blocks.
    package var fault: FileTrustError? {
        do {
            try FileTrust.check(path, as: kind)
            return nil
        } catch {
            return error.file == path && (error.isAbsent || error.problem == .notExecutable) ? nil : error
        }
    }
}

/// Why a path is not trusted (specification: rows.md L2): the faulty component and the command that fixes it.
public struct FileTrustError: Error, Hashable, Sendable {
    /// The violated rule.
    package enum Problem: Hashable, Sendable {
        /// The path is not absolute.
        case notAbsolute
        /// The component cannot be examined.
        case unreachable(Errno)
        /// Too many symbolic links, probably a cycle.
        case tooManyLinks
        /// A component on the way, or a required directory, is not a directory.
        case notADirectory
        /// A required regular file is not one.
        case notAFile
        /// The program is not executable.
        case notExecutable
        /// The owner is not one of the trusted uids.
        case wrongOwner(trusted: [UInt32])
        /// Others than the owner can write to it.
        case writable
        /// It is in a directory with the sticky bit that others can write to, and its owner is not trusted.
        case strangerInSharedDirectory(trusted: [UInt32])
        /// More files than are checked can be imported.
        case tooManyFiles(limit: Int)
    }

    /// The path that was checked.
    package var file: FilePath
    /// The violated rule.
    package var problem: Problem
    /// The faulty component.
    package var path: FilePath
    /// Its lstat result; nil if it could not be examined.
    package var status: PathComponentStatus?

    /// Errors of lstat that a retry does not fix. Others concern the file system, which may recover (NFS).
    private static let wrongPaths: Set<Errno> = [
        .noSuchFileOrDirectory, .notDirectory, .illegalByteSequence, .tooManySymbolicLinkLevels, .fileNameTooLong,
        .permissionDenied,
        .notPermitted,
    ]

    /// Whether a retry may help.
    public var failureClass: FailureClass {
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

    /// The description without the hint.
    package var finding: String {
        "\(path.printable)\(path == file ? "" : " (on the way to \(file.printable))"): \(reason)\(facts)"
    }

    /// The finding for a message that begins with the file.
    package var findingOfFile: String {
        path == file ? reason + facts : "\(path.printable), on the way to it, \(reason)\(facts)"
    }

    private var facts: String {
        status.map { " [owner \(Self.name(ofUser: $0.owner)), mode \(Self.octal($0.mode))]" } ?? ""
    }

    /// Whether the path does not exist.
    package var isAbsent: Bool { problem == .unreachable(.noSuchFileOrDirectory) }

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
            "is in a directory that others can write to, and does not belong to \(Self.names(ofUsers: trusted))"
        case .tooManyFiles(let limit): "contains more than \(limit) files that Python can import"
        }
    }

    /// How to fix it; a command can be copied into a shell.
    package var hint: String {
        let word = path.shellWord
        return switch problem {
        case .notAbsolute: "write the absolute path, beginning with /"
        case .unreachable(let errno) where errno.isShortage:
            errno.shortageHint(at: file.removingLastComponent())
        case .unreachable(.noSuchFileOrDirectory) where file.string.contains(" "):
            "a script gets no arguments, so name one that calls it with them; or check each component: namei -l \(file.shellWord)"
        case .unreachable: "check each component: namei -l \(file.shellWord)"
        case .tooManyLinks: "check each link: namei -l \(file.shellWord)"
        case .notADirectory, .notAFile: "correct the setting that names it: ls -ld \(word)"
        case .notExecutable: "chmod u+x \(word)"
        case .wrongOwner: "chown root \(word)"
        case .strangerInSharedDirectory: "move it to a directory of root, or: chown -h root \(word)"
        case .writable: "chmod go-w \(word)"
        case .tooManyFiles: "keep only handlers and their modules there"
        }
    }

    /// A mode as for chmod, with four digits or more.
    package static func octal(_ mode: UInt32) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    private static func names(ofUsers numbers: [UInt32]) -> String {
        numbers.isEmpty ? "a trusted user" : numbers.sorted().map(name(ofUser:)).joined(separator: " or ")
    }

    /// Without a look into the user database, which may not answer.
    private static func name(ofUser number: UInt32) -> String { number == 0 ? "root" : "uid \(number)" }
}

extension FileTrust {
    /// More than any site has.
    private static let mostPythonFiles = 10_000
    private static let pythonSuffixes = [".py", ".pyc", ".so"]

    /// Checks everything that Python can import from a directory (sys.path): sources, compiled files and extensions of
    /// any name, because `importlib.import_module` accepts names that are not identifiers, and directories, each of which
    /// is a package even without `__init__.py`. No module name begins with a dot, and no package name contains one.
    /// - Throws: ``FileTrustError`` for the first file that others could change.
    private static func checkPythonModules(in directory: FilePath, trustedOwners: Set<UInt32>) throws(FileTrustError) {
        var pending = [directory]
        var seen: Set<FilePath> = []
        while let next = pending.popLast() {
            let resolved = try check(next, as: .directory, trustedOwners: trustedOwners)
            guard seen.insert(resolved).inserted else { continue }
            for name in try names(in: next) where !name.hasPrefix(".") {
                guard seen.count + pending.count <= mostPythonFiles else {
                    throw FileTrustError(file: directory, problem: .tooManyFiles(limit: mostPythonFiles), path: next)
                }
                let path = next.appending(name)
                if !name.contains("."), isDirectory(path) {
                    pending.append(path)
                } else if pythonSuffixes.contains(where: { name.hasSuffix($0) }) {
                    seen.insert(try check(path, as: .file, trustedOwners: trustedOwners))
                }
            }
        }
    }

    private static func isDirectory(_ path: FilePath) -> Bool {
        var status = stat()
        return stat(path.string, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    private static func names(in directory: FilePath) throws(FileTrustError) -> [String] {
        do throws(Errno) { return try directory.entries().map(\.name) } catch .noSuchFileOrDirectory {
            return []
        } catch {
            throw FileTrustError(file: directory, problem: .unreachable(error), path: directory)
        }
    }
}
