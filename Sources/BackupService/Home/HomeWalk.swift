import Glibc
import JobCore
import Provisioning
import SystemPackage

/// The directories from a home root down to a home, opened one by one and held, as far as they exist.
///
/// The root itself may be a symbolic link, as the administrator chose; below it no link is followed, and no directory on the way may be
/// one that the account or others could change, for then it would be they who decide where root works. A home of an earlier time, of which that does not
/// hold, is taken over first: ``HomeTakeOver``.
/// Diagnostics: code 4 with the component named; code 3 where the kernel lacks openat2.
struct HomeWalk {
    let home: HomePath
    /// The root first, then each directory that exists.
    private(set) var held: [HeldDirectory]
    /// The names from the root down to the home.
    private let directories: [FilePath.Component]

    /// - Parameter isTakenOver: whether a step before takes over the account's own directories, so that nothing is to be said of their owners yet.
    init(to home: HomePath, isTakenOver: Bool = false) throws(ProvisioningFailure) {
        self.home = home
        directories = home.directories
        held = try Self.descend(
            from: home.root, directories, examined: (isTakenOver ? home.accountDirectories : directories).count - 1)
    }

    /// A directory that the daemon keeps in a volume, or else root, for all its accounts.
    /// - Returns: it, held, and the names in it; nil where there is none.
    /// - Throws: as ``init(to:isTakenOver:)``; it is judged as the directories on the way to a home are.
    static func contents(
        of name: FilePath.Component, in base: FilePath, _ places: HomePlaces
    ) throws(ProvisioningFailure) -> (directory: HeldDirectory, names: [FilePath.Component])? {
        let root = places.root(containing: base) ?? base
        let way = base.components.dropFirst(root.components.count) + [name]
        let held = try descend(from: root, Array(way), examined: way.count)
        guard held.count == way.count + 1, let directory = held.last else { return nil }
        return (directory, try explained(below: root) { () throws(HeldDirectory.Failure) in try directory.names() })
    }

    /// Opens the directories below a root, one by one, as far as they exist.
    /// - Parameter examined: how many of them only root may be able to change.
    /// - Returns: the root first.
    private static func descend(
        from root: FilePath, _ names: [FilePath.Component], examined: Int
    ) throws(ProvisioningFailure) -> [HeldDirectory] {
        var held = [
            try explained(below: root) { () throws(HeldDirectory.Failure) in try HeldDirectory(configured: root) }
        ]
        try FileTrust.demand(root, as: .directory, setting: "HOME_ROOTS", code: .cannotCheckHomeDirPresence)
        for (depth, name) in names.enumerated() {
            let parent = held[depth]
            let found = try explained(below: root) { () throws(HeldDirectory.Failure) in
                let next = try parent.directory(name)
                return (next, try next?.status())
            }
            guard case (let next?, let status?) = found else { break }
            if depth < examined, let objection = objection(to: status) {
                throw untrusted(next.path, below: root, objection)
            }
            held.append(next)
        }
        return held
    }

    /// The home itself, where it exists.
    var directory: HeldDirectory? { held.count == directories.count + 1 ? held.last : nil }
    /// The names of the directories that are missing on the way to the home, and of the home where it is missing itself.
    var missing: ArraySlice<FilePath.Component> { directories.dropFirst(held.count - 1) }
    /// The account's own directory, where it exists.
    var account: HeldDirectory? { at(home.accountDirectories.count) }
    /// The directory that holds the account's own, where it exists.
    var accountParent: HeldDirectory? { at(home.accountDirectories.count - 1) }
    /// The volume, or else root, under which the account's directory lies, where it exists.
    var base: HeldDirectory? { at(home.baseDirectories.count) }
    /// The deepest directory on the way that exists.
    var deepest: HeldDirectory? { held.last }

    private func at(_ depth: Int) -> HeldDirectory? { held.indices.contains(depth) ? held[depth] : nil }

    /// Why root must not work in a directory, or nil when it may.
    static func objection(to status: stat) -> String? {
        if status.st_uid != 0, status.st_uid != geteuid() { return "belongs to user \(status.st_uid)" }
        if status.st_mode & 0o022 != 0 {
            return "can be written by others (mode \(FileTrustError.octal(status.st_mode & 0o7777)))"
        }
        return nil
    }

    private static func untrusted(
        _ path: FilePath, below root: FilePath, _ objection: String
    ) -> ProvisioningFailure {
        ProvisioningFailure(
            .cannotCheckHomeDirPresence, reason: "\(path), a directory below the home root \(root), \(objection)",
            hint: "chown root \(path.shellWord); chmod go-w \(path.shellWord)")
    }

    /// Does something below a root; what goes wrong is explained by ``explain(_:root:)``.
    static func explained<Value>(
        below root: FilePath, _ body: () throws(HeldDirectory.Failure) -> Value
    ) throws(ProvisioningFailure) -> Value {
        do throws(HeldDirectory.Failure) { return try body() } catch { throw explain(error, root: root) }
    }

    static func explain(_ failure: HeldDirectory.Failure, root: FilePath) -> ProvisioningFailure {
        let code = ProvisioningExitCode.cannotCheckHomeDirPresence
        let path = failure.path
        switch failure.cause {
        case .noSuchFileOrDirectory where path == root:
            return ProvisioningFailure(
                code, .configuration, reason: "the home root \(path) does not exist",
                hint: "mount it or make it (install -d -m 0755 \(path.shellWord)), or correct HOME_ROOTS")
        case .tooManySymbolicLinkLevels:
            return ProvisioningFailure(
                code, reason: "\(path) is a symbolic link, and below \(root) none is followed",
                hint: "put the directory itself in its place; if it is your own, HOME_ROOTS may have its target instead"
            )
        case .notDirectory:
            return ProvisioningFailure(
                code, reason: "\(path) is not a directory", hint: "move what is there out of the way")
        case .permissionDenied, .notPermitted:
            return ProvisioningFailure(
                code, reason: "\(path) may not be examined (\(failure.cause))",
                hint: "run the daemon as root, or give its user the right to search the directory")
        case .noFunction:
            return ProvisioningFailure(
                .runtimeRequirementNotSatisfied, .configuration, reason: "the kernel lacks openat2",
                hint: "run Linux 5.6 or later, and let no sandbox forbid openat2")
        default:
            return ProvisioningFailure(
                code, FailureClass(failure.cause) ?? .retryable,
                reason: "\(path) could not be examined (\(failure.operation): \(failure.cause))",
                hint: failure.cause.shortageHint(at: root))
        }
    }
}

extension HomePath {
    /// Does something to a directory on the way to the home; what goes wrong is explained as by ``HomeWalk``.
    func explained<Value>(
        _ body: () throws(HeldDirectory.Failure) -> Value
    ) throws(ProvisioningFailure) -> Value {
        try HomeWalk.explained(below: root, body)
    }
}

/// What stands at a home's place.
enum HomeCondition: Hashable {
    case absent
    /// A home that lacks something, or that it would be unsafe to work in: reads on after the home's path.
    case unfinished(String)
    case whole
}

extension HomeWalk {
    /// Looks whether the home has what rsnapshot needs and is owned so that root may work in it.
    /// - Parameter ownership: with `.none`, owners and modes are not looked at.
    func condition(ownership: Ownership) throws(ProvisioningFailure) -> HomeCondition {
        guard let directory else { return .absent }
        if let danger = try danger(ownership: ownership) { return .unfinished(danger) }
        let hasStore = try store() != nil
        do throws(HeldDirectory.Failure) {
            // With a store the name shows the snapshots and no more.
            for name in [HomeDirectory.incoming] + (hasStore ? [] : [HomeDirectory.snapshots])
            where try directory.directory(name) == nil {
                return .unfinished("lacks \(name)")
            }
        } catch {
            throw Self.explain(error, root: home.root)
        }
        return .whole
    }

    /// Why it would be unsafe for root to work in an existing home, or nil; reads on after the home's path.
    func danger(ownership: Ownership) throws(ProvisioningFailure) -> String? {
        guard let directory else { return nil }
        do throws(HeldDirectory.Failure) {
            if ownership == .account, let objection = Self.objection(to: try directory.status()) { return objection }
            for name in [HomeDirectory.snapshots, HomeDirectory.incoming] {
                guard let status = try directory.status(of: name) else { continue }
                guard status.st_mode & S_IFMT == S_IFDIR else { return "has \(name), which is not a directory" }
                guard ownership == .account, name == HomeDirectory.snapshots else { continue }
                if let objection = Self.objection(to: status) { return "has \(name), which \(objection)" }
            }
        } catch {
            throw Self.explain(error, root: home.root)
        }
        guard ownership == .account, let snapshots = try snapshots() else { return nil }
        do throws(HeldDirectory.Failure) {
            return try Self.foreignLink(in: snapshots).map {
                "has \(HomeDirectory.snapshots)/\($0), a symbolic link through which root would delete"
            }
        } catch {
            throw Self.explain(error, root: home.root)
        }
    }

    /// A link that the account left where rsnapshot keeps snapshots, from a time when the directory was its own: `rm -rf daily.6/`, with that
    /// slash, empties the directory that the link leads to.
    private static func foreignLink(in snapshots: HeldDirectory) throws(HeldDirectory.Failure) -> FilePath.Component? {
        try snapshots.firstName { name throws(HeldDirectory.Failure) in
            guard let status = try snapshots.status(of: name), status.st_mode & S_IFMT == S_IFLNK else { return false }
            return status.st_uid != 0 && status.st_uid != geteuid()
        }
    }
}
