import EventLoop
import JobCore
import Provisioning
import SystemPackage

/// Archives or removes the directory of a deleted account (setting ON_DELETE), with its snapshots wherever they lie; nothing of it stays
/// mounted.
///
/// Diagnostics: code 4 where the way to it cannot be trusted, code 5 where its snapshots are in the way, else code 1; class retryable where
/// somebody still works in it.
struct HomeDisposalStep: ProvisioningStep {
    let account: BackupAccount
    let home: HomePath
    let disposal: HomeDisposal
    let timeLimit: Duration
    let clock: any WallClock
    /// Looks whether the home is another entry's as well (``ProvisioningRequest/demandUnique``).
    let demandUnique: @Sendable () async throws -> Void

    let name = "home"

    private var store: SnapshotStore { SnapshotStore(home) }

    var preview: String {
        let hasStore = (try? HomeWalk(to: home).store()) != nil
        switch disposal {
        case .keep: return "keep \(home.accountDirectory)" + (hasStore ? " and \(home.store), without a mount" : "")
        case .remove:
            let others = hasStore ? " and \(home.store)" : ""
            return "remove \(home.accountDirectory)\(others) with all that is in it"
        case .archive:
            let name = ArchiveName(uid: account.uid, archived: clock.now).component
            return (hasStore ? "\(store.text(of: .moveToHome))\n" : "")
                + "rename \(home.accountDirectory) to \(home.base.appending(ArchiveName.directory).appending(name))"
        }
    }

    func perform(in attempt: RunningAttempt) async throws {
        if disposal != .keep { try await demandUnique() }
        let step = self
        do {
            try await BlockingWork.run(on: .walks, until: Deadline(in: timeLimit)) { try step.dispose($0) }
        } catch let failure as HeldDirectory.Failure {
            throw explain(failure)
        } catch let excess as TreeWalk.LimitExceeded {
            throw ProvisioningFailure(
                .undefinedError, .retryable, reason: "\(excess)",
                hint: "\(excess.hint); another attempt goes on where this one was")
        } catch is Deadline.Passed {
            throw ProvisioningFailure(
                .undefinedError, .retryable, reason: "\(home.accountDirectory) could not be removed within TIMEOUT",
                hint: "another attempt goes on where this one was; if none ends, raise TIMEOUT in [Backup Jobs]")
        }
    }

    private func dispose(_ isCancelled: @escaping @Sendable () -> Bool) throws {
        let hasStore = try HomeWalk(to: home).store() != nil
        if hasStore, try HomeWalk(to: home).directory != nil { try store.unmount() }
        switch disposal {
        case .keep: return
        case .archive: try archive(hasStore: hasStore)
        case .remove:
            let walk = try HomeWalk(to: home)
            if let directory = walk.account { try demandNoMounts(inside: directory) }
            // Besides the snapshots: the home, and two unfinished copies.
            let sizes = (try? walk.snapshots()).map { SnapshotDirectory(directory: $0).sizes } ?? SizeRecord()
            let removal = TreeRemoval(limit: sizes.nameLimit(others: 3), isCancelled: isCancelled)
            if hasStore, let stores = try walk.stores() { try removal.remove(accountName, in: stores) }
            if walk.account != nil, let parent = walk.accountParent { try removal.remove(accountName, in: parent) }
        }
    }

    private var accountName: FilePath.Component { .named(account.uid) }

    /// One archived directory holds home and snapshots, unless the home cannot take its snapshots back: then they get a name of their own.
    private func archive(hasStore: Bool) throws {
        let isWhole = try !hasStore || HomeWalk(to: home).directory != nil && store.putBack()
        let walk = try HomeWalk(to: home)
        guard let base = walk.base else { return }
        if !isWhole, let stores = try walk.stores() { try archive(from: stores, base: base) }
        if walk.account != nil, let parent = walk.accountParent { try archive(from: parent, base: base) }
    }

    private func archive(from parent: HeldDirectory, base: HeldDirectory) throws {
        if try base.makeDirectory(ArchiveName.directory) { try base.synchronize() }
        guard let archive = try base.directory(ArchiveName.directory) else { return }
        let status = try archive.status()
        if let objection = HomeWalk.objection(to: status)
            ?? (status.st_mode & 0o077 == 0 ? nil : "can be read by others")
        {
            throw ProvisioningFailure(
                .undefinedError, reason: "\(archive.path) \(objection)",
                hint: "chown root \(archive.path.shellWord); chmod 0700 \(archive.path.shellWord)")
        }
        let now = clock.now
        for number in 1...99 {
            let name = ArchiveName(uid: account.uid, archived: now, number: number)
            if try parent.rename(accountName, into: archive, as: name.component) {
                try archive.synchronize()
                try parent.synchronize()
                return
            }
        }
        throw ProvisioningFailure(
            .undefinedError, .retryable, reason: "\(archive.path) holds 99 homes of \(account.uid) of this very second",
            hint: "wait a second")
    }

    /// Removal stops at a mount; better to stop before anything is gone.
    private func demandNoMounts(inside directory: HeldDirectory) throws {
        let path = try directory.realPath()
        let mounts = try MountTable.current(near: path).mounts(inside: path).map(\.point.string)
        guard mounts.isEmpty else {
            throw ProvisioningFailure(
                .undefinedError, reason: "\(mounts.joined(separator: ", ")) is mounted inside \(directory.path)",
                hint: "umount \(mounts.map(\.shellWord).joined(separator: " "))")
        }
    }

    func explain(_ failure: HeldDirectory.Failure) -> ProvisioningFailure {
        let isCrossing = failure.cause == .improperLink
        let isInUse = [Errno.directoryNotEmpty, .resourceBusy].contains(failure.cause)
        return ProvisioningFailure(
            .undefinedError, isInUse ? .retryable : FailureClass(failure.cause) ?? .permanent,
            reason: "could not \(failure.operation) \(failure.path): \(failure.cause)",
            hint: isCrossing
                ? "homes are archived within one file system: name the mount that holds \(home.accountDirectory) in VOLUMES of a [Pool NAME] section, or umount what is mounted in it"
                : isInUse
                    ? "end what still works in the directory: ps -fu \(account.uidNumber)"
                    : failure.cause.isShortage
                        ? failure.cause.shortageHint(at: home.base) : "look at the rights and at the disk"
        )
    }
}
