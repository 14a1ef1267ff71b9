import EventLoop
import Glibc
package import JobCore
import Provisioning
package import SystemPackage

/// Removes archived homes that are old enough. The daemon runs it once a day.
///
/// Only names that archiving gives count; anything else in `.deleted` is left alone.
package struct ArchivePurge: Sendable {
    /// A home that is gone now.
    package struct Purged: Hashable, Sendable {
        /// The account that it was.
        package var uid: String
        /// Where it lay.
        package var path: FilePath
        /// The volume, or else the root, that held it.
        package var volume: FilePath
    }

    /// What a run did.
    package struct Report: Hashable, Sendable {
        /// The homes that are gone now, in the order of their names.
        package var purged: [Purged]
        /// What could not be removed, with why and what mends it.
        package var problems: [String]
    }

    let places: HomePlaces
    let keepDays: Int
    private let timeLimit: Duration

    /// - Parameter configuration: of it, the places of homes, the days that an archived home is kept, and how long a removal may take.
    package init(_ configuration: BackupConfiguration) {
        places = configuration.places
        keepDays = configuration.purgeAfterDays
        timeLimit = configuration.timeLimit
    }

    /// Those of the names that are older than the days they are kept.
    func due(_ names: [String], now: Timestamp) -> [ArchiveName] {
        names.compactMap(ArchiveName.init(parsing:))
            .filter { now - $0.archived > .seconds(86_400 * Int64(max(0, keepDays))) }
            .sorted { $0.text < $1.text }
    }

    /// Removes what is due; one home that cannot be removed does not keep the others.
    /// - Parameter now: the time that ages are counted from.
    /// - Throws: `CancellationError`; what was removed half is removed whole by the next run.
    package func run(now: Timestamp) async throws -> Report {
        var report = Report(purged: [], problems: [])
        for base in Set(places.volumes + places.roots).sorted(by: { $0.string < $1.string }) {
            do {
                guard let found = try await BlockingWork.run({ _ in try archive(in: base, now: now) }) else { continue }
                for name in found.due {
                    do {
                        try await remove(name, in: found.directory)
                        let path = found.directory.path.appending(name.component)
                        report.purged.append(Purged(uid: name.uid, path: path, volume: base))
                    } catch let problem as Problem {
                        report.problems.append(problem.text)
                    }
                }
            } catch let problem as Problem {
                report.problems.append(problem.text)
            }
        }
        return report
    }

    /// Why something stays, with the hint.
    private struct Problem: Error {
        var text: String

        init(_ text: String) { self.text = text }

        init(_ failure: HeldDirectory.Failure) {
            let isMount = failure.cause == .improperLink
            text = "\(failure)" + (isMount ? "; something is mounted there: umount \(failure.path.shellWord)" : "")
        }
    }

    /// - Returns: what is due of a volume, and the directory in which it lies; nil where nothing was archived.
    private func archive(
        in base: FilePath, now: Timestamp
    ) throws -> (directory: HeldDirectory, due: [ArchiveName])? {
        do throws(ProvisioningFailure) {
            guard let found = try HomeWalk.contents(of: ArchiveName.directory, in: base, places) else { return nil }
            return (found.directory, due(found.names.map(\.string), now: now))
        } catch {
            throw Problem("\(error.reason); \(error.hint)")
        }
    }

    /// Each home has a time limit of its own: one that takes long does not keep the others for ever.
    private func remove(_ name: ArchiveName, in directory: HeldDirectory) async throws {
        do {
            try await BlockingWork.run(on: .walks, until: Deadline(in: timeLimit)) {
                try TreeRemoval(isCancelled: $0).remove(name.component, in: directory)
            }
        } catch let failure as HeldDirectory.Failure {
            throw Problem(failure)
        } catch let excess as TreeWalk.LimitExceeded {
            throw Problem("\(excess); \(excess.hint); the next run goes on")
        } catch is Deadline.Passed {
            throw Problem(
                "\(directory.path.appending(name.component)) could not be removed within TIMEOUT; the next run goes on; if none ends, "
                    + "raise TIMEOUT in [Backup Jobs]")
        }
    }
}

/// The name of an archived home: `UID-YYYYMMDDThhmmssZ`, with `-2`, `-3`, … where that was taken.
struct ArchiveName: Hashable, Sendable {
    /// The directory below a volume that holds archived homes.
    static let directory: FilePath.Component = ".deleted"

    let uid: String
    let archived: Timestamp
    /// 1 for the first of that second.
    let number: Int

    init(uid: String, archived: Timestamp, number: Int = 1) {
        self.uid = uid
        self.archived = archived
        self.number = number
    }

    var text: String { "\(uid)-\(archived.text)" + (number == 1 ? "" : "-\(number)") }
    var component: FilePath.Component { .named(text) }

    /// - Returns: nil for a name that no archiving made.
    init?(parsing text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2 || parts.count == 3, let uid = EntryReader.decimal(parts[0]),
            BackupAccount.uidRange.contains(uid), let archived = Self.time(parts[1])
        else { return nil }
        let number = parts.count == 3 ? EntryReader.decimal(parts[2]) : 1
        guard let number, (1...99).contains(number) else { return nil }
        self.init(uid: parts[0], archived: archived, number: Int(number))
        guard self.text == text else { return nil }
    }

    private static func time(_ text: String) -> Timestamp? {
        let bytes = Array(text.utf8)
        guard bytes.count == 16, bytes[8] == UInt8(ascii: "T"), bytes[15] == UInt8(ascii: "Z") else { return nil }
        func number(_ range: Range<Int>) -> Int32? { Int32(String(decoding: bytes[range], as: UTF8.self)) }
        guard let year = number(0..<4), let month = number(4..<6), let day = number(6..<8), let hour = number(9..<11),
            let minute = number(11..<13), let second = number(13..<15)
        else { return nil }
        var broken = tm()
        (broken.tm_year, broken.tm_mon, broken.tm_mday) = (year - 1900, month - 1, day)
        (broken.tm_hour, broken.tm_min, broken.tm_sec) = (hour, minute, second)
        return Timestamp(secondsSince1970: Int64(timegm(&broken)))
    }
}
