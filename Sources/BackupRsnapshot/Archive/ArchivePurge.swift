public import JobCore
import Provisioning
public import SystemPackage

/// Removes archived homes that are old enough. The daemon runs it once a day.
///
/// Only names that archiving gives count; anything else in `.deleted` is left alone.
public struct ArchivePurge: Sendable {
    /// A home that is gone now.
    public struct Purged: Hashable, Sendable {
        /// The account that it was.
        public var uid: String
        /// Where it lay.
        public var path: FilePath
        /// The volume, or else the root, that held it.
        public var volume: FilePath
    }

    /// What a run did.
    public struct Report: Hashable, Sendable {
        /// The homes that are gone now, in the order of their names.
        public var purged: [Purged]
        /// What could not be removed, with why and what mends it.
        public var problems: [String]
    }

    let places: HomePlaces
    let keepDays: Int

    /// - Parameter configuration: of it, the places of homes and the days that an archived home is kept.
    public init(_ configuration: BackupConfiguration) {
        places = configuration.places
        keepDays = configuration.purgeAfterDays
    }

    /// Those of the names that are older than the days they are kept.
    func due(_ names: [String], now: WallTime) -> [ArchiveName] {
        names.compactMap(ArchiveName.init(parsing:))
            .filter { now - $0.archived > .seconds(86_400 * Int64(max(0, keepDays))) }
            .sorted { $0.text < $1.text }
    }

    /// Removes what is due; one home that cannot be removed does not keep the others.
    /// - Parameter now: the time that ages are counted from.
    /// - Throws: `CancellationError`; what was removed half is removed whole by the next run.
    public func run(now: WallTime) async throws -> Report {
        let purge = self
        return try await BlockingWork.run(on: .walks) { isCancelled in
            var report = Report(purged: [], problems: [])
            for base in Set(purge.places.volumes + purge.places.roots).sorted(by: { $0.string < $1.string }) {
                do {
                    try purge.run(in: base, now: now, isCancelled: isCancelled, report: &report)
                } catch let failure as HeldFolder.Failure {
                    report.problems.append(purge.problem(failure))
                }
            }
            return report
        }
    }

    private func run(
        in base: FilePath, now: WallTime, isCancelled: @escaping @Sendable () -> Bool, report: inout Report
    ) throws {
        let root = places.root(containing: base) ?? base
        var folder = try HeldFolder(configured: root)
        for name in base.components.dropFirst(root.components.count) + [ArchiveName.folder] {
            guard let next = try folder.folder(name) else { return }
            if let objection = HomeWalk.objection(to: try next.status()) {
                report.problems.append("\(next.path) \(objection); chown root \(next.path); chmod go-w \(next.path)")
                return
            }
            folder = next
        }
        for name in due(try folder.names().map(\.string), now: now) {
            do {
                try TreeRemoval(isCancelled: isCancelled).remove(name.component, in: folder)
                report.purged.append(Purged(uid: name.uid, path: folder.path.appending(name.component), volume: base))
            } catch let failure as HeldFolder.Failure {
                report.problems.append(problem(failure))
            } catch let excess as TreeWalk.LimitExceeded {
                report.problems.append(
                    "\(excess); end what makes files there (lsof +D \(excess.path)); the next run goes on")
            }
        }
    }

    private func problem(_ failure: HeldFolder.Failure) -> String {
        "could not \(failure.operation) \(failure.path): \(failure.cause)"
            + (failure.cause == .improperLink ? "; something is mounted there: umount \(failure.path)" : "")
    }
}
