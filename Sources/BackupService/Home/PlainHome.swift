import EventLoop
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// Makes a home, or what an existing one lacks: the way down and the home itself root's, `incoming` and `.ssh` the account's,
/// `.snapshots` root's and last, so that its presence says that all is there. What exists is left as it is.
///
/// Every directory is made under a name of its own, gets owner and mode, and is then renamed without ever replacing: it is there as it
/// should be or not at all, also when the power fails or another account's job makes the same parent.
/// Diagnostics: code 5, or code 4 where the way to the home cannot be trusted.
struct PlainHome {
    let account: BackupAccount
    let home: HomePath
    let ownership: Ownership

    /// - Parameter makesHome: whether the home itself is made too, or must be there already.
    func complete(makesHome: Bool) throws(ProvisioningFailure) {
        let walk = try HomeWalk(to: home)
        if walk.directory == nil, !makesHome {
            throw ProvisioningFailure(
                .cannotCreateHomeDir, reason: "the home script succeeded, and there is no directory \(home.path)",
                hint: "let HOME_SCRIPT make the directory that it is given as its second argument")
        }
        if let danger = try walk.danger(ownership: ownership) {
            throw ProvisioningFailure(
                .cannotCreateHomeDir, reason: "\(home.path) \(danger)",
                hint: "let it and its .snapshots be directories that belong to root and that only root can write, "
                    + "without links of the account in .snapshots: "
                    + "the account could otherwise have root write anywhere")
        }
        do throws(HeldDirectory.Failure) {
            guard var directory = walk.deepest else { return }
            for name in walk.missing {
                directory = try make(name, in: directory, owner: nil, mode: 0o755)
            }
            _ = try make(HomeDirectory.incoming, in: directory, owner: accountOwner, mode: 0o750)
            _ = try make(HomeDirectory.ssh, in: directory, owner: accountOwner, mode: 0o700)
            _ = try make(HomeDirectory.snapshots, in: directory, owner: nil, mode: 0o755)
        } catch {
            throw explain(error)
        }
    }

    /// What `complete` would make, as a value: its words are needed by a dry run alone.
    struct Missing {
        /// The deepest directory that there is on the way to the home.
        fileprivate let deepest: FilePath
        fileprivate let way: ArraySlice<FilePath.Component>
        fileprivate let inside: [FilePath.Component]
    }

    /// - Parameter walk: to the home, as it is now.
    func missing(in walk: HomeWalk) throws(ProvisioningFailure) -> Missing {
        var inside: [FilePath.Component] = []
        do throws(HeldDirectory.Failure) {
            for name in [HomeDirectory.incoming, HomeDirectory.ssh, HomeDirectory.snapshots]
            where try walk.directory?.status(of: name) == nil {
                inside.append(name)
            }
        } catch {
            throw HomeWalk.explain(error, root: home.root)
        }
        return Missing(deepest: walk.deepest?.path ?? home.root, way: walk.missing, inside: inside)
    }

    /// A line for each directory that is missing.
    func preview(of missing: Missing) -> String {
        var lines: [String] = []
        var path = missing.deepest
        for name in missing.way {
            path = path.appending(name)
            lines.append("mkdir \(path) (0755)")
        }
        let owner = ownership == .account ? ", \(account.uidNumber):\(account.gidNumber)" : ""
        for name in missing.inside {
            let detail = [HomeDirectory.incoming: "0750\(owner)", HomeDirectory.ssh: "0700\(owner)"][name] ?? "0755"
            lines.append("mkdir \(home.path.appending(name)) (\(detail))")
        }
        return lines.joined(separator: "\n")
    }

    private var accountOwner: (uid: UInt32, gid: UInt32)? {
        ownership == .account ? (account.uidNumber, account.gidNumber) : nil
    }

    private func make(
        _ name: FilePath.Component, in parent: HeldDirectory, owner: (uid: UInt32, gid: UInt32)?, mode: UInt32
    ) throws(HeldDirectory.Failure) -> HeldDirectory {
        if try parent.status(of: name) == nil {
            let temporary = FilePath.Component.named(".new-\(account.uid)-\(name)")
            // One left over from a crash is empty. Before the parent became root's, the account may have made one with something in it.
            try parent.removeEmptyDirectory(temporary)
            _ = try parent.makeDirectory(temporary)
            try parent.directory(temporary)?.set(owner: owner, mode: mode)
            if try !parent.rename(temporary, into: parent, as: name) { try parent.removeEmptyDirectory(temporary) }
            try parent.synchronize()
        }
        guard let directory = try parent.directory(name) else {
            throw HeldDirectory.Failure(
                operation: "make", path: parent.path.appending(name), cause: .noSuchFileOrDirectory)
        }
        return directory
    }

    func explain(_ failure: HeldDirectory.Failure) -> ProvisioningFailure {
        let cause = failure.cause
        return ProvisioningFailure(
            .cannotCreateHomeDir, FailureClass(cause) ?? .permanent,
            reason: "could not \(failure.operation) \(failure.path): \(cause)",
            hint: hint(for: failure))
    }

    private func hint(for failure: HeldDirectory.Failure) -> String {
        switch failure.cause {
        case .notPermitted, .permissionDenied:
            "run the daemon as root, or set OWNERSHIP = none for trying out without root"
        case .directoryNotEmpty, .notDirectory, .tooManySymbolicLinkLevels:
            "see what \(failure.path) is, and move it away"
        default: failure.cause.shortageHint(at: home.base)
        }
    }
}

/// Makes the plain home, or, after the home script, makes sure of it and adds what it lacks.
struct PlainHomeStep: ProvisioningStep {
    let home: PlainHome
    /// Whether the home itself is made here, because no script does.
    let makesHome: Bool
    let name = "home"
    private let missing: PlainHome.Missing

    /// - Parameter walk: to the home, as it is when the plan is made.
    init(home: PlainHome, walk: HomeWalk, makesHome: Bool) throws(ProvisioningFailure) {
        self.home = home
        self.makesHome = makesHome
        missing = try home.missing(in: walk)
    }

    var preview: String {
        let directories = home.preview(of: missing)
        if makesHome { return directories }
        return "check that the script left \(home.home.path), and make what it did not:"
            + (directories.isEmpty ? " nothing" : "\n" + directories)
    }

    func perform(in attempt: RunningAttempt) async throws {
        let (home, makesHome) = (home, makesHome)
        try await BlockingWork.run { _ in try home.complete(makesHome: makesHome) }
    }
}
