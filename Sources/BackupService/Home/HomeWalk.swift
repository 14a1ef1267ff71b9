import Glibc
import JobCore
import Provisioning
import SystemPackage

/// The directories from a home root down to a home, opened one by one, as far as they exist.
///
/// The root may be a symbolic link; below it no link is followed. The account or other users must not be able to change a directory above
/// the home, since they could then choose where root works. Homes for which that does not hold are taken over first (``HomeTakeOverStep``).
/// Errors: code 4 with the path; code 3 if the kernel has no openat2.
struct HomeWalk {
    let home: HomePath
    /// The directories from the root down to the home.
    private let names: [FilePath.Component]
    /// How many of them lead to the account's own directory, and to the volume.
    private let accountDepth: Int
    private let baseDepth: Int
    /// The root first, then each directory that exists.
    private let held: [HeldDirectory]
    /// The parent of all stores of the volume, and the account's own one.
    private let opened: Result<(stores: HeldDirectory, own: HeldDirectory?)?, ProvisioningFailure>

    /// - Parameter isTakenOver: whether an earlier step takes over the account's own directories, so that their owners are not checked here.
    init(to home: HomePath, isTakenOver: Bool = false) throws(ProvisioningFailure) {
        self.home = home
        let rootDepth = home.root.components.count
        names = Array(home.path.components.dropFirst(rootDepth))
        let baseDepth = home.base.components.count - rootDepth
        (accountDepth, self.baseDepth) = (home.accountDirectory.components.count - rootDepth, baseDepth)
        let held = try Self.descend(
            from: home.root, names, examined: (isTakenOver ? accountDepth : names.count) - 1)
        self.held = held
        opened = Result { () throws(ProvisioningFailure) in
            held.count > baseDepth ? try Self.stores(of: home, in: held[baseDepth]) : nil
        }
    }

    /// Opens a directory that the daemon keeps below a volume or root; it is checked like the directories above a home.
    /// - Returns: the directory and the names in it; nil if it does not exist.
    static func contents(
        of name: FilePath.Component, in base: FilePath, _ places: HomePlaces
    ) throws(ProvisioningFailure) -> (directory: HeldDirectory, names: [FilePath.Component])? {
        let root = places.root(containing: base) ?? base
        let names = base.components.dropFirst(root.components.count) + [name]
        let held = try descend(from: root, Array(names), examined: names.count)
        guard held.count == names.count + 1, let directory = held.last else { return nil }
        return (directory, try explained(below: root) { try directory.names() })
    }

    /// - Parameter examined: how many of the directories only root may be able to change.
    /// - Returns: the root, and the directories below it as far as they exist.
    private static func descend(
        from root: FilePath, _ names: [FilePath.Component], examined: Int
    ) throws(ProvisioningFailure) -> [HeldDirectory] {
        try explained(below: root) {
            var held = [try HeldDirectory(configured: root)]
            try FileTrust.demand(root, as: .directory, setting: "HOME_ROOTS", code: .cannotCheckHomeDirPresence)
            for (depth, name) in names.enumerated() {
                guard let next = try held[depth].directory(name) else { break }
                if depth < examined, let objection = objection(to: try next.status()) {
                    throw ProvisioningFailure(
                        .cannotCheckHomeDirPresence,
                        reason: "\(next.path), a directory below the home root \(root), \(objection)",
                        hint: "chown root \(next.path.shellWord); chmod go-w \(next.path.shellWord)")
                }
                held.append(next)
            }
            return held
        }
    }

    // MARK: - The directories

    /// The home itself; nil if it does not exist.
    var directory: HeldDirectory? { at(names.count) }
    /// The names of the directories that are missing, the home included.
    var missing: ArraySlice<FilePath.Component> { names.dropFirst(held.count - 1) }
    /// The account's own directory; nil if it does not exist.
    var account: HeldDirectory? { at(accountDepth) }
    /// The names of the account's own directory and of those below it down to the home.
    var own: ArraySlice<FilePath.Component> { names.dropFirst(accountDepth - 1) }
    /// The directory that holds the account's own.
    var accountParent: HeldDirectory? { at(accountDepth - 1) }
    /// The volume or root that holds the account's directory.
    var base: HeldDirectory? { at(baseDepth) }
    /// The last directory that exists.
    var deepest: HeldDirectory? { held.last }

    private func at(_ depth: Int) -> HeldDirectory? { held.indices.contains(depth) ? held[depth] : nil }

    /// The directory that holds the snapshots of the volume's accounts (`.store`); nil if there is none.
    /// - Throws: code 4 if others than root could enter it.
    func stores() throws(ProvisioningFailure) -> HeldDirectory? { try opened.get()?.stores }

    /// The account's directory in `.store`; nil if there is none.
    func store() throws(ProvisioningFailure) -> HeldDirectory? { try opened.get()?.own }

    private static func stores(
        of home: HomePath, in base: HeldDirectory
    ) throws(ProvisioningFailure) -> (HeldDirectory, HeldDirectory?)? {
        try explained(below: home.root) {
            guard let stores = try base.directory(SnapshotStore.directoryName) else { return nil }
            try demandClosed(stores, ", which holds snapshots,", .cannotCheckHomeDirPresence)
            return (stores, try stores.directory(home.accountName))
        }
    }

    /// The directory that holds the account's snapshots, in the store or in the home; nil if there is none.
    func snapshots() throws(ProvisioningFailure) -> HeldDirectory? {
        if let store = try store() { return store }
        return try Self.explained(below: home.root) { try directory?.directory(HomePath.snapshotsName) }
    }

    /// Whether there are snapshots, in the store or in the home. What a mount shows there lies elsewhere and does not count.
    func hasSnapshots() throws(ProvisioningFailure) -> Bool {
        let store = try store()
        return try Self.explained(below: home.root) {
            if let store { return try !store.isEmpty() }
            guard let directory, try !directory.hasMount(at: HomePath.snapshotsName) else { return false }
            return try directory.directory(HomePath.snapshotsName)?.isEmpty() == false
        }
    }

    // MARK: - Checks

    /// Whether nothing of the account is here: no snapshots, and no directory of its own or an empty one, as where a volume is not mounted.
    ///
    /// The rsnapshot configuration tells whether that can be: provisioning writes it after the home was made, and a deletion removes it first.
    func isVacant() throws(ProvisioningFailure) -> Bool {
        guard try store() == nil else { return false }
        return try Self.explained(below: home.root) { try account?.isEmpty() ?? true }
    }

    /// Whether the home has the directory of the uploads, or anything else of its name.
    func hasUploads() throws(ProvisioningFailure) -> Bool {
        try Self.explained(below: home.root) { try directory?.status(of: HomePath.incomingName) != nil }
    }

    /// Why root must not work in a directory; nil: it may.
    static func objection(to status: stat) -> String? {
        if status.st_uid != 0, status.st_uid != geteuid() { return "belongs to user \(status.st_uid)" }
        if status.st_mode & 0o022 != 0 {
            return "can be written by others (mode \(FileTrustError.octal(status.st_mode & 0o7777)))"
        }
        return nil
    }

    /// Refuses a directory that others than root can enter or change.
    static func demandClosed(_ directory: HeldDirectory, _ apposition: String, _ code: ProvisioningExitCode) throws {
        let status = try directory.status()
        let isOpen = status.st_mode & 0o077 != 0
        guard let objection = objection(to: status) ?? (isOpen ? "can be entered by others" : nil) else { return }
        throw ProvisioningFailure(
            code, reason: "\(directory.path)\(apposition) \(objection)",
            hint: "chown root \(directory.path.shellWord); chmod 0700 \(directory.path.shellWord)")
    }

    /// Whether the home has all that rsnapshot needs, and an owner for which root may work in it.
    /// - Parameter ownership: with `.none`, owners and modes are not checked.
    func condition(ownership: Ownership) throws(ProvisioningFailure) -> HomeCondition {
        guard let directory else { return .absent }
        if let danger = try danger(ownership: ownership) { return .unfinished(danger) }
        // With a store, the home's .snapshots only shows the snapshots.
        let names = try [HomePath.incomingName] + (store() != nil ? [] : [HomePath.snapshotsName])
        let missing = try Self.explained(below: home.root) { try names.first { try directory.directory($0) == nil } }
        return missing.map { .unfinished("lacks \($0)") } ?? .whole
    }

    /// Why root must not work in an existing home; nil: it may. Continues the home's path in a sentence.
    func danger(ownership: Ownership) throws(ProvisioningFailure) -> String? {
        try Self.explained(below: home.root) {
            guard let directory else { return nil }
            if ownership == .account, let objection = Self.objection(to: try directory.status()) { return objection }
            for name in [HomePath.snapshotsName, HomePath.incomingName] {
                guard let status = try directory.status(of: name) else { continue }
                guard status.isDirectory else { return "has \(name), which is not a directory" }
                guard ownership == .account, name == HomePath.snapshotsName else { continue }
                if let objection = Self.objection(to: status) { return "has \(name), which \(objection)" }
            }
            guard ownership == .account, let snapshots = try snapshots() else { return nil }
            return try Self.foreignLink(in: snapshots).map {
                "has \(HomePath.snapshotsName)/\($0), a symbolic link through which root would delete"
            }
        }
    }

    /// How to get the home that ``condition(ownership:)`` asks for.
    var repair: String {
        [moveAway, ConfiguredSnapshots.provisionAgain].compactMap(\.self).joined(separator: "; then ")
    }

    /// The command for a file in the home that has the name of one of its directories; nil: there is none.
    var moveAway: String? {
        let name = [HomePath.snapshotsName, HomePath.incomingName].first { name in
            (try? directory?.status(of: name)).map { !$0.isDirectory } ?? false
        }
        return name.map { name in
            let path = home.path.appending(name)
            return
                "see what \(path) is, and move it away: mv -T \(path.shellWord) \(FilePath("\(path).other").shellWord)"
        }
    }

    /// A link that the account made while it owned the directory of the snapshots: `rm -rf daily.6/`, with that slash, empties the target.
    private static func foreignLink(in snapshots: HeldDirectory) throws(HeldDirectory.Failure) -> FilePath.Component? {
        try snapshots.firstName(ofType: Int(DT_LNK)) { name throws(HeldDirectory.Failure) in
            guard let status = try snapshots.status(of: name), status.st_mode & S_IFMT == S_IFLNK else { return false }
            return status.st_uid != 0 && status.st_uid != geteuid()
        }
    }

    /// The number of the btrfs subvolume whose top is the account's own directory; nil: it is none.
    func subvolume() throws(ProvisioningFailure) -> UInt64? {
        try Self.explained(below: home.root) {
            guard let account, try account.status().st_ino == 256 else { return nil }
            return try account.subvolume()
        }
    }

    // MARK: - Errors

    /// Runs a body and turns its `HeldDirectory.Failure` into code 4.
    static func explained<Value>(
        below root: FilePath, _ body: () throws -> Value
    ) throws(ProvisioningFailure) -> Value {
        do {
            return try body()
        } catch let failure as ProvisioningFailure {
            throw failure
        } catch let failure as HeldDirectory.Failure {
            throw explain(failure, root: root)
        } catch {
            throw ProvisioningFailure(.undefinedError, reason: "\(error)", hint: "report this as a bug, with the log")
        }
    }

    static func explain(_ failure: HeldDirectory.Failure, root: FilePath) -> ProvisioningFailure {
        let path = failure.path
        var code = ProvisioningExitCode.cannotCheckHomeDirPresence
        var failureClass = FailureClass.permanent
        let (reason, hint): (String, String)
        switch failure.cause {
        case .noSuchFileOrDirectory where path == root:
            failureClass = .configuration
            reason = "the home root \(path) does not exist"
            hint = "mount it or make it (install -d -m 0755 \(path.shellWord)), or correct HOME_ROOTS"
        case .tooManySymbolicLinkLevels:
            reason = "\(path) is a symbolic link, and below \(root) none is followed"
            hint = "replace it by the directory itself; if the link is your own, name its target in HOME_ROOTS"
        case .notDirectory: (reason, hint) = ("\(path) is not a directory", "move it away")
        case .permissionDenied, .notPermitted:
            reason = "\(path) may not be examined (\(failure.cause))"
            hint = "run the daemon as root, or give its user the right to search the directory"
        case .noFunction:
            (code, failureClass) = (.runtimeRequirementNotSatisfied, .configuration)
            (reason, hint) = ("the kernel lacks openat2", "run Linux 5.6 or later, and let no sandbox forbid openat2")
        default:
            failureClass = FailureClass(failure.cause) ?? .retryable
            reason = "\(path) could not be examined (\(failure.operation): \(failure.cause))"
            hint = failure.cause.shortageHint(at: root)
        }
        return ProvisioningFailure(code, failureClass, reason: reason, hint: hint)
    }
}

/// The state of a home on the disk.
enum HomeCondition: Hashable {
    case absent
    /// The home lacks something, or root must not work in it. The text continues the home's path in a sentence.
    case unfinished(String)
    case whole
}
