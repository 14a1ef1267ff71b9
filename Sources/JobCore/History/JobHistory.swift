import EventLoop
public import SystemPackage

/// Why the history cannot be read or written, with the hint.
public struct HistoryError: Error, Sendable, CustomStringConvertible {
    /// One line: the file, what is wrong, and the hint.
    public let description: String
    /// Whether it may pass without a restart of the daemon: a full disk, a lock on the file, a directory that is not trusted, or a file of an
    /// earlier version before the daemon's start.
    public let isPassing: Bool
    /// The error of SQLite, if it was one.
    let cause: SQLite.Failure?

    init(_ description: String, isPassing: Bool = false, cause: SQLite.Failure? = nil) {
        self.description = description
        self.isPassing = isPassing
        self.cause = cause
    }
}

/// The history of all jobs, in one SQLite file.
///
/// **Contract.** Recording neither blocks nor fails: the newest value of each job, and additions to reports, wait in a bounded queue and are written a
/// batch at a time, one transaction each, on the thread of the history. Nothing runs while nothing is recorded. Records are safe against
/// the end of the process after a moment (``flush()`` waits for that), and against a loss of power after the next checkpoint.
///
/// **Diagnostics.** A file that cannot be used is set aside as `FILE.damaged-TIME`, one of an earlier version as `FILE.old-TIME`, one of a later
/// version as `FILE.newer-TIME`, with one notice, and a new one is begun, also in the middle of the work. Where it cannot be set aside, one notice
/// says so and nothing is recorded until the next start. While no file can be made or written, such as on a full disk or in a directory that is not
/// trusted, jobs wait and what was added to reports is left out, which is told with a notice at the beginning and another at the end. A job whose
/// record cannot be read is left out of answers, with one notice. The jobs themselves never notice.
public final class JobHistory: JobRecorder {
    /// The delay before changes are written, so that a burst of jobs costs few transactions. A script whose end is not yet written when the daemon is
    /// killed counts as interrupted, so it is short.
    private static let gathering = Duration.milliseconds(20)
    /// The delay while nothing can be written.
    private static let retrying = Duration.seconds(1)
    /// The longest delay of the start of a job by a disk that hangs, or a lock on the file.
    private static let longestWait = Duration.seconds(2)

    /// Internal for tests.
    let writer: HistoryWriter
    private let path: FilePath
    private let notice: NoticeHandler
    @MainActor private var waiting: [Wait] = []
    /// Whether a batch for ``waiting`` is being written.
    @MainActor private var isWriting = false

    /// Starts to open the file, and returns at once.
    /// - Parameters:
    ///   - file: is created with mode 0600 if missing. Its directory exists, and only its owner can write to it.
    ///   - retention: how much of the past is kept.
    ///   - ids: what numbers the jobs. It is raised above the recorded ones when the file is opened, which each answer waits for.
    ///   - isTimeTrusted: while false, no job is removed for its age, since the clock may be wrong.
    ///   - notice: called with messages for the operator.
    public convenience init(
        file: FilePath, retention: HistoryRetention = HistoryRetention(), ids: JobIDSource? = nil,
        isTimeTrusted: @escaping @Sendable () -> Bool = { true }, clock: any WallClock = SystemWallClock(),
        notice: @escaping NoticeHandler
    ) {
        self.init(
            file: file, retention: retention, ids: ids, isTimeTrusted: isTimeTrusted, clock: clock,
            bound: HistoryQueue.Bound(), notice: notice)
    }

    init(
        file: FilePath, retention: HistoryRetention, ids: JobIDSource?, isTimeTrusted: @escaping @Sendable () -> Bool,
        clock: any WallClock, bound: HistoryQueue.Bound, notice: @escaping NoticeHandler
    ) {
        path = file
        self.notice = notice
        let writer = HistoryWriter(
            file: file, bound: bound, retention: retention, ids: ids, isTimeTrusted: isTimeTrusted, clock: clock,
            notice: notice)
        self.writer = writer
        Task { await writer.open() }
    }

    // MARK: - Recording

    /// Records the state of a job.
    public func record(_ job: Job) { offer { $0.add(job) } }

    /// Records a line; one of a job that was never recorded is ignored.
    public func record(_ line: ReportLine, of job: JobID) {
        offer { $0.add(HistoryQueue.Piece(job: job, content: .line(line))) }
    }

    /// Records the output of a program; that of a job that was never recorded is ignored.
    public func record(_ output: CapturedOutput, ofStep step: Int, of job: JobID) {
        offer { $0.add(HistoryQueue.Piece(job: job, content: .output(output, step: step))) }
    }

    private func offer(_ body: (inout HistoryQueue) -> Void) {
        let (mustWake, isOverflow, hindrance) = writer.queue.withLock { queue in
            let before = queue.dropped
            body(&queue)
            return (queue.announce(), before == 0 && queue.dropped > 0, queue.hindrance)
        }
        if isOverflow {
            notice(
                CoreNotice(
                    .warning,
                    "\(path.printable): the disk does not keep up with the history of jobs; lines of reports are left out first"
                ))
        }
        guard mustWake else { return }
        Task { [writer] in
            try await Task.sleep(for: hindrance == nil ? Self.gathering : Self.retrying)
            while await writer.drain() { try await Task.sleep(for: Self.retrying) }
        }
    }

    /// Why nothing is recorded at the moment, with the file and the hint; nil: it is.
    public var hindrance: String? { writer.queue.withLock(\.hindrance) }

    /// Waits until all that was recorded before is written, or cannot be.
    public func flush() async { await writer.flush() }

    /// Waits until a job as it was recorded before is in the file. Callers during one transaction share the next one. While the history
    /// cannot be written it returns at once, and never later than after ``longestWait``.
    @MainActor public func recorded(_ id: JobID) async {
        guard hindrance == nil else { return }
        await withCheckedContinuation { continuation in
            let wait = Wait(id, continuation)
            wait.limit = EventLoop.shared.call(at: .now + Self.longestWait) { wait.end() }
            waiting.append(wait)
            guard !isWriting else { return }
            isWriting = true
            Task { await writeForThoseWhoWait() }
        }
    }

    @MainActor private func writeForThoseWhoWait() async {
        while !waiting.isEmpty {
            let served = waiting
            waiting = []
            await writer.flush(served.map(\.id))
            served.forEach { $0.end() }
        }
        isWriting = false
    }

    /// Ends once.
    @MainActor private final class Wait {
        let id: JobID
        var limit: EventLoop.Timer?
        private var continuation: CheckedContinuation<Void, Never>?

        init(_ id: JobID, _ continuation: CheckedContinuation<Void, Never>) {
            (self.id, self.continuation) = (id, continuation)
        }

        func end() {
            if let limit { EventLoop.shared.cancel(limit) }
            continuation?.resume()
            (continuation, limit) = (nil, nil)
        }
    }

    /// Waits until jobs that were opened before are in the file: then the end of the process does not lose them.
    /// - Throws: when one of them cannot be recorded, with the reason; the job itself goes on.
    public func confirm(_ jobs: [JobID]) async throws(HistoryError) { try await writer.confirm(jobs) }

    /// Writes what waits and closes the file, when the daemon stops. Later records are ignored.
    public func close() async { await writer.close() }

    // MARK: - Questions
    // Each answer contains everything that was recorded before.

    /// The jobs that match a filter, the newest first, without their long parts.
    public func jobs(matching filter: JobFilter = JobFilter()) async throws(HistoryError) -> [Job] {
        try await ask { reader throws(HistoryError) in try reader.jobs(matching: filter) }
    }

    /// The complete record of one job; nil when there is no such job.
    public func job(_ id: JobID) async throws(HistoryError) -> Job? {
        try await ask { reader throws(HistoryError) in try reader.job(id) }
    }

    /// Interrupted jobs of previous runs, the oldest first: their owners open them again, or close them by
    /// recording their end.
    /// - Parameter waits: whether to try again while the error is a passing one, until the task is cancelled.
    public func unfinished(waits: Bool = false) async throws(HistoryError) -> [Job] {
        while true {
            do throws(HistoryError) { return try await writer.interrupted() } catch {
                guard waits, error.isPassing, !Task.isCancelled else { throw error }
            }
            // When it is cancelled, the next try is the last one.
            try? await Task.sleep(for: Self.retrying)
        }
    }

    /// The failed jobs of a type after which no job of the same client and level has ended, unless it was cancelled; the oldest first.
    public func unresolvedFailures(of type: JobType) async throws(HistoryError) -> [Job] {
        try await ask { reader throws(HistoryError) in try reader.unresolvedFailures(of: type) }
    }

    private func ask<Answer: Sendable>(_ question: @escaping @Sendable (HistoryReader) throws(HistoryError) -> Answer)
        async throws(HistoryError) -> Answer
    {
        try await writer.demandFile()
        let answer = await BlockingWork.run { [reader = writer.reader] () -> Result<Answer, HistoryError> in
            do throws(HistoryError) { return .success(try question(reader)) } catch { return .failure(error) }
        }
        if case .failure(let error) = answer { await writer.readerFailed(error) }
        return try answer.get()
    }
}
