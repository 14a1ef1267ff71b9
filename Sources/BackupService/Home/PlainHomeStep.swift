import EventLoop
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// Makes a home, or what an existing one lacks: the directories down to the home and the home itself for root, `incoming` and `.ssh` for the
/// account, `.snapshots` for root and last, so that its presence means that the home is complete. What exists is not changed.
///
/// A directory is made under a temporary name, gets owner and mode, and is then renamed without replacing anything: after a crash, or if another
/// job makes the same parent, it is complete or absent.
/// Errors: code 5; code 4 if the directories above the home cannot be trusted.
struct PlainHomeStep: ProvisioningStep {
    let account: BackupAccount
    let home: HomePath
    let ownership: Ownership
    /// Whether the home itself is made here; if not, the home script has made it.
    let makesHome: Bool
    let name = "home"

    /// It reads the disk.
    var preview: String {
        let lines: [String]
        do { lines = try missingDirectories() } catch { return "the home cannot be examined: \(error)" }
        if makesHome { return lines.joined(separator: "\n") }
        return "check that the script left \(home.path), and make what it did not:"
            + (lines.isEmpty ? " nothing" : "\n" + lines.joined(separator: "\n"))
    }

    private func missingDirectories() throws -> [String] {
        let walk = try HomeWalk(to: home, isTakenOver: true)
        var lines: [String] = []
        var path = walk.deepest?.path ?? home.root
        for name in walk.missing {
            path = path.appending(name)
            lines.append("mkdir \(path) (0755)")
        }
        for (name, owner, mode) in contents where try walk.directory?.status(of: name) == nil {
            let owner = owner.map { ", \($0.uid):\($0.gid)" } ?? ""
            lines.append("mkdir \(home.path.appending(name)) (\(FileTrustError.octal(mode))\(owner))")
        }
        return lines
    }

    /// The directories in the home, in the order in which they are made.
    private var contents: [(name: FilePath.Component, owner: (uid: UInt32, gid: UInt32)?, mode: UInt32)] {
        let owner = ownership == .account ? (uid: account.uidNumber, gid: account.gidNumber) : nil
        return [
            (HomePath.incomingName, owner, 0o750), (HomePath.sshName, owner, 0o700),
            (HomePath.snapshotsName, nil, 0o755),
        ]
    }

    func perform(in attempt: RunningAttempt) async throws {
        let step = self
        try await BlockingWork.run { _ in try step.perform() }
    }

    private func perform() throws(ProvisioningFailure) {
        let walk = try HomeWalk(to: home)
        if walk.directory == nil, !makesHome {
            throw ProvisioningFailure(
                .cannotCreateHomeDir, reason: "the home script succeeded, and there is no directory \(home.path)",
                hint: "let HOME_SCRIPT make the directory that it is given as its second argument")
        }
        if let danger = try walk.danger(ownership: ownership) {
            throw ProvisioningFailure(
                .cannotCreateHomeDir, reason: "\(home.path) \(danger)",
                hint: walk.moveAway
                    ?? "let it and its .snapshots be directories that belong to root and that only root can write, "
                    + "without links of the account in .snapshots: "
                    + "the account could otherwise make root write anywhere")
        }
        do throws(HeldDirectory.Failure) {
            guard var directory = walk.deepest else { return }
            for name in walk.missing { directory = try make(name, in: directory, owner: nil, mode: 0o755) }
            for (name, owner, mode) in contents { _ = try make(name, in: directory, owner: owner, mode: mode) }
        } catch {
            throw Self.explain(error, home: home)
        }
    }

    private func make(
        _ name: FilePath.Component, in parent: HeldDirectory, owner: (uid: UInt32, gid: UInt32)?, mode: UInt32
    ) throws(HeldDirectory.Failure) -> HeldDirectory {
        if try parent.status(of: name) == nil {
            let temporary = FilePath.Component.named(".new-\(account.uid)-\(name)")
            // One left over from a crash is empty. One with files was made by the account, before the parent became root's.
            try parent.removeEmptyDirectory(temporary)
            _ = try parent.makeDirectory(temporary)
            try parent.directory(temporary)?.set(owner: owner, mode: mode)
            if try !parent.rename(temporary, into: parent, as: name) { try parent.removeEmptyDirectory(temporary) }
            try parent.synchronize()
        }
        guard let directory = try parent.directory(name) else {
            throw parent.failure("make", name, .noSuchFileOrDirectory)
        }
        return directory
    }

    /// A failed change of a home's files.
    static func explain(_ failure: HeldDirectory.Failure, home: HomePath) -> ProvisioningFailure {
        let hint =
            switch failure.cause {
            case .notPermitted, .permissionDenied:
                "run the daemon as root, or set OWNERSHIP = none for trying out without root"
            case .directoryNotEmpty, .notDirectory, .tooManySymbolicLinkLevels:
                "see what \(failure.path) is, and move it away"
            default: failure.cause.shortageHint(at: home.base)
            }
        return failure.provisioningFailure(.cannotCreateHomeDir, hint: hint)
    }
}

/// Gives files of the account the group that its entry names: files in `incoming`, `.ssh` and the snapshots that belong to the account and
/// have the former group of `incoming`. Files are changed by descriptor, see ``TreeWalk``.
///
/// `incoming` itself is changed last, so an interrupted change is repeated. With the former group in the snapshots, the next backup would copy
/// every file again.
/// Errors: code 5; code 4 if the directories above the home cannot be trusted.
struct GroupStep: ProvisioningStep {
    let account: BackupAccount
    let home: HomePath
    let former: UInt32
    let timeLimit: Duration
    let name = "group"

    /// The account's own group is always changed. Another group may be intended with ``CopyConfinement/root`` and is kept there; a copy that is
    /// made as the account could not keep it.
    /// - Parameter walk: to the home.
    /// - Returns: nil if `incoming` is missing, belongs to another user, or has the right group.
    init?(
        account: BackupAccount, walk: HomeWalk, confinement: CopyConfinement, timeLimit: Duration
    ) throws(ProvisioningFailure) {
        let status = try HomeWalk.explained(below: walk.home.root) {
            try walk.directory?.status(of: HomePath.incomingName)
        }
        guard let status, status.st_uid == account.uidNumber, status.st_gid != account.gidNumber,
            status.st_gid == account.uidNumber || confinement != .root
        else { return nil }
        (self.account, home, former, self.timeLimit) = (account, walk.home, status.st_gid, timeLimit)
    }

    var preview: String {
        "chgrp \(account.gidNumber): the account's files with the group \(former), in \(home.path) and its snapshots"
    }

    func perform(in attempt: RunningAttempt) async throws {
        let step = self
        try await BlockingWork.walk(
            within: timeLimit, code: .cannotCreateHomeDir,
            unfinished: "not all files in \(home.path) could get the group \(account.gidNumber)",
            explain: { PlainHomeStep.explain($0, home: home) }
        ) { try step.perform(isCancelled: $0) }
    }

    /// - Throws: `HeldDirectory.Failure`, `TreeWalk.LimitExceeded`, `ProvisioningFailure` with code 4, `CancellationError`.
    func perform(isCancelled: @escaping @Sendable () -> Bool) throws {
        let walk = try HomeWalk(to: home)
        guard let directory = walk.directory else { return }
        var trees: [(name: FilePath.Component, parent: HeldDirectory)] = []
        var sizes = SizeRecord()
        if let snapshots = try walk.snapshots() {
            sizes = SnapshotDirectory(directory: snapshots).sizes
            trees = try snapshots.names().map { ($0, snapshots) }
        }
        trees += [(HomePath.sshName, directory), (HomePath.incomingName, directory)]
        let limit = sizes.nameLimit(others: max(1, trees.count - sizes.snapshots.count))
        // One count for all trees, since the account could move names from one to the next.
        var steps = 0
        for tree in trees { try change(tree.name, in: tree.parent, limit, &steps, isCancelled) }
    }

    private func change(
        _ name: FilePath.Component, in parent: HeldDirectory, _ limit: NameLimit, _ steps: inout Int,
        _ isCancelled: @escaping @Sendable () -> Bool
    ) throws {
        // The tree itself may be a mount; mounts inside it are not part of the home.
        guard let status = try parent.status(of: name), status.isDirectory, let top = try parent.directory(name)
        else { return }
        let walk = try TreeWalk(".", in: top, limit: limit, after: steps, isCancelled: isCancelled)
        defer { steps = walk.steps }
        var entered = InodeSet()
        while let event = try walk.next() {
            guard case .name(let item) = event else { continue }
            try walk.changeGroup(of: item.text, ownedBy: account.uidNumber, from: former, to: account.gidNumber)
            guard try walk.isDirectory(item) else { continue }
            do {
                let status = try walk.enter(item.text)
                // A directory that was read before has been moved ahead of the walk.
                if !entered.insert(device: UInt64(status.st_dev), inode: UInt64(status.st_ino)) { try walk.skip() }
            } catch let failure as HeldDirectory.Failure where failure.isOutsideTree {}
        }
        try walk.changeGroupOfTop(ownedBy: account.uidNumber, from: former, to: account.gidNumber)
    }
}
