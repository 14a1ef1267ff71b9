import Glibc
public import SystemPackage

/// Whether a script can be trusted (row L2): nobody but root and this daemon's own user can have put it there or can change it.
///
/// The rules, for every component from `/` down, links followed by hand:
/// - A folder belongs to a trusted owner, and neither its group nor others can write to it.
/// - Except a folder with the sticky bit (such as `/tmp`): others may write to it when the next component belongs to a trusted owner. Only the
///   owner of an entry, the owner of the folder (trusted as well) and root can rename or remove an entry of such a folder, so a
///   stranger can neither replace ours nor have put a link of his own there. (A hard link to a file of root's he could have made where the kernel's
///   `fs.protected_hardlinks` is off, which is not the default.)
/// - A symbolic link is as good as the folder that holds it: its own mode means nothing. What it leads to is checked in the same way, from where
///   it begins.
/// - The script is a regular file of a trusted owner, executable for us, and not writable by group or others.
///
/// To check first and to run afterwards is safe here: when the check passes, only trusted owners can change any component, then and later. What the script
/// itself runs, its interpreter included, is the owner's business.
public enum ScriptPermissions {
    /// As many as the kernel follows (path_resolution(7)).
    static let largestNumberOfLinks = 40

    /// Root, and the user as whom this process acts.
    public static var usualOwners: Set<UInt32> { [0, geteuid()] }

    /// Checks every component of the way to a script. It waits for the file systems it looks at.
    /// - Parameters:
    ///   - path: the script's absolute path.
    ///   - trustedOwners: the numbers of the users that may own the script and the folders above it.
    ///   - mustBeExecutable: false for a script that is only read, by an interpreter that is named elsewhere.
    /// - Returns: the script as it was found, for the history.
    /// - Throws: ``ScriptPermissionError`` for the first component at fault, from `/` down.
    public static func check(
        _ path: FilePath, trustedOwners: Set<UInt32> = usualOwners, mustBeExecutable: Bool = true
    ) throws(ScriptPermissionError) -> ScriptIdentity {
        guard path.isAbsolute else { throw ScriptPermissionError(script: path, problem: .notAbsolute, path: path) }
        var walk = ScriptPathWalk(script: path)
        // Judged step by step, so that nothing below a component at fault is looked at.
        while try walk.advance() {
            let error = fault(
                in: walk.components, isComplete: walk.isComplete, script: path, trustedOwners: trustedOwners)
            if let error { throw error }
        }
        if let error = fault(in: walk.components, script: path, trustedOwners: trustedOwners) { throw error }
        return try walk.identity(mustBeExecutable: mustBeExecutable)
    }

    /// The decision alone: the first fault in a path, given what lstat said of its components from `/` down.
    /// - Parameter isComplete: whether the last component is the script; else there is more to come.
    static func fault(
        in components: [PathComponentStatus], isComplete: Bool = true, script: FilePath, trustedOwners: Set<UInt32>
    ) -> ScriptPermissionError? {
        var sharedFolders: Set<FilePath> = []
        for (place, component) in components.enumerated() {
            let problem = problem(
                of: component, isScript: isComplete && place == components.count - 1,
                isInSharedFolder: sharedFolders.contains(component.path.removingLastComponent()),
                trustedOwners: trustedOwners)
            if let problem {
                return ScriptPermissionError(script: script, problem: problem, path: component.path, status: component)
            }
            if component.kind == .folder, component.isWritableByOthers { sharedFolders.insert(component.path) }
        }
        return nil
    }

    private static func problem(
        of component: PathComponentStatus, isScript: Bool, isInSharedFolder: Bool, trustedOwners: Set<UInt32>
    ) -> ScriptPermissionError.Problem? {
        let isTrusted = trustedOwners.contains(component.owner)
        if isInSharedFolder && !isTrusted { return .strangerInSharedFolder(trusted: trustedOwners.sorted()) }
        switch component.kind {
        case .link:
            return nil
        case .folder where !isScript:
            if !isTrusted { return .wrongOwner(trusted: trustedOwners.sorted()) }
            return component.isWritableByOthers && !component.isSticky ? .writable : nil
        case .file where isScript:
            if !isTrusted { return .wrongOwner(trusted: trustedOwners.sorted()) }
            return component.isWritableByOthers ? .writable : nil
        case .folder, .file, .other:
            return isScript ? .notAFile : .notAFolder
        }
    }
}
