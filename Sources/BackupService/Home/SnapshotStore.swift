import CLinux
import EventLoop
import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage

/// Where an account's snapshots lie and how its home shows them (setting SNAPSHOTS); all of it blocks.
///
/// With `own` they lie in the home. Otherwise the directory that holds them is renamed to `BASE/.store/UID` on the same file system, where
/// only root can enter, and the home's `.snapshots` is an empty directory of root's: with `readonly` a mount shows them there, with `hidden`
/// nothing does. Owners, modes, hard links and what quotas count stay what they were.
///
/// **Where `BASE/.store/UID` exists the snapshots are there, else in the home**: one rename decides. So a crash between any two calls leaves
/// them whole in one place, a backup finds them, and ``settle(_:)`` goes on from there. No path of a customer is resolved: everything is done
/// by descriptors of directories that are root's. Specification: snapshots.md#where-snapshots-are-kept.
struct SnapshotStore: Sendable {
    let home: HomePath
    /// Is called before each call that changes something; a test throws here.
    var beforeEach: @Sendable (Call) throws(ProvisioningFailure) -> Void = { _ in }

    init(_ home: HomePath) { self.home = home }

    /// The directory below a volume that holds the snapshots of all its accounts that do not hold them themselves.
    static let directoryName: FilePath.Component = ".store"

    /// Changes are made one after the other: while a daemon that starts shows all snapshots, accounts are provisioned.
    private static let changes = Mutex(())

    // MARK: - What there is

    struct Condition: Hashable, Sendable {
        /// Whether the snapshots lie in the store.
        var isInStore: Bool
        var point: Point
    }

    /// What the home's `.snapshots` is.
    enum Point: Hashable, Sendable {
        case absent
        /// A directory of the home, with nothing mounted at it.
        case directory(mode: UInt32)
        /// The mount that shows the store; not restricted when somebody has changed it.
        case view(isRestricted: Bool)
        /// Something else is mounted there.
        case foreign
    }

    func condition() throws(ProvisioningFailure) -> Condition { try SnapshotPlaces(of: home).condition() }

    // MARK: - What is to be done

    /// One call that changes something.
    enum Call: Hashable, Sendable {
        case makeStores, moveToStore, moveToHome
        case makePoint(mode: UInt32), setMode(UInt32), removePoint
        case mount, restrictMount, unmount
    }

    /// What brings an account from what there is to what the setting says.
    /// - Parameter moves: whether snapshots that lie elsewhere are moved; else they are shown, or not shown, from where they are.
    static func calls(from condition: Condition, to access: SnapshotAccess, moves: Bool) -> [Call] {
        let (isInStore, point) = (condition.isInStore, condition.point)
        guard moves ? access != .own : isInStore else {
            guard isInStore else { return [] }
            let isShown = if case .view = point { true } else { false }
            return (isShown ? [.unmount] : []) + (point == .absent ? [] : [.removePoint]) + [.moveToHome]
        }
        let mode: UInt32 = access == .hidden ? 0o700 : 0o755
        let shows: [Call] = access == .hidden ? [] : [.mount]
        guard isInStore else { return [.makeStores, .moveToStore, .makePoint(mode: mode)] + shows }
        switch point {
        case .absent: return [.makePoint(mode: mode)] + shows
        case .directory(mode): return shows
        case .directory: return [.setMode(mode)] + shows
        case .view where access == .hidden: return [.unmount, .setMode(mode)]
        case .view(let isRestricted): return isRestricted ? [] : [.restrictMount]
        case .foreign: return shows
        }
    }

    /// Brings the snapshots to where the setting wants them, and shows them or not. No backup of the account may run meanwhile.
    /// - Throws: code 5, or code 4 where the way to them cannot be trusted.
    func settle(_ access: SnapshotAccess) throws(ProvisioningFailure) { try change(to: access, moves: true) }

    /// Shows the snapshots from where they are, or not, as the setting says.
    /// - Throws: as ``settle(_:)``.
    func show(_ access: SnapshotAccess) throws(ProvisioningFailure) { try change(to: access, moves: false) }

    private func change(to access: SnapshotAccess, moves: Bool) throws(ProvisioningFailure) {
        try Self.serially { () throws(ProvisioningFailure) in
            let condition = try condition()
            let calls = Self.calls(from: condition, to: access, moves: moves)
            if condition.point == .foreign, !calls.isEmpty { throw foreignMount }
            for call in calls { try perform(call) }
        }
    }

    /// Takes the mount away, where there is one.
    /// - Throws: as ``settle(_:)``.
    func unmount() throws(ProvisioningFailure) {
        try Self.serially { () throws(ProvisioningFailure) in
            if case .view = try condition().point { try perform(.unmount) }
        }
    }

    /// Has the home hold its snapshots again, before it is archived.
    /// - Returns: false where it cannot, because something else is in their place; they are still in the store then.
    /// - Throws: as ``settle(_:)``.
    func putBack() throws(ProvisioningFailure) -> Bool {
        try unmount()
        guard try SnapshotPlaces(of: home).hasFreePoint() else { return false }
        try settle(.own)
        return true
    }

    private static func serially(_ body: () throws(ProvisioningFailure) -> Void) throws(ProvisioningFailure) {
        try changes.withLock { _ in Result { () throws(ProvisioningFailure) in try body() } }.get()
    }

    private func perform(_ call: Call) throws(ProvisioningFailure) {
        try beforeEach(call)
        let places = try SnapshotPlaces(of: home)
        do throws(HeldDirectory.Failure) {
            try places.perform(call)
        } catch {
            throw explain(error)
        }
    }

    // MARK: - In words

    /// One line, for a dry run.
    func text(of call: Call) -> String {
        let (point, store) = (home.snapshots, home.store)
        return switch call {
        case .makeStores: "mkdir \(store.removingLastComponent()) (0700)"
        case .moveToStore: "rename \(point) to \(store)"
        case .moveToHome: "rename \(store) to \(point)"
        case .makePoint(let mode): "mkdir \(point) (\(FileTrustError.octal(mode)))"
        case .setMode(let mode): "chmod \(FileTrustError.octal(mode)) \(point)"
        case .removePoint: "rmdir \(point)"
        case .mount: "mount \(store) at \(point), read-only, nosuid and nodev"
        case .restrictMount: "remount \(point) read-only, nosuid and nodev"
        case .unmount: "umount \(point)"
        }
    }

    /// What is not as the setting says, with the hint.
    func notices(_ access: SnapshotAccess) throws(ProvisioningFailure) -> [String] {
        let condition = try condition()
        var notices: [String] = []
        if condition.isInStore != (access != .own) {
            let place = condition.isInStore ? home.store : home.snapshots
            notices.append(
                "SNAPSHOTS is \(access.rawValue), and the snapshots lie in \(place), where backups go on; to move them, "
                    + ConfiguredSnapshots.provisionAgain)
        }
        guard !Self.calls(from: condition, to: access, moves: false).isEmpty else { return notices }
        if condition.point == .foreign {
            notices.append("\(foreignMount.reason); \(foreignMount.hint)")
        } else if access == .hidden {
            notices.append("\(home.snapshots) does not match SNAPSHOTS = hidden; the next backup repairs it")
        } else {
            notices.append("the mount at \(home.snapshots) is missing or wrong; the next backup repairs it")
        }
        return notices
    }

    private var foreignMount: ProvisioningFailure {
        ProvisioningFailure(
            .cannotCreateHomeDir, reason: "something else than the account's snapshots is mounted at \(home.snapshots)",
            hint: "umount \(home.snapshots.shellWord)")
    }

    private func explain(_ failure: HeldDirectory.Failure) -> ProvisioningFailure {
        let failureClass: FailureClass
        let hint: String
        switch failure.cause {
        case .improperLink:
            failureClass = .configuration
            hint = """
                snapshots are moved within one file system: name the mount that holds \(home.accountDirectory) in VOLUMES of a \
                [Pool NAME] section; on btrfs, where it is a subvolume, write SNAPSHOTS = own
                """
        case .directoryNotEmpty, .fileExists:
            failureClass = .permanent
            hint = "\(home.snapshots) has files, and the snapshots lie in \(home.store): move those files away"
        case .noFunction:
            failureClass = .configuration
            hint = "run Linux 5.12 or later, or write SNAPSHOTS = own"
        case .notPermitted, .permissionDenied:
            failureClass = .permanent
            hint = "run the daemon as root with CAP_SYS_ADMIN, or write SNAPSHOTS = own"
        default:
            failureClass =
                failure.cause == .resourceBusy ? .retryable : FailureClass(failure.cause) ?? .permanent
            hint = "check the disk, /proc/self/mountinfo, the setting fs.mount-max and the kernel's log"
        }
        return ProvisioningFailure(
            .cannotCreateHomeDir, failureClass,
            reason: "could not \(failure.operation) \(failure.path): \(failure.cause)", hint: hint)
    }
}

/// The directories that are to do with an account's snapshots, held open.
private struct SnapshotPlaces {
    let home: HomePath
    private let base: HeldDirectory
    private let directory: HeldDirectory
    /// The parent of all stores.
    private let stores: HeldDirectory?
    private let store: HeldDirectory?

    private let name = HomeDirectory.snapshots

    init(of home: HomePath) throws(ProvisioningFailure) {
        let walk = try HomeWalk(to: home)
        guard let base = walk.base, let directory = walk.directory else {
            throw ProvisioningFailure(
                .cannotCheckHomeDirPresence, reason: "there is no home at \(home.path)",
                hint: "mount its volume if it is not mounted; else " + ConfiguredSnapshots.provisionAgain)
        }
        self.home = home
        self.base = base
        self.directory = directory
        stores = try walk.stores()
        store = try walk.store()
    }

    func condition() throws(ProvisioningFailure) -> SnapshotStore.Condition {
        do throws(HeldDirectory.Failure) {
            return SnapshotStore.Condition(isInStore: store != nil, point: try point())
        } catch {
            throw HomeWalk.explain(error, root: home.root)
        }
    }

    /// Whether nothing is lost when the point goes.
    func hasFreePoint() throws(ProvisioningFailure) -> Bool {
        do throws(HeldDirectory.Failure) {
            switch try point() {
            case .absent: return true
            case .directory: return try directory.directory(name)?.names().isEmpty != false
            case .view, .foreign: return false
            }
        } catch {
            throw HomeWalk.explain(error, root: home.root)
        }
    }

    private func point() throws(HeldDirectory.Failure) -> SnapshotStore.Point {
        do {
            guard let directory = try unmounted() else { return .absent }
            return .directory(mode: try directory.status().st_mode & 0o7777)
        } catch {
            guard error.cause == .improperLink else { throw error }
        }
        guard let root = try mounted() else { return .foreign }
        return .view(isRestricted: clinux_is_restricted_mount(root.descriptor) == 1)
    }

    /// The directory in the home; nil where there is none.
    /// - Throws: with the cause `improperLink` where something is mounted at it.
    private func unmounted() throws(HeldDirectory.Failure) -> HeldDirectory? {
        try directory.directory(name, reach: .sameFileSystem)
    }

    /// The root of the mount that shows the store; nil where there is none.
    private func mounted() throws(HeldDirectory.Failure) -> HeldDirectory? {
        guard let store, let seen = try directory.directory(name) else { return nil }
        let (first, second) = (try store.status(), try seen.status())
        return first.st_dev == second.st_dev && first.st_ino == second.st_ino ? seen : nil
    }

    func perform(_ call: SnapshotStore.Call) throws(HeldDirectory.Failure) {
        switch call {
        case .makeStores: if try base.makeDirectory(SnapshotStore.directoryName) { try base.synchronize() }
        case .moveToStore: try rename(directory, name, stores, home.accountName)
        case .moveToHome: try rename(stores, home.accountName, directory, name)
        case .makePoint(let mode):
            _ = try directory.makeDirectory(name)
            try unmounted()?.set(owner: nil, mode: mode)
            try directory.synchronize()
        case .setMode(let mode): try unmounted()?.set(owner: nil, mode: mode)
        case .removePoint:
            try directory.removeEmptyDirectory(name)
            try directory.synchronize()
        case .mount:
            guard let point = try unmounted(), let store else { throw missing("mount") }
            try check("mount", clinux_mount_read_only(store.descriptor, point.descriptor))
        case .restrictMount:
            guard let root = try mounted() else { throw missing("remount") }
            try check("remount", clinux_restrict_mount(root.descriptor))
        case .unmount: try unmountAll()
        }
    }

    private func unmountAll() throws(HeldDirectory.Failure) {
        while case .view = try point() {
            guard let root = try mounted() else { return }
            try check("unmount", clinux_detach_mount(root.descriptor))
        }
    }

    private func rename(
        _ source: HeldDirectory?, _ old: FilePath.Component, _ target: HeldDirectory?, _ new: FilePath.Component
    ) throws(HeldDirectory.Failure) {
        guard let source, let target else { throw missing("rename") }
        guard try source.rename(old, into: target, as: new) else {
            throw HeldDirectory.Failure(
                operation: "rename to \(target.path.appending(new))", path: source.path.appending(old),
                cause: .fileExists)
        }
        try target.synchronize()
        try source.synchronize()
    }

    private func missing(_ operation: String) -> HeldDirectory.Failure {
        HeldDirectory.Failure(operation: operation, path: directory.path.appending(name), cause: .noSuchFileOrDirectory)
    }

    private func check(_ operation: String, _ result: Int32) throws(HeldDirectory.Failure) {
        guard result != 0 else { return }
        let cause = Errno(rawValue: errno)
        throw HeldDirectory.Failure(operation: operation, path: directory.path.appending(name), cause: cause)
    }
}

extension HomeWalk {
    /// The directory that holds the snapshots of the volume's accounts; nil where there is none.
    /// - Throws: code 4 where others than root could enter it.
    func stores() throws(ProvisioningFailure) -> HeldDirectory? {
        let (stores, status) = try home.explained { () throws(HeldDirectory.Failure) in
            let stores = try base?.directory(SnapshotStore.directoryName)
            return (stores, try stores?.status())
        }
        guard let stores, let status else { return nil }
        let isOpen = status.st_mode & 0o077 != 0
        if let objection = Self.objection(to: status) ?? (isOpen ? "can be entered by others" : nil) {
            throw ProvisioningFailure(
                .cannotCheckHomeDirPresence, reason: "\(stores.path), which holds snapshots, \(objection)",
                hint: "chown root \(stores.path.shellWord); chmod 0700 \(stores.path.shellWord)")
        }
        return stores
    }

    /// Where the account's snapshots lie, unless the home holds them; nil where there is none.
    /// - Throws: as ``stores()``.
    func store() throws(ProvisioningFailure) -> HeldDirectory? {
        guard let stores = try stores() else { return nil }
        return try home.explained { () throws(HeldDirectory.Failure) in try stores.directory(home.accountName) }
    }

    /// The directory that holds the account's snapshots; nil where there is none.
    /// - Throws: code 4.
    func snapshots() throws(ProvisioningFailure) -> HeldDirectory? {
        if let store = try store() { return store }
        return try home.explained { () throws(HeldDirectory.Failure) in
            try directory?.directory(HomeDirectory.snapshots)
        }
    }
}

/// Brings an account's snapshots to where the setting SNAPSHOTS wants them, and has its home show them or not.
struct SnapshotStoreStep: ProvisioningStep {
    let store: SnapshotStore
    let access: SnapshotAccess
    let name = "snapshots"
    /// What is to be done, as far as it was known when the plan was made.
    let calls: [SnapshotStore.Call]

    /// - Parameters:
    ///   - condition: as it is when the plan is made; nil where there is no whole home yet.
    init(store: SnapshotStore, access: SnapshotAccess, condition: SnapshotStore.Condition?) {
        self.store = store
        self.access = access
        let condition = condition ?? .init(isInStore: false, point: .absent)
        calls = SnapshotStore.calls(from: condition, to: access, moves: true)
    }

    var preview: String {
        calls.isEmpty ? "as SNAPSHOTS says" : calls.map(store.text).joined(separator: "\n")
    }

    func perform(in attempt: RunningAttempt) async throws {
        let (store, access) = (store, access)
        try await BlockingWork.run { _ in try store.settle(access) }
    }
}
