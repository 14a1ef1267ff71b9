import EventLoop
import JobCore
import Provisioning
package import SystemPackage

/// How the homes of all accounts show their snapshots. Mounts are lost at a reboot; the stores hold the accounts' uids, so LDAP is not needed to
/// restore them.
package struct SnapshotViews: Sendable {
    /// What was found.
    package struct Report: Hashable, Sendable {
        /// The number of accounts whose snapshots are in a store.
        package internal(set) var accounts = 0
        /// The `.snapshots` of homes that do not, or did not, show them as SNAPSHOTS says.
        package internal(set) var changed: [FilePath] = []
        /// Snapshots of accounts without a configuration, such as deleted accounts whose homes are kept.
        var unassigned: [FilePath] = []
        /// What could not be examined or changed, one line each with the hint.
        package internal(set) var problems: [String] = []

        /// So many mounts slow down the kernel and the programs that read its list of mounts.
        static let manyAccounts = 5_000
    }

    let configuration: BackupConfiguration

    package init(_ configuration: BackupConfiguration) { self.configuration = configuration }

    /// Examines all homes without changing anything.
    /// - Throws: `CancellationError`.
    func look() async throws -> Report { try await run(changes: false) }

    /// Mounts and unmounts as SNAPSHOTS says.
    /// - Throws: `CancellationError`; mounts made until then stay.
    package func restore() async throws -> Report { try await run(changes: true) }

    private func run(changes: Bool) async throws -> Report {
        let views = self
        return try await BlockingWork.run(on: .walks) { isCancelled in
            var report = Report()
            for base in views.configuration.places.bases {
                for store in views.stores(in: base, &report) {
                    if isCancelled() { throw CancellationError() }
                    views.examine(store, changes: changes, &report)
                }
            }
            return report
        }
    }

    /// The accounts' directories in the store of a volume.
    private func stores(in base: FilePath, _ report: inout Report) -> [FilePath] {
        do throws(ProvisioningFailure) {
            let found = try HomeWalk.contents(of: SnapshotStore.directoryName, in: base, configuration.places)
            guard let (directory, names) = found else { return [] }
            return names.map { directory.path.appending($0) }.sorted { $0.string < $1.string }
        } catch {
            report.problems.append("\(error.reason); \(error.hint)")
            return []
        }
    }

    private func examine(_ store: FilePath, changes: Bool, _ report: inout Report) {
        do throws(ProvisioningFailure) {
            guard let home = try home(of: store) else {
                report.unassigned.append(store)
                return
            }
            report.accounts += 1
            let (store, access) = (SnapshotStore(home), configuration.snapshots)
            if SnapshotStore.calls(from: try store.condition(), to: access, moves: false).isEmpty { return }
            report.changed.append(home.snapshots)
            if changes { try store.show(access) }
        } catch {
            report.problems.append("\(error.reason); \(error.hint)")
        }
    }

    /// The home in the account's rsnapshot configuration.
    /// - Returns: nil if there is none whose snapshots would be in this store.
    private func home(of store: FilePath) throws(ProvisioningFailure) -> HomePath? {
        guard let uid = store.lastComponent?.string, EntryReader.decimal(uid) != nil,
            let text = try ConfigurationFile(of: uid, configuration).trustedText(),
            let path = ConfiguredSnapshots(parsing: text).home
        else { return nil }
        do throws(HomePath.Invalid) {
            let home = try HomePath(parsing: path.string, uid: uid, places: configuration.places)
            return home.store == store ? home : nil
        } catch {
            return nil
        }
    }
}
