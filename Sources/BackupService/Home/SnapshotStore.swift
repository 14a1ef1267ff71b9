import CLinux
import EventLoop
import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage

/// Where an account's snapshots are and how its home shows them (specification: snapshots.md#where-snapshots-are-kept). All calls block.
///
/// **If `BASE/.store/UID` exists the snapshots are there, else in the home**: one rename decides. So after a crash between any two calls they
/// are complete in one place, a backup finds them, and ``settle(_:)`` continues. No path of a customer is resolved; all calls use
/// descriptors of directories that belong to root.
struct SnapshotStore: Sendable {
    let home: HomePath
    /// Called before each change; a test throws here.
    var beforeEach: @Sendable (Call) throws(ProvisioningFailure) -> Void = { _ in }

    init(_ home: HomePath) { self.home = home }

    /// The directory below a volume that holds the snapshots of its accounts.
    static let directoryName: FilePath.Component = ".store"

    /// Serializes changes: when the daemon starts it mounts all snapshots while accounts are provisioned.
    private static let changes = Mutex(())

    // MARK: - State and plan

    struct Condition: Hashable, Sendable {
        /// Whether the snapshots are in the store.
        var isInStore: Bool
        var point: Point
    }

    /// The state of the home's `.snapshots`.
    enum Point: Hashable, Sendable {
        case absent
        /// A directory of the home, with nothing mounted at it.
        case directory(mode: UInt32)
        /// A directory of the home that holds something while the snapshots are in the store. No change of the daemon's leaves that: it comes
        /// from a copy that was made through the mount, or from a restored home, and can be hard links to what is in the store.
        case occupied
        /// The mount that shows the store. Not restricted: its options were changed.
        case view(isRestricted: Bool)
        /// Another mount.
        case foreign
    }

    /// One change.
    enum Call: Hashable, Sendable {
        case makeStores, moveToStore, moveToHome
        case makePoint(mode: UInt32), setMode(UInt32), removePoint
        case mount, restrictMount, unmount
    }

    /// - Parameter walk: to the home; nil: another one.
    func condition(_ walk: HomeWalk? = nil) throws(ProvisioningFailure) -> Condition {
        let walk = if let walk { walk } else { try HomeWalk(to: home) }
        let places = try OpenPlaces(walk)
        return try HomeWalk.explained(below: home.root) { try places.condition() }
    }

    /// The changes from a state to the one that the setting asks for.
    /// - Parameter moves: whether snapshots in the other place are moved; if not, they are shown or hidden where they are.
    static func calls(from condition: Condition, to access: SnapshotAccess, moves: Bool) -> [Call] {
        let (isInStore, point) = (condition.isInStore, condition.point)
        if point == .occupied { return [.setMode(0o700)] }
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
        case .foreign, .occupied: return shows
        }
    }

    // MARK: - Changes

    /// Moves the snapshots to where the setting wants them, and shows or hides them. No backup of the account may run meanwhile.
    /// - Throws: code 5, also for a point that is ``Point/occupied``, which is closed to the account then; code 4 if the directories above cannot
    ///   be trusted.
    func settle(_ access: SnapshotAccess) throws(ProvisioningFailure) { try change(to: access, moves: true) }

    /// Shows or hides the snapshots where they are.
    /// - Throws: as ``settle(_:)``.
    func show(_ access: SnapshotAccess) throws(ProvisioningFailure) { try change(to: access, moves: false) }

    private func change(to access: SnapshotAccess, moves: Bool) throws(ProvisioningFailure) {
        try Self.changes.withLock { _ throws(ProvisioningFailure) in try makeCalls(to: access, moves: moves) }
    }

    private func makeCalls(to access: SnapshotAccess, moves: Bool) throws(ProvisioningFailure) {
        let condition = try condition()
        let calls = Self.calls(from: condition, to: access, moves: moves)
        if condition.point == .foreign, !calls.isEmpty { throw foreignMount }
        for call in calls {
            try perform(call)
            // Only now it is seen what lies below the mount.
            if call == .unmount { return try makeCalls(to: access, moves: moves) }
        }
        if condition.point == .occupied { throw occupied(isRequest: moves) }
    }

    /// Removes the mount, if there is one.
    /// - Throws: as ``settle(_:)``.
    func unmount() throws(ProvisioningFailure) {
        try Self.changes.withLock { _ throws(ProvisioningFailure) in
            if case .view = try condition().point { try perform(.unmount) }
        }
    }

    /// Moves the snapshots back into the home, before it is archived.
    /// - Returns: false if something else is in their place; they stay in the store.
    /// - Throws: as ``settle(_:)``.
    func putBack() throws(ProvisioningFailure) -> Bool {
        try unmount()
        switch try condition().point {
        case .absent, .directory: break
        case .view, .foreign, .occupied: return false
        }
        try settle(.own)
        return true
    }

    private func perform(_ call: Call) throws(ProvisioningFailure) {
        try beforeEach(call)
        let places = try OpenPlaces(HomeWalk(to: home))
        do throws(HeldDirectory.Failure) { try places.perform(call) } catch { throw explain(error) }
    }

    // MARK: - Text

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

    /// Where the state differs from the setting, with hints.
    func notices(_ access: SnapshotAccess) throws(ProvisioningFailure) -> [String] {
        let condition = try condition()
        if condition.point == .foreign, condition.isInStore || access != .own {
            return ["\(foreignMount.reason); \(foreignMount.hint)"]
        }
        var notices: [String] = []
        let hasSnapshots = condition.isInStore || condition.point != .absent
        if hasSnapshots, condition.isInStore != (access != .own) {
            let place = condition.isInStore ? home.store : home.snapshots
            notices.append(
                "SNAPSHOTS is \(access.rawValue), and the snapshots lie in \(place), where backups go on; to move them, "
                    + ConfiguredSnapshots.provisionAgain)
        }
        guard !Self.calls(from: condition, to: access, moves: false).isEmpty else { return notices }
        if condition.point == .occupied {
            let failure = occupied(isRequest: false)
            notices.append("\(failure.reason); \(failure.hint)")
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

    /// - Parameter isRequest: whether a request fails with it, which has to be repeated then.
    private func occupied(isRequest: Bool) -> ProvisioningFailure {
        let archive = home.base.appending(ArchiveName.directory)
        let other = archive.appending("\(home.accountName)-others")
        return ProvisioningFailure(
            .cannotCreateHomeDir, .permanent,
            reason: "\(home.snapshots) holds files, and the account's snapshots lie in \(home.store)",
            hint: "move those files to where only root can enter, inspect and remove them: "
                + "install -d -m 0700 \(archive.shellWord) && mv -T \(home.snapshots.shellWord) \(other.shellWord); "
                + (isRequest
                    ? "then run: prov-backup-rsnapshot accounts retry \(home.accountName)"
                    : "the next backup does the rest"))
    }

    private func explain(_ failure: HeldDirectory.Failure) -> ProvisioningFailure {
        var failureClass: FailureClass? = .configuration
        let hint: String
        switch failure.cause {
        case .improperLink:
            hint =
                "snapshots are moved within one file system: name the mount that holds \(home.accountDirectory) in VOLUMES of a "
                + "[Pool NAME] section; on btrfs, where it is a subvolume, write SNAPSHOTS = own"
        case .noFunction: hint = "run Linux 5.12 or later, or write SNAPSHOTS = own"
        case .directoryNotEmpty, .fileExists:
            failureClass = .permanent
            hint =
                "see what is in \(home.snapshots) and \(home.store), and move away what does not belong to the account's snapshots"
        case .notPermitted, .permissionDenied:
            failureClass = .permanent
            hint = "run the daemon as root with CAP_SYS_ADMIN, or write SNAPSHOTS = own"
        default:
            failureClass = failure.cause == .resourceBusy ? .retryable : nil
            hint = "check the disk, /proc/self/mountinfo, the setting fs.mount-max and the kernel's log"
        }
        return failure.provisioningFailure(.cannotCreateHomeDir, failureClass, hint: hint)
    }
}

/// The directories that ``SnapshotStore`` changes, held open.
private struct OpenPlaces {
    private let home: HomePath
    private let base: HeldDirectory
    private let directory: HeldDirectory
    /// The parent of all stores.
    private let stores: HeldDirectory?
    private let store: HeldDirectory?

    private let name = HomePath.snapshotsName

    init(_ walk: HomeWalk) throws(ProvisioningFailure) {
        home = walk.home
        guard let base = walk.base, let directory = walk.directory else { throw HomePath.missing(at: "\(home.path)") }
        (self.base, self.directory) = (base, directory)
        stores = try walk.stores()
        store = try walk.store()
    }

    func condition() throws(HeldDirectory.Failure) -> SnapshotStore.Condition {
        SnapshotStore.Condition(isInStore: store != nil, point: try point())
    }

    private func point() throws(HeldDirectory.Failure) -> SnapshotStore.Point {
        do {
            guard let directory = try unmounted() else { return .absent }
            if store != nil, try !directory.isEmpty() { return .occupied }
            return .directory(mode: try directory.status().st_mode & 0o7777)
        } catch {
            guard error.cause == .improperLink else { throw error }
        }
        guard let root = try mounted() else { return .foreign }
        return .view(isRestricted: clinux_is_restricted_mount(root.descriptor) == 1)
    }

    /// The directory in the home; nil if there is none.
    /// - Throws: with the cause `improperLink` if something is mounted at it.
    private func unmounted() throws(HeldDirectory.Failure) -> HeldDirectory? {
        try directory.directory(name, crossesMounts: false)
    }

    /// The root of the mount that shows the store; nil if there is none.
    private func mounted() throws(HeldDirectory.Failure) -> HeldDirectory? {
        guard let store, let seen = try directory.directory(name) else { return nil }
        return try store.isSame(as: seen) ? seen : nil
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
        case .unmount:
            while case .view = try point() {
                guard let root = try mounted() else { return }
                try check("unmount", clinux_detach_mount(root.descriptor))
            }
        }
    }

    private func rename(
        _ source: HeldDirectory?, _ old: FilePath.Component, _ target: HeldDirectory?, _ new: FilePath.Component
    ) throws(HeldDirectory.Failure) {
        guard let source, let target else { throw missing("rename") }
        guard try source.rename(old, into: target, as: new) else {
            throw source.failure("rename to \(target.path.appending(new))", old, .fileExists)
        }
        try target.synchronize()
        try source.synchronize()
    }

    private func missing(_ operation: String) -> HeldDirectory.Failure {
        directory.failure(operation, name, .noSuchFileOrDirectory)
    }

    private func check(_ operation: String, _ result: Int32) throws(HeldDirectory.Failure) {
        guard result == 0 else { throw directory.failure(operation, name, Errno(rawValue: errno)) }
    }
}
