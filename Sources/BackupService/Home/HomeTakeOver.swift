import EventLoop
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// Makes root's what an account could still change of the way to its home, and its `.snapshots`: a home of an earlier time, or of another product.
///
/// It goes from the top down, and holds each directory before it looks at it. Once a directory is root's, its names are nobody else's any more, so the
/// next one is found under the name that it keeps. Nothing is resolved by path, and nothing outside the account's own directory is touched.
/// What may not have been the account's own is refused, and so is a chroot, or a `.snapshots`, with something in it that the account may have put there
/// for root to come across.
/// Diagnostics: code 4.
struct HomeTakeOver: Hashable {
    let account: BackupAccount
    let home: HomePath
    /// The directories that were to be taken over when the plan was made.
    private(set) var directories: [FilePath] = []

    /// More than all levels of rsnapshot keep.
    static let mostSnapshots = 10_000

    /// - Returns: nil where the account can change nothing.
    init?(of account: BackupAccount, home: HomePath) throws(ProvisioningFailure) {
        (self.account, self.home) = (account, home)
        var directories: [FilePath] = []
        try descend { place throws(ProvisioningFailure) in
            guard !place.isRoots else { return }
            try demandOwn(place)
            try demandNothingForeign(in: place)
            directories.append(place.path)
        }
        guard !directories.isEmpty else { return nil }
        self.directories = directories
    }

    func perform() throws(ProvisioningFailure) {
        try descend { place throws(ProvisioningFailure) in
            guard !place.isRoots else { return }
            try demandOwn(place)
            try home.explained { () throws(HeldDirectory.Failure) in try take(place) }
            do throws(ProvisioningFailure) {
                // The account can add nothing any more.
                try demandNothingForeign(in: place)
            } catch {
                try home.explained { () throws(HeldDirectory.Failure) in try giveBack(place) }
                throw error
            }
        }
    }

    // MARK: - The way

    /// A directory of the account, held.
    private struct Place {
        let directory: HeldDirectory
        /// The name of the next one in it.
        let next: FilePath.Component?
        let isMount: Bool
        /// As it was when it was opened.
        let status: stat

        var path: FilePath { directory.path }
        var isRoots: Bool { HomeWalk.objection(to: status) == nil }

        init(
            _ directory: HeldDirectory, next: FilePath.Component?, isMount: Bool
        ) throws(HeldDirectory.Failure) {
            (self.directory, self.next, self.isMount) = (directory, next, isMount)
            status = try directory.status()
        }
    }

    /// Visits the directories that there are, from the account's own to `.snapshots`; the next one is opened after the visit.
    private func descend(_ visit: (Place) throws(ProvisioningFailure) -> Void) throws(ProvisioningFailure) {
        guard var directory = try HomeWalk(to: home, isTakenOver: true).accountParent else { return }
        let names = home.directories.dropFirst(home.accountDirectories.count - 1) + [HomeDirectory.snapshots]
        for (name, next) in zip(names, names.dropFirst().map(Optional.some) + [nil]) {
            guard let place = try open(name, next, in: directory) else { return }
            try visit(place)
            directory = place.directory
        }
    }

    /// - Returns: nil where there is no such directory; what else may stand in the place of `.snapshots` is for ``HomeWalk/danger(ownership:)``.
    private func open(
        _ name: FilePath.Component, _ next: FilePath.Component?, in parent: HeldDirectory
    ) throws(ProvisioningFailure) -> Place? {
        try home.explained { () throws(HeldDirectory.Failure) in
            do throws(HeldDirectory.Failure) {
                guard let directory = try parent.directory(name, reach: .sameFileSystem) else { return nil }
                return try Place(directory, next: next, isMount: false)
            } catch {
                switch error.cause {
                case .improperLink:
                    guard let directory = try parent.directory(name) else { return nil }
                    return try Place(directory, next: next, isMount: true)
                case .notDirectory where next == nil, .tooManySymbolicLinkLevels where next == nil: return nil
                default: throw error
                }
            }
        }
    }

    // MARK: - What is refused

    private func demandOwn(_ place: Place) throws(ProvisioningFailure) {
        let (owner, path) = (place.status.st_uid, place.path)
        if ![0, geteuid(), account.uidNumber].contains(owner) {
            throw refusal(
                "\(path) belongs to user \(owner), who is neither root nor the account",
                "see whose it is; if it is the account's: chown -h root:root \(path.shellWord); chmod go-w \(path.shellWord)"
            )
        }
        if place.isMount {
            throw refusal(
                "\(path) is a mount, which others than root can change",
                "umount it; or where it is meant to be there: chown -h root:root \(path.shellWord); chmod go-w \(path.shellWord)"
            )
        }
    }

    private func demandNothingForeign(in place: Place) throws(ProvisioningFailure) {
        let name = try home.explained { () throws(HeldDirectory.Failure) in
            try place.next == nil ? foreignSnapshot(in: place.directory) : foreignName(in: place)
        }
        guard let name else { return }
        throw refusal(
            "\(place.path) is not root's alone, and holds \(EntryReader.quote(name.string)), which the account may have put there for root "
                + "to come across",
            "leave nothing in it but "
                + (place.next == nil
                    ? "the directories of snapshots, none of them a subvolume or a mount" : "the way to the home"))
    }

    /// In a chroot programs are put as root, so it is to hold nothing yet but the way to the home.
    private func foreignName(in place: Place) throws(HeldDirectory.Failure) -> FilePath.Component? {
        guard let chroot = home.chroot, place.path.starts(with: chroot), place.path != home.path else { return nil }
        return try place.directory.firstName { name throws(HeldDirectory.Failure) in name != place.next }
    }

    /// Snapshots are directories of one file system (a subvolume of btrfs is one of its own), and what else belongs there is root's. A link of
    /// root's may have been moved there.
    private func foreignSnapshot(in snapshots: HeldDirectory) throws(HeldDirectory.Failure) -> FilePath.Component? {
        let device = try snapshots.status().st_dev
        var count = 0
        return try snapshots.firstName { name throws(HeldDirectory.Failure) in
            guard let status = try snapshots.status(of: name) else { return false }
            count += 1
            let isRoots = status.st_uid == 0 && status.st_mode & S_IFMT == S_IFREG
            let isSnapshot = status.st_mode & S_IFMT == S_IFDIR && status.st_dev == device
            return !isSnapshot && !isRoots || count > Self.mostSnapshots
        }
    }

    private func refusal(_ reason: String, _ hint: String) -> ProvisioningFailure {
        ProvisioningFailure(
            .cannotCheckHomeDirPresence, reason: "\(account.dn): \(reason)",
            hint: "\(hint); then " + ConfiguredSnapshots.provisionAgain)
    }

    // MARK: - What is changed

    /// The account is one of the others then, and is to come to its home and read its snapshots as before.
    private func take(_ place: Place) throws(HeldDirectory.Failure) {
        let mode = place.status.st_mode & 0o7755 | (place.next == nil ? 0o555 : 0o111)
        try place.directory.set(owner: (0, 0), mode: mode)
        try place.directory.removeDefaultACL()
    }

    private func giveBack(_ place: Place) throws(HeldDirectory.Failure) {
        let status = place.status
        try place.directory.set(owner: (status.st_uid, status.st_gid), mode: status.st_mode & 0o7777)
    }
}

/// See ``HomeTakeOver``. Its plan has it only where there is something to take over.
struct HomeTakeOverStep: ProvisioningStep {
    let takeOver: HomeTakeOver
    let name = "take over"

    var preview: String {
        takeOver.directories.map { path in
            let bits = path.lastComponent == HomeDirectory.snapshots ? "a+rx" : "a+x"
            return "chown root:root, chmod go-w,\(bits): \(path)"
        }.joined(separator: "\n")
    }

    func perform(in attempt: RunningAttempt) async throws {
        let takeOver = takeOver
        try await BlockingWork.run { _ in try takeOver.perform() }
    }
}
