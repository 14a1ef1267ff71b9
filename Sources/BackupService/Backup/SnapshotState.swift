import FoundationEssentials
package import JobCore

/// What the daemon records of an account's snapshots: one small file beside them, written and flushed before anything relies on it.
///
/// Losing the file loses no snapshot: an unrecorded copy is continued instead of rotated, and the times of the last successes are
/// unknown until the next one. Times are seconds since 1970, UTC.
package struct SnapshotState: Codable, Hashable, Sendable {
    /// The format that this program writes; a larger one is not understood.
    static let currentVersion = 1
    /// An account has five levels, and one job of each at a time; the rest is for jobs by hand.
    private static let mostCompleted = 16

    /// The file's format.
    var version = Self.currentVersion
    /// A snapshot that is about to become the newest of its level, from before the first rename until after the last; nil: none is.
    var rotation: Rotation?
    /// The newest jobs that came to their end on the disk, the newest first. An attempt may have been cut off before the rest was done, and
    /// other jobs may come before it is repeated.
    private(set) var completed: [Completed] = []
    /// When a job of a level last ended with a whole snapshot, by the level's name.
    private var successes: [String: Int64] = [:]
    /// The same for every orderly end: also with a partial copy, and where there was nothing to do.
    private var completions: [String: Int64] = [:]
    /// What the snapshots take on the disk.
    var sizes = SizeRecord()
    /// The newest attempt to make or take over a snapshot, whether it has ended or not; nil: there was none.
    package var lastAttempt: Attempt?
    /// Whether a job has reached its time limit, and none that copies has ended within its own since; nil: no.
    package internal(set) var copyHitTimeLimit: Bool?
    /// The newest copy; nil: none was made.
    var lastCopy: CopiedTree?
    /// The last copy that had its usual size (``ShrinkAlarm``); nil: none was made.
    var fullCopy: CopiedTree?

    /// A snapshot that becomes the newest of a level. Its inode tells it apart whatever name it has by now.
    struct Rotation: Codable, Hashable, Sendable {
        /// The level that it becomes the newest of.
        var level: String
        /// Its inode number, on the file system that holds the snapshots.
        var inode: UInt64
        /// The name that it had when this was written.
        var source: String
        var job: JobMark
        /// What the copy holds; nil for a snapshot that was taken over.
        var copy: CopiedTree?
        /// How the job ends when the renames are done.
        var end: End
    }

    /// A job, told from every other even where numbers begin again.
    struct JobMark: Codable, Hashable, Sendable {
        var number: UInt64
        /// Milliseconds since 1970: the job history, from which an interrupted job is resumed, is no finer than microseconds.
        var created: Int64
    }

    /// How a job ends.
    struct End: Codable, Hashable, Sendable {
        /// Whether everything that was there was copied.
        var isWhole: Bool
        /// What is worth reading; empty: nothing.
        var note = ""
        /// What somebody should look at; empty: nothing.
        var warning = ""
    }

    /// A job whose work on the disk is done.
    struct Completed: Codable, Hashable, Sendable {
        var job: JobMark
        var level: String
        var end: End
    }

    /// How much a finished copy holds.
    struct CopiedTree: Codable, Hashable, Sendable {
        /// The inode of its top directory.
        var inode: UInt64
        /// Everything that is not a directory.
        var files: UInt64
        /// On the disk, shared or not.
        var bytes: UInt64
        /// Of these, what the snapshot before it lacks.
        var ownBytes: UInt64 = 0
        /// Names in it; nil: they were not counted.
        var names: UInt64?
    }

    /// One try of a job of a level.
    package struct Attempt: Codable, Hashable, Sendable {
        /// The job's number.
        package var job: UInt64
        /// The level's name.
        package var level: String
        var began: Int64
        var ended: Int64?
        /// How it ended, as in the job history: `success`, `warnings`, `failed`, …; nil: it runs, or was cut off.
        package var result: String?
        /// Why, in one line; empty for a plain success.
        package var message: String

        /// When it began.
        package var beganAt: Timestamp { Timestamp(secondsSince1970: began) }
    }

    /// Nothing is known.
    package init() {}

    /// When a job of the level last ended with a whole snapshot; nil: never, as far as is known.
    package func lastSuccess(of level: SnapshotLevel) -> Timestamp? {
        successes[level.rawValue].map { Timestamp(secondsSince1970: $0) }
    }

    /// When a job of the level last came to an orderly end: a whole or a partial snapshot, or nothing to do; nil: never, as far as is
    /// known.
    package func lastCompletion(of level: SnapshotLevel) -> Timestamp? {
        completions[level.rawValue].map { Timestamp(secondsSince1970: $0) }
    }

    /// How a job ended on the disk; nil: it has not.
    func end(of job: Job) -> End? { completed.first { $0.job == .init(job) }?.end }

    mutating func complete(_ job: JobMark, level: String, _ end: End, at time: Timestamp) {
        let seconds = time.secondsSince1970
        completed.removeAll { $0.job == job }
        completed.insert(Completed(job: job, level: level, end: end), at: 0)
        completed.removeLast(max(0, completed.count - Self.mostCompleted))
        completions[level] = seconds
        if end.isWhole { successes[level] = seconds }
    }

    // MARK: - As a file

    /// - Throws: `DecodingError` for a text that is no state, or one of a later version of this program.
    init(decoding bytes: [UInt8]) throws {
        self = try JSONDecoder().decode(Self.self, from: Data(bytes))
        guard version <= Self.currentVersion else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: [], debugDescription: "format \(version) is of a later version of this program"))
        }
    }

    /// One JSON object and a line feed.
    func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return Array(try encoder.encode(self)) + [UInt8(ascii: "\n")]
    }
}

extension SnapshotState.JobMark {
    init(_ job: Job) { self.init(number: job.id.number, created: job.created.nanosecondsSince1970 / 1_000_000) }
}
