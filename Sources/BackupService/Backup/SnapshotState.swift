import FoundationEssentials
package import JobCore
import Provisioning
import SystemPackage

/// The state of an account's snapshots: a small file in their directory, flushed before any step relies on it.
///
/// Losing the file loses no snapshot: an unrecorded copy is continued instead of rotated, and the times of the last successes are
/// unknown until the next one. Times are seconds since 1970, UTC.
package struct SnapshotState: Codable, Hashable, Sendable {
    /// The format; files with a larger number are rejected.
    static let currentVersion = 1
    /// How many jobs that are no longer open are remembered.
    private static let mostCompleted = 16

    var version = Self.currentVersion
    /// The rotation in progress, from before the first rename until after the last.
    var rotation: Rotation?
    /// The jobs whose work on the disk was done last, the newest first. An attempt may have been interrupted after that, and other jobs may run
    /// before it is repeated.
    private(set) var completed: [Completed] = []
    /// When a job of a level last ended with a whole snapshot, by the level's name.
    private var successes: [String: Int64] = [:]
    /// When a job of a level last completed, also with a partial copy or with nothing to do, by the level's name.
    private var completions: [String: Int64] = [:]
    var sizes = SizeRecord()
    /// The newest attempt of a job, ended or not; nil: there was none.
    package var lastAttempt: Attempt?
    /// Whether a job has reached TIMEOUT, and no later job that copies has ended in time; nil: no.
    package internal(set) var copyHitTimeLimit: Bool?
    /// The newest copy.
    var lastCopy: SnapshotTree?
    /// The last full copy (``SnapshotTree/replaces(_:)``).
    var fullCopy: SnapshotTree?
    /// What the files of an unfinished copy depend on; nil: unknown, so that it must not be continued.
    var unfinished: UnfinishedCopy?

    /// The durability of unfinished copies. After the end of a boot without a flush, and after a failed one, a file may have its size and time but
    /// not its contents (sparse writes on ext4), and rsync would take it for copied.
    enum UnfinishedCopy: Codable, Hashable, Sendable {
        /// `.sync` was begun in this boot and on this mount (the kernel's boot_id and the number of the mount), and not flushed.
        case written(boot: String, isPartialFlushed: Bool)
        case flushed
    }

    /// A snapshot that becomes the newest of a level, identified by its inode under any name.
    struct Rotation: Codable, Hashable, Sendable {
        var level: String
        var inode: UInt64
        /// Its name when this was recorded.
        var source: String
        var job: JobMark
        /// nil for a snapshot that was taken over.
        var copy: SnapshotTree?
        /// How the job ends after the renames.
        var end: End
        /// When the copy was finished, or the snapshot taken over; nil in files of earlier versions.
        var finished: Int64?
    }

    /// Identifies a job, even if numbers start again.
    struct JobMark: Codable, Hashable, Sendable {
        var number: UInt64
        /// Milliseconds since 1970; the job history has microseconds.
        var created: Int64
    }

    /// How a job ends.
    struct End: Codable, Hashable, Sendable {
        /// Whether all files were copied.
        var isWhole: Bool
        var note = ""
        var warning = ""
    }

    struct Completed: Codable, Hashable, Sendable {
        var job: JobMark
        var level: String
        var end: End
    }

    /// One attempt of a job.
    package struct Attempt: Codable, Hashable, Sendable {
        /// The job's number.
        package var job: UInt64
        package var level: String
        var began: Int64
        var ended: Int64?
        /// The result, named as in the job history: `success`, `warnings`, `failed`, …; nil: it runs, or was interrupted.
        package var result: String?
        /// One line; empty for a plain success.
        package var message: String

        package var beganAt: Timestamp { Timestamp(secondsSince1970: began) }
    }

    package init() {}

    /// When a job of the level last ended with a whole snapshot; nil: unknown.
    package func lastSuccess(of level: SnapshotLevel) -> Timestamp? {
        successes[level.rawValue].map { Timestamp(secondsSince1970: $0) }
    }

    /// When a job of the level last completed: with a whole or partial snapshot, or with nothing to do; nil: unknown.
    package func lastCompletion(of level: SnapshotLevel) -> Timestamp? {
        completions[level.rawValue].map { Timestamp(secondsSince1970: $0) }
    }

    /// How a job ended; nil: its work on the disk is not done.
    func end(of job: Job) -> End? { completed.first { $0.job == .init(job) }?.end }

    mutating func complete(_ job: JobMark, level: String, _ end: End, at time: Timestamp) {
        let seconds = time.secondsSince1970
        completed.removeAll { $0.job == job }
        completed.insert(Completed(job: job, level: level, end: end), at: 0)
        completions[level] = seconds
        if end.isWhole { successes[level] = seconds }
    }

    /// Forgets the jobs that were completed long ago, but not those that may be repeated.
    /// - Parameter open: the open jobs of the account.
    mutating func forgetCompleted(except open: [Job]) {
        let open = Set(open.map(JobMark.init))
        completed =
            completed.prefix(Self.mostCompleted)
            + completed.dropFirst(Self.mostCompleted).filter { open.contains($0.job) }
    }

    // MARK: - The file

    private struct Format: Decodable { var version: Int }

    /// - Parameter path: of the file on the disk: what a customer sees of it may be a read-only mount.
    /// - Throws: `DecodingError`; `ProvisioningFailure` for a file of a later version of this program: what it says of an unfinished rotation is
    ///   needed, and unknown here.
    init(decoding bytes: [UInt8], of path: FilePath) throws {
        let data = Data(bytes)
        guard try JSONDecoder().decode(Format.self, from: data).version <= Self.currentVersion else {
            throw ProvisioningFailure(
                .undefinedError,
                reason: "a later version of this program has written \(path), the state of the snapshots",
                hint: "install that version again, or rm \(path.shellWord): then the next backup measures all snapshots"
            )
        }
        self = try JSONDecoder().decode(Self.self, from: data)
    }

    /// JSON and a line feed.
    func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return Array(try encoder.encode(self)) + [UInt8(ascii: "\n")]
    }
}

extension SnapshotState.JobMark {
    init(_ job: Job) { self.init(number: job.id.number, created: job.created.nanosecondsSince1970 / 1_000_000) }
}
