import EventLoop
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// Gives to root the directories of a home that the account could still change, and its `.snapshots`: for homes made by an older version
/// or another product.
///
/// It goes from the top down and opens each directory before it examines it. As soon as a directory belongs to root only root can rename
/// in it, so the next one is found safely. Nothing outside the account's own directory is changed. Refused are directories of a third
/// user, mounts, and a chroot or `.snapshots` with a file that the account may have put there for root to use.
/// Errors: code 4.
struct HomeTakeOverStep: ProvisioningStep {
    let account: BackupAccount
    let home: HomePath
    /// The directories to take over, as of the plan.
    private(set) var directories: [FilePath] = []
    let name = "take over"

    /// More than all levels of rsnapshot keep.
    static let mostSnapshots = 10_000

    /// - Parameter walk: to the home, with the account's own directories unchecked.
    /// - Returns: nil if the account can change nothing.
    init?(of account: BackupAccount, _ walk: HomeWalk) throws(ProvisioningFailure) {
        (self.account, home) = (account, walk.home)
        var directories: [FilePath] = []
        try descend(from: walk) { place in
            guard !place.isRoots else { return }
            try checkOwner(place)
            try checkContents(place)
            directories.append(place.path)
        }
        guard !directories.isEmpty else { return nil }
        self.directories = directories
    }

    var preview: String {
        directories.map { path in
            let bits = path.lastComponent == HomePath.snapshotsName ? "a+rx" : "a+x"
            return "chown root:root, chmod go-w,\(bits): \(path)"
        }.joined(separator: "\n")
    }

    func perform(in attempt: RunningAttempt) async throws {
        let step = self
        try await BlockingWork.run { _ in try step.perform() }
    }

    func perform() throws(ProvisioningFailure) {
        try descend(from: HomeWalk(to: home, isTakenOver: true)) { place in
            guard !place.isRoots else { return }
            try checkOwner(place)
            // The account becomes one of the others, and must reach its home and read its snapshots as before.
            let mode = place.status.st_mode & 0o7755 | (place.next == nil ? 0o555 : 0o111)
            try place.directory.set(owner: (0, 0), mode: mode)
            try place.directory.removeDefaultACL()
            do {
                // The account can add nothing any more.
                try checkContents(place)
            } catch {
                let former = place.status
                try place.directory.set(owner: (former.st_uid, former.st_gid), mode: former.st_mode & 0o7777)
                throw error
            }
        }
    }

    // MARK: - The directories

    /// A directory of the account, held open.
    private struct Place {
        let directory: HeldDirectory
        /// The name of the next directory in it; nil: it is `.snapshots`.
        let next: FilePath.Component?
        let isMount: Bool
        /// The directory's status when it was opened.
        let status: stat

        var path: FilePath { directory.path }
        var isRoots: Bool { HomeWalk.objection(to: status) == nil }
    }

    /// Visits the directories from the account's own down to `.snapshots`; each is opened after the visit of the one above.
    private func descend(from walk: HomeWalk, _ visit: (Place) throws -> Void) throws(ProvisioningFailure) {
        try HomeWalk.explained(below: home.root) {
            guard var directory = walk.accountParent else { return }
            let names = walk.own + [HomePath.snapshotsName]
            for (name, next) in zip(names, names.dropFirst().map(Optional.some) + [nil]) {
                guard let place = try open(name, next, in: directory) else { return }
                try visit(place)
                directory = place.directory
            }
        }
    }

    /// - Returns: nil if there is no such directory; another file named `.snapshots` is checked by ``HomeWalk/danger(ownership:)``.
    private func open(
        _ name: FilePath.Component, _ next: FilePath.Component?, in parent: HeldDirectory
    ) throws(HeldDirectory.Failure) -> Place? {
        var isMount = false
        var directory: HeldDirectory?
        do throws(HeldDirectory.Failure) {
            directory = try parent.directory(name, crossesMounts: false)
        } catch {
            switch error.cause {
            case .improperLink: (directory, isMount) = (try parent.directory(name), true)
            case .notDirectory where next == nil, .tooManySymbolicLinkLevels where next == nil: return nil
            default: throw error
            }
        }
        guard let directory else { return nil }
        return Place(directory: directory, next: next, isMount: isMount, status: try directory.status())
    }

    // MARK: - Refusals

    private func checkOwner(_ place: Place) throws(ProvisioningFailure) {
        let store = store(shownAt: place)
        let (owner, path) = (place.status.st_uid, store ?? place.path)
        let command = "chown -h root:root \(path.shellWord); chmod go-w \(path.shellWord)"
        if ![0, geteuid(), account.uidNumber].contains(owner) {
            throw refusal(
                "\(path) belongs to user \(owner), who is neither root nor the account",
                "find out whose it is; if it is the account's: \(command)")
        }
        if store != nil {
            throw refusal("\(path), which is mounted at \(place.path), can be changed by others than root", command)
        }
        if place.isMount {
            throw refusal(
                "\(path) is a mount, which others than root can change",
                "umount it; or if it is meant to be there: \(command)")
        }
    }

    /// The account's directory of the store, if a mount shows that: through the mount, which is read-only, its owner cannot be changed.
    private func store(shownAt place: Place) -> FilePath? {
        guard place.isMount, place.next == nil, let store = try? HomeWalk(to: home, isTakenOver: true).store(),
            (try? store.isSame(as: place.directory)) == true
        else { return nil }
        return home.store
    }

    private func checkContents(_ place: Place) throws {
        let isSnapshots = place.next == nil
        guard let name = try isSnapshots ? foreignSnapshot(in: place.directory) : foreignName(in: place) else { return }
        throw refusal(
            "\(place.path) does not belong to root alone and holds \(name.string.quotedValue), which the account may have put there "
                + "for root to use",
            "leave nothing in it but "
                + (isSnapshots
                    ? "the directories of snapshots, none of them a subvolume or a mount"
                    : "the directories down to the home"))
    }

    /// Programs run as root in a chroot, so before it is set up it may hold nothing but the directories down to the home.
    private func foreignName(in place: Place) throws(HeldDirectory.Failure) -> FilePath.Component? {
        guard let chroot = home.chroot, place.path.starts(with: chroot), place.path != home.path else { return nil }
        return try place.directory.firstName { $0 != place.next }
    }

    /// Snapshots are directories of one file system (a subvolume of btrfs is another one); root's regular files belong there too. A link of
    /// root's may have been moved there.
    private func foreignSnapshot(in snapshots: HeldDirectory) throws(HeldDirectory.Failure) -> FilePath.Component? {
        let device = try snapshots.status().st_dev
        var count = 0
        return try snapshots.firstName { name throws(HeldDirectory.Failure) in
            guard let status = try snapshots.status(of: name) else { return false }
            count += 1
            let isRoots = status.st_uid == 0 && status.st_mode & S_IFMT == S_IFREG
            let isSnapshot = status.isDirectory && status.st_dev == device
            return !isSnapshot && !isRoots || count > Self.mostSnapshots
        }
    }

    private func refusal(_ reason: String, _ hint: String) -> ProvisioningFailure {
        ProvisioningFailure(
            .cannotCheckHomeDirPresence, reason: "\(account.dn): \(reason)",
            hint: "\(hint); then " + ConfiguredSnapshots.provisionAgain)
    }
}
