import EventLoop
import JobCore
import Provisioning
package import SystemPackage

/// How the homes of all accounts show their snapshots. The kernel forgets mounts with every boot; the stores tell whose they were, without a
/// question to the directory.
package struct SnapshotViews: Sendable {
    /// What was found.
    package struct Report: Hashable, Sendable {
        /// Accounts whose snapshots lie in a store.
        package internal(set) var accounts = 0
        /// Those whose home does not show them as SNAPSHOTS says, or did not before.
        package internal(set) var changed: [FilePath] = []
        /// Snapshots of accounts without a configuration: such as those of deleted accounts that are kept.
        package internal(set) var unassigned: [FilePath] = []
        /// What could not be found out or done, with the hint; one line each.
        package internal(set) var problems: [String] = []

        /// More than the kernel and the programs that read its list of mounts should bear.
        package static let manyAccounts = 5_000
    }

    let configuration: BackupConfiguration

    /// - Parameter configuration: of it, the places of homes, SNAPSHOTS and the directory of the accounts' configurations.
    package init(_ configuration: BackupConfiguration) { self.configuration = configuration }

    /// Looks, and changes nothing.
    /// - Throws: `CancellationError`.
    package func look() async throws -> Report { try await run { _ in } }

    /// Mounts what is to be shown and unmounts what is not.
    /// - Throws: `CancellationError`; what was mounted stays.
    package func restore() async throws -> Report {
        let access = configuration.snapshots
        return try await run { store throws(ProvisioningFailure) in try store.show(access) }
    }

    private func run(
        _ change: @escaping @Sendable (SnapshotStore) throws(ProvisioningFailure) -> Void
    ) async throws -> Report {
        let views = self
        return try await BlockingWork.run(on: .walks) { isCancelled in
            var report = Report()
            let places = views.configuration.places
            for base in Set(places.volumes + places.roots).sorted(by: { $0.string < $1.string }) {
                for store in views.stores(in: base, &report) {
                    if isCancelled() { throw CancellationError() }
                    views.examine(store, &report, change)
                }
            }
            return report
        }
    }

    /// The directories of accounts in the store of a volume.
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

    private func examine(
        _ store: FilePath, _ report: inout Report,
        _ change: (SnapshotStore) throws(ProvisioningFailure) -> Void
    ) {
        do throws(ProvisioningFailure) {
            guard let home = try home(of: store) else {
                report.unassigned.append(store)
                return
            }
            report.accounts += 1
            let store = SnapshotStore(home)
            let condition = try store.condition()
            guard !SnapshotStore.calls(from: condition, to: configuration.snapshots, moves: false).isEmpty else {
                return
            }
            report.changed.append(home.snapshots)
            try change(store)
        } catch {
            report.problems.append("\(error.reason); \(error.hint)")
        }
    }

    /// The home that an account's own configuration copies from.
    /// - Returns: nil where there is none whose snapshots would lie in this store.
    private func home(of store: FilePath) throws(ProvisioningFailure) -> HomePath? {
        guard let uid = store.lastComponent?.string, EntryReader.decimal(uid) != nil else { return nil }
        let file = ConfigurationFile(
            directory: configuration.configurationDirectory, uid: uid, ownership: configuration.ownership)
        guard let text = try file.trustedText(), let path = ConfiguredSnapshots(parsing: text).home else { return nil }
        do throws(HomePath.Invalid) {
            let home = try HomePath(parsing: path.string, uid: uid, places: configuration.places)
            return home.store == store ? home : nil
        } catch {
            return nil
        }
    }
}
