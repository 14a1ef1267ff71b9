import EventLoop
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// Gives the files of an account the group that its entry names now: in `incoming`, `.ssh` and the snapshots, those that belong to the account and
/// have the group that `incoming` has had. All by descriptors, see ``TreeWalk``.
///
/// `incoming` itself is the last, so what was cut off is done again. With the old group in the snapshots the next backup would copy everything anew.
struct GroupChange: Hashable {
    let account: BackupAccount
    let home: HomePath
    /// The group until now.
    let former: UInt32

    /// A group that is not the account's former one, as its number tells, may be there on purpose. Except with ``CopyConfinement/root`` it is changed as
    /// well, since a copy made as the account cannot keep another group than the account's.
    /// - Parameter walk: to the home.
    /// - Returns: nil where `incoming` is not there, is not the account's, or has the right group.
    init?(
        of account: BackupAccount, home: HomePath, _ walk: HomeWalk, confinement: CopyConfinement
    ) throws(ProvisioningFailure) {
        let status: stat?
        do throws(HeldDirectory.Failure) {
            status = try walk.directory?.status(of: HomeDirectory.incoming)
        } catch {
            throw HomeWalk.explain(error, root: home.root)
        }
        guard let status, status.st_uid == account.uidNumber, status.st_gid != account.gidNumber,
            status.st_gid == account.uidNumber || confinement != .root
        else { return nil }
        (self.account, self.home) = (account, home)
        former = status.st_gid
    }

    /// - Throws: `HeldDirectory.Failure`, `TreeWalk.LimitExceeded`, `ProvisioningFailure` with code 4, `CancellationError`.
    func perform(isCancelled: @escaping @Sendable () -> Bool) throws {
        let walk = try HomeWalk(to: home)
        guard let directory = walk.directory else { return }
        var trees: [(name: FilePath.Component, parent: HeldDirectory)] = []
        var sizes = SizeRecord()
        // Their directory is root's.
        if let snapshots = try walk.snapshots() {
            sizes = SnapshotDirectory(directory: snapshots).sizes
            trees = try snapshots.names().map { ($0, snapshots) }
        }
        trees += [(HomeDirectory.ssh, directory), (HomeDirectory.incoming, directory)]
        let limit = sizes.nameLimit(others: max(1, trees.count - sizes.snapshots.count))
        // One number for all of them: the account could otherwise move names from one to the next.
        var steps = 0
        for tree in trees { try change(tree.name, in: tree.parent, limit, &steps, isCancelled) }
    }

    private func change(
        _ name: FilePath.Component, in parent: HeldDirectory, _ limit: NameLimit, _ steps: inout Int,
        _ isCancelled: @escaping @Sendable () -> Bool
    ) throws {
        // It may be a mount of its own; what is mounted inside is not part of the home.
        guard let status = try parent.status(of: name), status.st_mode & S_IFMT == S_IFDIR,
            let top = try parent.directory(name)
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
                // One that was read before has been moved in front of the walk.
                if !entered.insert(device: UInt64(status.st_dev), inode: UInt64(status.st_ino)) { try walk.skip() }
            } catch let failure as HeldDirectory.Failure where HeldDirectory.isElsewhere(failure.cause) {}
        }
        try walk.changeGroupOfTop(ownedBy: account.uidNumber, from: former, to: account.gidNumber)
    }
}

/// See ``GroupChange``. Diagnostics: code 5, or code 4 where the way to the home cannot be trusted.
struct GroupStep: ProvisioningStep {
    let change: GroupChange
    let timeLimit: Duration
    let name = "group"

    var preview: String {
        "chgrp \(change.account.gidNumber): what is the account's and has the group \(change.former), in \(change.home.path) and its snapshots"
    }

    func perform(in attempt: RunningAttempt) async throws {
        let change = change
        do {
            try await BlockingWork.run(on: .walks, until: Deadline(in: timeLimit)) {
                try change.perform(isCancelled: $0)
            }
        } catch let failure as HeldDirectory.Failure {
            throw PlainHome(account: change.account, home: change.home, ownership: .account).explain(failure)
        } catch let excess as TreeWalk.LimitExceeded {
            throw ProvisioningFailure(.cannotCreateHomeDir, .retryable, reason: "\(excess)", hint: excess.hint)
        } catch is Deadline.Passed {
            throw ProvisioningFailure(
                .cannotCreateHomeDir, .retryable,
                reason:
                    "not all files in \(change.home.path) have got the group \(change.account.gidNumber) within TIMEOUT",
                hint:
                    "another attempt goes on, and passes over those that have it; if none ends, raise TIMEOUT in [Backup Jobs]"
            )
        }
    }
}
