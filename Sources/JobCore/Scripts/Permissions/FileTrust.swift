import Glibc
public import SystemPackage

/// Whether what root runs or believes can be trusted (row L2): nobody but root and this daemon's own user can have put it there or can change it.
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
        // Judged step by step, so that nothing below a component at fault is looked at.
        while try walk.advance() {
            let error = fault(
                in: walk.components, isComplete: walk.isComplete, file: path, as: kind, trustedOwners: trustedOwners)
            if let error { throw error }
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

    /// The decision alone: the first fault in a path, given what lstat said of its components from `/` down.
    /// - Parameter isComplete: whether the last component is what the path leads to; else there is more to come.
    static func fault(
        in components: [PathComponentStatus], isComplete: Bool = true, file: FilePath, as kind: Kind = .program,
        trustedOwners: Set<UInt32>
    ) -> FileTrustError? {
        var sharedDirectories: Set<FilePath> = []
        for (place, component) in components.enumerated() {
            let isLast = isComplete && place == components.count - 1
            let problem = problem(
                of: component, as: isLast ? kind : nil,
                isInSharedDirectory: sharedDirectories.contains(component.path.removingLastComponent()),
                trustedOwners: trustedOwners)
            if let problem {
                return FileTrustError(file: file, problem: problem, path: component.path, status: component)
            }
            if component.kind == .folder, component.isWritableByOthers { sharedDirectories.insert(component.path) }
        }
        return nil
    }

    /// - Parameter kind: what the component is to be; nil: a directory on the way.
    private static func problem(
        of component: PathComponentStatus, as kind: Kind?, isInSharedDirectory: Bool, trustedOwners: Set<UInt32>
    ) -> FileTrustError.Problem? {
        let isTrusted = trustedOwners.contains(component.owner)
        if isInSharedDirectory && !isTrusted { return .strangerInSharedDirectory(trusted: trustedOwners.sorted()) }
        switch (component.kind, kind) {
        case (.link, _): return nil
        case (.folder, nil), (.folder, .directory), (.file, .program), (.file, .file), (.file, .pythonScript):
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
