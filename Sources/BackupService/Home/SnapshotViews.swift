import EventLoop
import JobCore
import Provisioning
package import SystemPackage

/// How the homes of all accounts show their snapshots. Mounts are lost at a reboot; the stores hold the accounts' uids, so LDAP is not needed to
/// restore them.
package struct SnapshotViews: Sendable {
    /// The number of accounts whose snapshots are in a store.
    package private(set) var accounts = 0
    /// The `.snapshots` of homes that do not, or did not, show them as SNAPSHOTS says.
    package private(set) var changed: [FilePath] = []
    /// The `.snapshots` of homes that hold something else (``SnapshotStore/Point/occupied``).
    private(set) var occupied: [FilePath] = []
    /// Snapshots of accounts without a configuration, such as deleted accounts whose homes are kept.
    private(set) var unassigned: [FilePath] = []
    /// Snapshots elsewhere than in the store of the home that the account's configuration names, one line each.
    package private(set) var misplaced: [String] = []
    /// What could not be examined or changed, one line each with the hint.
    package private(set) var problems: [String] = []

    /// So many mounts slow down the kernel and the programs that read its list of mounts.
    static let manyAccounts = 5_000

    private let configuration: BackupConfiguration
    private let changes: Bool

    /// Examines all homes without changing anything.
    /// - Throws: `CancellationError`.
    static func look(_ configuration: BackupConfiguration) async throws -> SnapshotViews {
        try await all(configuration, changes: false)
    }

    /// Mounts and unmounts as SNAPSHOTS says.
    /// - Throws: `CancellationError`; mounts made until then stay.
    package static func restore(_ configuration: BackupConfiguration) async throws -> SnapshotViews {
        try await all(configuration, changes: true)
    }

    private static func all(_ configuration: BackupConfiguration, changes: Bool) async throws -> SnapshotViews {
        try await BlockingWork.run(on: .walks) { isCancelled in
            var views = SnapshotViews(configuration: configuration, changes: changes)
            for base in configuration.places.bases {
                for store in views.stores(in: base) {
                    if isCancelled() { throw CancellationError() }
                    views.examine(store)
                }
            }
            return views
        }
    }

    /// The accounts' directories in the store of a volume.
    private mutating func stores(in base: FilePath) -> [FilePath] {
        do throws(ProvisioningFailure) {
            let found = try HomeWalk.contents(of: SnapshotStore.directoryName, in: base, configuration.places)
            guard let (directory, names) = found else { return [] }
            return names.map { directory.path.appending($0) }.sorted { $0.string < $1.string }
        } catch {
            problems.append("\(error.reason); \(error.hint)")
            return []
        }
    }

    private mutating func examine(_ store: FilePath) {
        do throws(ProvisioningFailure) {
            guard let uid = store.lastComponent?.string, EntryReader.decimal(uid) != nil,
                let text = try ConfigurationFile(of: uid, configuration).trustedText()
            else {
                unassigned.append(store)
                return
            }
            let made = ConfiguredSnapshots(parsing: text).home
            guard let made, let home = try? HomePath(parsing: made.string, uid: uid, places: configuration.places)
            else {
                let named = made.map { "the home \($0), which is none of the settings" } ?? "no home"
                problems.append(
                    "\(store): the account's configuration names \(named); "
                        + ConfiguredSnapshots.provisionAgain)
                return
            }
            guard home.store == store else {
                if !Self.isOneDirectory(store, home.store) { misplaced.append("\(store) (belongs in \(home.store))") }
                return
            }
            accounts += 1
            let (store, access) = (SnapshotStore(home), configuration.snapshots)
            let condition = try store.condition()
            if SnapshotStore.calls(from: condition, to: access, moves: false).isEmpty { return }
            if condition.point == .occupied {
                occupied.append(home.snapshots)
            } else {
                changed.append(home.snapshots)
            }
            if changes { try store.show(access) }
        } catch {
            problems.append("\(error.reason); \(error.hint)")
        }
    }

    /// Whether a store is seen twice, since a root may be a symbolic link to another one.
    private static func isOneDirectory(_ first: FilePath, _ second: FilePath) -> Bool {
        (try? HeldDirectory(configured: first).isSame(as: HeldDirectory(configured: second))) == true
    }
}
