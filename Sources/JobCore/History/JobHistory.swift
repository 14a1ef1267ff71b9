import CSQLite
import EventLoop
import Synchronization
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
public actor JobHistory: JobRecorder {
    private enum State {
        /// Not tried yet, or something prevented it that may pass: it is tried again.
        case unopened
        case open(HistoryStore, HistoryFile.Identity?)
        /// Nothing will be written before the next start.
        case off(HistoryError)
    }

    /// The delay before changes are written, so that a burst of jobs costs few transactions. A script whose end is not yet written when the daemon is
    /// killed counts as interrupted, so it is short.
    private static let gathering = Duration.milliseconds(20)
    /// The delay while nothing can be written.
    private static let retrying = Duration.seconds(1)
    /// The longest delay of the start of a job by a disk that hangs, or a lock on the file.
    private static let longestWait = Duration.seconds(2)
    /// Jobs and pieces from one checkpoint to the next: some 4 MiB of log.
    private static let checkpointInterval = 100
    /// Files set aside in one run; with more, the disk is the problem and not the file.
    private static let mostSetAside = 3

    /// The waiting writes.
    nonisolated let queue = Mutex(HistoryQueue())
    private let reader: HistoryReader
    private let file: HistoryFile
    private let ids: JobIDSource?
    private let isTimeTrusted: @Sendable () -> Bool
    private let clock: any WallClock
    private let notice: NoticeHandler
    private let executor = ThreadExecutor("job history")
    private var state = State.unopened { didSet { noteHindrance() } }
    private var sweeper: HistorySweeper
    /// The reported problem that prevents writing now, with the file; nil when there is none.
    private var trouble: String? { didSet { noteHindrance() } }
    /// The last failed attempt to open the file.
    private var triedAt: ContinuousClock.Instant?
    private var setAside = 0
    /// Jobs and pieces to be written or removed before the next checkpoint.
    private var untilCheckpoint = JobHistory.checkpointInterval
    /// Held during a checkpoint, and while the file is closed: SQLite removes the log by its name with the last connection.
    nonisolated let closing = Mutex(())
    /// Callers of ``recorded(_:)``.
    @MainActor private var waiting: [Wait] = []
    /// Whether a batch for ``waiting`` is being written.
    @MainActor private var isWriting = false

    /// The thread of the history.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// Starts to open the file, and returns at once.
    /// - Parameters:
    ///   - file: is created with mode 0600 if missing. Its directory exists, and only its owner can write to it.
    ///   - retention: how much of the past is kept.
    ///   - ids: what numbers the jobs. It is raised above the recorded ones when the file is opened, which each answer waits for: a job with the
    ///     number of another replaces its record. nil: this process only reads, or numbers no jobs.
    ///   - isTimeTrusted: while false, no job is removed for its age, since the clock may be wrong.
    ///   - notice: called with messages for the operator.
    public init(
        file: FilePath, retention: HistoryRetention = HistoryRetention(), ids: JobIDSource?,
        isTimeTrusted: @escaping @Sendable () -> Bool = { true }, clock: any WallClock = SystemWallClock(),
        notice: @escaping NoticeHandler
    ) {
        let reported = Mutex<Set<JobID>>([])
        reader = HistoryReader(path: file) { problem in
            // Once, however often it is left out.
            guard let job = problem.job, reported.withLock({ $0.insert(job).inserted }) else { return }
            notice(problem)
        }
        self.file = HistoryFile(path: file)
        self.ids = ids
        self.isTimeTrusted = isTimeTrusted
        self.clock = clock
        self.notice = notice
        sweeper = HistorySweeper(retention: retention)
        Task { await open() }
    }

    // MARK: - Recording

    /// Records the state of a job.
    public nonisolated func record(_ job: Job) { offer { $0.add(job) } }

    /// Records a line; one of a job that was never recorded is ignored.
    public nonisolated func record(_ line: ReportLine, of job: JobID) {
        offer { $0.add(HistoryQueue.Piece(job: job, content: .line(line))) }
    }

    /// Records the output of a program; that of a job that was never recorded is ignored.
    public nonisolated func record(_ output: CapturedOutput, ofStep step: Int, of job: JobID) {
        offer { $0.add(HistoryQueue.Piece(job: job, content: .output(output, step: step))) }
    }

    private nonisolated func offer(_ body: (inout HistoryQueue) -> Void) {
        let (mustWake, isOverflow, hindrance) = queue.withLock { queue in
            let before = queue.dropped
            body(&queue)
            return (queue.announce(), before == 0 && queue.dropped > 0, queue.hindrance)
        }
        if isOverflow {
            notice(
                CoreNotice(
                    .warning,
                    "\(file.path.printable): the disk does not keep up with the history of jobs; lines of reports are left out first"
                ))
        }
        guard mustWake else { return }
        Task {
            try await Task.sleep(for: hindrance == nil ? Self.gathering : Self.retrying)
            while await drain() { try await Task.sleep(for: Self.retrying) }
        }
    }

    /// Why nothing is recorded at the moment, with the file and the hint; nil: it is.
    public nonisolated var hindrance: String? { queue.withLock(\.hindrance) }

    /// Waits until all that was recorded before is written, or cannot be.
    public func flush() { writeAll() }

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
            Task { await writeWaitingJobs() }
        }
    }

    @MainActor private func writeWaitingJobs() async {
        while !waiting.isEmpty {
            let served = waiting
            waiting = []
            await write(served.map(\.id))
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
    public func confirm(_ jobs: [JobID]) throws(HistoryError) {
        let store = try demandedStore()
        do { if try store.has(jobs) { return } } catch {
            throw HistoryError("\(file.path.printable): cannot be read: \(error)")
        }
        throw HistoryError(trouble ?? "\(file.path.printable): some jobs were left out, see the daemon's log")
    }

    /// Writes what waits and closes the file, when the daemon stops. Later records are ignored.
    public func close() {
        queue.withLock { $0.close() }
        triedAt = nil
        // A file that replaces a damaged one takes a second time.
        while writeAll() {}
        if trouble != nil, queue.withLock(\.isIncomplete) {
            notice(CoreNotice(.error, "\(file.path.printable): the last changes of jobs are not recorded"))
        }
        if case .open(let store, _) = state {
            do {
                try closing.withLock { _ in
                    // So that the file alone is the whole history.
                    try store.database.run("PRAGMA wal_checkpoint(TRUNCATE)")
                    try store.database.close()
                }
            } catch {
                notice(CoreNotice(.warning, "\(file.path.printable): the history could not be closed: \(error)"))
            }
        }
        state = .off(HistoryError("\(file.path.printable): the history is closed: the daemon is stopping"))
    }

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
            do throws(HistoryError) { return try interrupted() } catch {
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
        _ = try demandedStore()
        let answer = await BlockingWork.run { [reader] () -> Result<Answer, HistoryError> in
            do throws(HistoryError) { return .success(try question(reader)) } catch { return .failure(error) }
        }
        if case .failure(let error) = answer { readerFailed(error) }
        return try answer.get()
    }

    // MARK: - Writing

    /// Opens the file, unless that has been done or cannot be done.
    private func open() async {
        _ = store()
        await sweep()
    }

    /// Writes until nothing waits, or nothing can be written.
    /// - Returns: whether to try again, since something waits that could not be written.
    private func drain() async -> Bool {
        while writeAll() {
            // Callers may wait for the actor.
            await Task.yield()
        }
        await sweep()
        if case .off = state { return false }
        return queue.withLock { $0.stillWaits() }
    }

    /// Writes everything that waits, in one transaction.
    /// - Returns: whether there was something, and it is written.
    @discardableResult
    private func writeAll() -> Bool { write(queue.withLock { $0.take() }) }

    /// Writes the waiting state of these jobs, in one transaction.
    private func write(_ jobs: [JobID]) { write(queue.withLock { $0.take(jobs) }) }

    @discardableResult
    private func write(_ batch: HistoryQueue.Batch?) -> Bool {
        guard let batch else { return false }
        // A damaged file is set aside once, and the jobs go into the new one.
        for _ in 0..<2 {
            guard let store = store() else { break }
            do {
                wrote(batch, try store.write(batch))
                return true
            } catch {
                guard failed(error) else { break }
            }
        }
        queue.withLock { $0.putBack(batch) }
        return false
    }

    private func wrote(_ batch: HistoryQueue.Batch, _ replaced: [HistoryStore.Replaced]) {
        sweeper.wrote(batch.jobs.count { !$0.isOpen })
        for (job, other) in replaced {
            notice(
                CoreNotice(
                    .error,
                    "\(file.path.printable): an earlier job had the number \(job) as well (\(other)); its record is replaced",
                    job: job))
        }
        let missing = queue.withLock { queue in
            queue.wrote(batch)
            return queue.takeDropped()
        }
        let wasHindered = trouble != nil
        trouble = nil
        if wasHindered || missing > 0 {
            notice(
                CoreNotice(
                    .warning,
                    "\(file.path.printable): the history is written again; \(missing) lines, outputs and jobs are missing"
                ))
        }
        logGrew(by: batch.jobs.count + batch.pieces.count)
    }

    /// The file, with everything that was recorded before.
    /// - Throws: when it cannot be opened.
    private func demandedStore() throws(HistoryError) -> HistoryStore {
        writeAll()
        if let store = store() { return store }
        if case .off(let error) = state { throw error }
        throw HistoryError(
            "the history cannot be opened just now: \(trouble ?? file.path.printable)", isPassing: true)
    }

    /// The jobs of previous runs that the file has as open. They are read here, where nothing is written meanwhile, so that a job of this run
    /// is never among them.
    private func interrupted() throws(HistoryError) -> [Job] {
        let store: HistoryStore
        do throws(HistoryError) { store = try demandedStore() } catch {
            // No file yet, and no job in it.
            if error.isPassing, file.identity == nil { return [] }
            throw error
        }
        do {
            let open = try reader.open(in: store.database)
            return queue.withLock { $0.interrupted(open) }
        } catch {
            let failure = HistoryError(
                "\(file.path.printable): cannot be read: \(error)", cause: error as? SQLite.Failure)
            readerFailed(failure)
            throw failure
        }
    }

    /// A reader has failed: the file is replaced if it is damaged.
    private func readerFailed(_ error: HistoryError) {
        guard case .open = state, let cause = error.cause else { return }
        if cause.code == SQLITE_CORRUPT || cause.code == SQLITE_NOTADB { replace(because: "\(cause)") }
    }

    /// When the log has grown enough, it is copied into the database, on another thread, since that waits for the disk several times, and attempts
    /// wait for their records.
    /// - Parameter items: jobs and pieces that were written or removed.
    private func logGrew(by items: Int) {
        untilCheckpoint -= items
        guard untilCheckpoint <= 0 else { return }
        // Not again before the end of this one.
        untilCheckpoint = .max
        WorkerPool.history.begin { [self, path = file.path.string] in
            closing.withLock { _ in
                guard !queue.withLock(\.isClosed) else { return }
                do { try HistoryStore.checkpoint(path) } catch {
                    // What prevents it for longer prevents writes too, which complain.
                    notice(CoreNotice(.debug, "\(path): the log of the history stays as long as it is: \(error)"))
                }
            }
            Task { await checkpointed() }
        }
    }

    private func checkpointed() { untilCheckpoint = Self.checkpointInterval }

    private func sweep() async {
        while case .open(let store, _) = state, sweeper.isDue(at: clock.now) {
            do { logGrew(by: try sweeper.slice(of: store, now: clock.now, byAge: isTimeTrusted())) } catch {
                sweeper.postpone(at: clock.now)
                _ = failed(error)
            }
            await Task.yield()
        }
    }

    // MARK: - Trouble

    private func noteHindrance() {
        let hindrance = if case .off(let error) = state { "\(error)" } else { trouble }
        queue.withLock { $0.hindrance = hindrance }
    }

    /// - Returns: whether to try again at once.
    private func failed(_ error: any Error) -> Bool {
        guard let text = file.trouble(behind: error) else { return replace(because: "\(error)") }
        // Each problem is reported once.
        guard trouble != text else { return false }
        trouble = text
        let cause = error is HistoryError ? "" : " (\(error))"
        notice(
            CoreNotice(
                .error,
                "\(text)\(cause); jobs wait to be recorded, and continue to run"
            ))
        return false
    }

    private func off(_ error: HistoryError) {
        state = .off(error)
        notice(
            CoreNotice(.error, "no history of jobs is kept until the next start; jobs continue to run: \(error)"))
    }

    /// - Returns: whether there is a new file now.
    @discardableResult
    private func replace(because reason: String) -> Bool {
        guard setAside < Self.mostSetAside else {
            off(HistoryError("\(file.path.printable): damaged again and again (\(reason)); check the disk: dmesg"))
            return false
        }
        setAside += 1
        guard let aside = moveAway(as: "damaged") else { return false }
        notice(
            CoreNotice(
                .error,
                "\(file.path.printable): no usable history (\(reason)); it was set aside as \(aside.printable), and a new one is created"
            ))
        return true
    }

    /// - Returns: the file's new name; nil when nothing is recorded any more.
    private func moveAway(as kind: String) -> FilePath? {
        do {
            // Closed before its file is renamed: closing removes the log by its name.
            return try closing.withLock { _ in
                if case .open(let store, _) = state { try store.database.close() }
                state = .unopened
                return try file.setAside(as: kind, at: clock.now)
            }
        } catch let error as HistoryError { off(error) } catch {
            off(HistoryError("\(file.path.printable): cannot be closed: \(error)"))
        }
        return nil
    }

    /// The file was removed or renamed while it was in use.
    private func removed(_ store: HistoryStore) {
        state = .unopened
        do {
            try closing.withLock { _ in try store.database.close() }
            notice(
                CoreNotice(
                    .warning,
                    "\(file.path.printable): the history was removed or replaced while in use; a new one is created"))
        } catch { off(HistoryError("\(file.path.printable): was removed, and cannot be closed: \(error)")) }
    }

    // MARK: - Opening

    /// The open file, opened now if necessary; nil when it cannot be opened now.
    private func store() -> HistoryStore? {
        switch state {
        case .open(let store, let identity):
            if file.identity == identity { return store }
            removed(store)
        case .off: return nil
        case .unopened: break
        }
        if case .off = state { return nil }
        // What may pass is not tried again for every job.
        if let triedAt, ContinuousClock.now - triedAt < .seconds(1) { return nil }
        for _ in 0...Self.mostSetAside {
            do {
                try file.checkDirectory()
                if let objection = try file.prepare() {
                    guard replace(because: objection) else { return nil }
                    continue
                }
                let (store, lost, newest) = try HistoryStore.open(file.path.string)
                opened(store, lost: lost, newest: newest)
                return store
            } catch HistoryStore.Finding.older {
                guard setAside(as: "old", madeBy: "an earlier version", for: "sqlite3") else { return nil }
            } catch HistoryStore.Finding.newer {
                guard setAside(as: "newer", madeBy: "a later version", for: "that version") else { return nil }
            } catch HistoryStore.Finding.foreign(let objection) {
                guard replace(because: objection) else { return nil }
            } catch {
                guard failed(error) else {
                    triedAt = .now
                    return nil
                }
            }
        }
        return nil
    }

    private func opened(_ store: HistoryStore, lost: Int, newest: JobID) {
        ids?.raise(above: newest)
        state = .open(store, file.identity)
        triedAt = nil
        queue.withLock { $0.rewrite() }
        guard lost > 0 else { return }
        notice(
            CoreNotice(.warning, "the last run ended during \(lost) attempts; the history marks them as lost")
        )
    }

    /// Sets aside a file of another version.
    /// - Parameters:
    ///   - kind: part of its new name.
    ///   - maker: the version that made it.
    ///   - use: who can still use it.
    /// - Returns: whether there is a new file now.
    private func setAside(as kind: String, madeBy maker: String, for use: String) -> Bool {
        let remark: String
        do {
            let count = try HistoryStore.openCount(inOther: file.path.string)
            remark = "\(count) jobs that it has as open are not taken over"
        } catch {
            remark = "jobs that it has as open are not taken over, and cannot be counted: \(error)"
        }
        guard let aside = moveAway(as: kind) else { return false }
        notice(
            CoreNotice(
                .warning,
                "\(file.path.printable): \(maker) of this program made this history; it was set aside as \(aside.printable), for \(use), and a new one is created; \(remark)"
            ))
        return true
    }

    // MARK: - For tests

    func stopCheckpoints() { untilCheckpoint = .max }

    func withDatabase<Value>(_ body: (SQLite) throws -> Value) throws -> Value? {
        try store().map { try body($0.database) }
    }
}
