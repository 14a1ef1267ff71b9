public import SystemPackage

/// The past of all jobs, in one SQLite file with one owner.
///
/// **Contract.** Recording neither blocks nor fails: changes wait in a bounded buffer and are written a batch at a time, one transaction
/// each, on a thread of the history's own. Nothing runs while nothing is recorded. What is recorded is safe against the end of the process
/// after a moment (``flush()`` waits for that), and against a loss of power after the next checkpoint.
///
/// **Diagnostics.** A file that cannot be used is set aside as `FILE.damaged-TIME`, told with one notice, and a new one is begun, also in the
/// middle of the work. Where that is impossible, one notice says so and nothing is recorded until the next start. While the disk is full,
/// changes are left out, and told with a notice at the beginning and their number at the end. The jobs themselves never notice.
public final class JobHistory: JobRecorder {
    /// How long changes gather before they are written: so a burst of jobs costs few transactions.
    private static let gathering = Duration.milliseconds(20)

    /// A disk that hangs, or a lock on the file, holds up a job that begins no longer than this.
    private static let longestWait = Duration.seconds(2)

    private let intake: HistoryIntake
    /// The file's owner; tests look into it.
    let database: HistoryDatabase
    private let path: FilePath
    private let notice: NoticeHandler

    /// Begins to open the file, and returns at once.
    /// - Parameters:
    ///   - file: is made where there is none, for its owner alone. Its folder is there, and nobody else can write to it.
    ///   - retention: how much of the past is kept.
    ///   - notice: is told what an operator should know.
    public convenience init(
        file: FilePath, retention: HistoryRetention = HistoryRetention(), clock: any WallClock = SystemWallClock(),
        notice: @escaping NoticeHandler
    ) {
        self.init(file: file, retention: retention, clock: clock, bound: HistoryBuffer.Bound(), notice: notice)
    }

    init(
        file: FilePath, retention: HistoryRetention, clock: any WallClock, bound: HistoryBuffer.Bound,
        notice: @escaping NoticeHandler
    ) {
        path = file
        self.notice = notice
        intake = HistoryIntake(bound: bound)
        let database = HistoryDatabase(file: file, intake: intake, retention: retention, clock: clock, notice: notice)
        self.database = database
        Task { await database.open() }
    }

    /// Takes note of a change. Changes of a job that was never opened are left out.
    public func record(_ change: JobChange) {
        let offer = intake.offer(change)
        if offer.isOverflow {
            notice(
                CoreNotice(
                    .warning,
                    "\(path.printable): the disk does not keep up with the history of jobs; reports and letters are left out first"
                ))
        }
        guard offer.isFirst else { return }
        Task { [database] in
            try await Task.sleep(for: Self.gathering)
            await database.drain()
        }
    }

    /// Waits until all that was recorded before is written, or left out.
    public func flush() async { await database.flush() }

    /// Waits until all that was recorded before is in the file. All who wait share one transaction. While the history cannot be written nobody waits,
    /// and never longer than ``longestWait``.
    public func recorded() async {
        guard !intake.isHindered else { return }
        // A stream ends with the task that reads it.
        let (written, holder) = AsyncStream<Never>.makeStream()
        Task { [database] in
            await database.flush()
            holder.finish()
        }
        let limit = Task {
            try await Task.sleep(for: Self.longestWait)
            holder.finish()
        }
        for await _ in written {}
        limit.cancel()
    }

    /// Waits until jobs that were opened before are in the file: then the end of the process does not lose them.
    /// - Throws: when one of them cannot be recorded, with the reason; the job itself goes on.
    public func confirm(_ jobs: [JobID]) async throws(HistoryError) { try await database.confirm(jobs) }

    /// Writes what waits and closes the file; for the daemon's orderly end. What is recorded after that is ignored.
    public func close() async { await database.close() }

    // MARK: - Questions
    // Each sees everything that was recorded before it was asked.

    /// The jobs that a filter asks for, the newest first.
    public func jobs(matching filter: JobFilter = JobFilter()) async throws(HistoryError) -> [RecordedJob] {
        try await ask { reader throws(HistoryError) in try await reader.jobs(matching: filter) }
    }

    /// All that is known of one job; nil when there is no such job.
    public func job(_ id: JobID) async throws(HistoryError) -> RecordedCourse? {
        try await ask { reader throws(HistoryError) in try await reader.job(id) }
    }

    /// The newest job of an account or a script, with what it came to; nil when there is none.
    public func last(client: String) async throws(HistoryError) -> RecordedJob? {
        try await ask { reader throws(HistoryError) in try await reader.last(client: client) }
    }

    /// Jobs of an earlier run of the daemon that are open still, the oldest first: their owners open them again, or close them by
    /// recording their end.
    public func unfinished() async throws(HistoryError) -> [RecordedJob] {
        try await ask { reader throws(HistoryError) in try await reader.unfinished() }
    }

    /// The failed jobs of a type after which no job of the same client and level has ended, unless it was cancelled; the oldest first.
    public func unresolvedFailures(of type: JobType) async throws(HistoryError) -> [RecordedJob] {
        try await ask { reader throws(HistoryError) in try await reader.unresolvedFailures(of: type) }
    }

    private func ask<Answer: Sendable>(
        _ question: (HistoryReader) async throws(HistoryError) -> Answer
    ) async throws(HistoryError) -> Answer {
        let reader = try await database.reader()
        do {
            return try await question(reader)
        } catch {
            await database.readerFailed(error)
            throw error
        }
    }
}
