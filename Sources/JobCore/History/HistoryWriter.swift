import CSQLite
import EventLoop
import Synchronization
import SystemPackage

/// The owner of the history's file: opens it, writes to it, removes old jobs, and sets it aside when it is damaged.
///
/// It never fails: while nothing can be written, jobs wait in the queue, and a notice reports each problem once.
actor HistoryWriter {
    private enum State {
        /// Not tried yet, or something prevented it that may pass: it is tried again.
        case unopened
        case open(HistoryStore, HistoryFile.Identity?)
        /// Nothing will be written before the next start.
        case off(HistoryError)
    }

    /// Jobs and pieces from one checkpoint to the next: some 4 MiB of log.
    private static let checkpointInterval = 100
    /// Files set aside in one run; with more, the disk is the problem and not the file.
    private static let mostSetAside = 3

    /// The waiting writes.
    let queue: Mutex<HistoryQueue>
    let reader: HistoryReader
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
    private var untilCheckpoint = HistoryWriter.checkpointInterval
    /// Held during a checkpoint, and while the file is closed: SQLite removes the log by its name with the last connection.
    nonisolated let closing = Mutex(())

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(
        file: FilePath, bound: HistoryQueue.Bound, retention: HistoryRetention, ids: JobIDSource?,
        isTimeTrusted: @escaping @Sendable () -> Bool, clock: any WallClock, notice: @escaping NoticeHandler
    ) {
        queue = Mutex(HistoryQueue(bound: bound))
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
    }

    // MARK: - Work

    /// Opens the file, unless that has been done or cannot be done.
    func open() async {
        _ = store()
        await sweep()
    }

    /// Writes until nothing waits, or nothing can be written.
    /// - Returns: whether to try again, since something waits that could not be written.
    func drain() async -> Bool {
        while flush() {
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
    func flush() -> Bool { write(queue.withLock { $0.take() }) }

    /// Writes the waiting state of these jobs, in one transaction.
    func flush(_ jobs: [JobID]) { write(queue.withLock { $0.take(jobs) }) }

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

    /// Returns when everything that was recorded before is in a file that can be read.
    func demandFile() throws(HistoryError) { _ = try demandedStore() }

    private func demandedStore() throws(HistoryError) -> HistoryStore {
        flush()
        if let store = store() { return store }
        if case .off(let error) = state { throw error }
        throw HistoryError(
            "the history cannot be opened just now: \(trouble ?? file.path.printable)", isPassing: true)
    }

    /// The jobs of previous runs that the file has as open. They are read here, where nothing is written meanwhile, so that a job of this run
    /// is never among them.
    func interrupted() throws(HistoryError) -> [Job] {
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

    /// - Throws: when one of the jobs is not in the file after all earlier records were written or dropped.
    func confirm(_ jobs: [JobID]) throws(HistoryError) {
        let store = try demandedStore()
        do { if try store.has(jobs) { return } } catch {
            throw HistoryError("\(file.path.printable): cannot be read: \(error)")
        }
        throw HistoryError(trouble ?? "\(file.path.printable): some jobs were left out, see the daemon's log")
    }

    /// A reader has failed: the file is replaced if it is damaged.
    func readerFailed(_ error: HistoryError) {
        guard case .open = state, let cause = error.cause else { return }
        if cause.code == SQLITE_CORRUPT || cause.code == SQLITE_NOTADB { replace(because: "\(cause)") }
    }

    /// Writes what waits and closes the file. Nothing is written after that.
    func close() {
        queue.withLock { $0.close() }
        triedAt = nil
        // A file that replaces a damaged one takes a second time.
        while flush() {}
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

    /// For tests.
    func stopCheckpoints() { untilCheckpoint = .max }

    /// For tests.
    func withDatabase<Value>(_ body: (SQLite) throws -> Value) throws -> Value? {
        try store().map { try body($0.database) }
    }

    /// - Parameter items: jobs and pieces that were written or removed.
    private func logGrew(by items: Int) {
        untilCheckpoint -= items
        guard untilCheckpoint <= 0 else { return }
        // Not again before the end of this one.
        untilCheckpoint = .max
        beginCheckpoint()
    }

    /// Copies the log into the database on another thread, since that waits for the disk several times, and attempts wait for their records.
    private func beginCheckpoint() {
        BlockingWork.begin(on: .history) { [self, path = file.path.string] in
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
        guard let text = text(of: error) else { return replace(because: "\(error)") }
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

    /// Why the history cannot be written until an operator acts, with the file and the hint; nil for damage, which is fixed here. What SQLite
    /// cannot tell from damage the disk may.
    private func text(of error: any Error) -> String? {
        if let error = error as? HistoryError { return "\(error)" }
        return reason(of: error).map { "\(file.path.printable): \($0)" }
    }

    private func reason(of error: any Error) -> String? {
        if let shortage = error as? Errno {
            return "it cannot be made; \(shortage.shortageHint(at: file.path.removingLastComponent()))"
        }
        guard let error = error as? SQLite.Failure else { return "report this as a bug, with the log" }
        switch error.code {
        case SQLITE_BUSY, SQLITE_LOCKED, SQLITE_INTERRUPT, SQLITE_PROTOCOL:
            return
                "another program keeps the history locked; find it among those that fuser -v \(file.path.printable) lists besides the daemon"
        case SQLITE_FULL, SQLITE_NOMEM:
            return "there is no room for the history; make room on its file system"
        default:
            let cause = error.cause.flatMap { HistoryFile.isShortage($0) ? $0 : nil } ?? file.shortage
            return cause.map { "\($0); \($0.shortageHint(at: file.path.removingLastComponent()))" }
        }
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
}

/// How many ended jobs are kept, and how long. Open jobs are always kept.
public struct HistoryRetention: Hashable, Sendable {
    /// Jobs that ended longer ago are removed; nil: no limit. More than zero.
    public var age: Duration?
    /// The number of ended jobs that are kept, the newest; nil: no limit. At least 0.
    public var jobs: Int?

    /// - Parameters:
    ///   - age: 90 days by default.
    ///   - jobs: 100,000 by default.
    public init(age: Duration? = .seconds(90 * 86_400), jobs: Int? = 100_000) {
        self.age = age
        self.jobs = jobs
    }
}

/// Removes jobs beyond the retention, a small slice at a time.
///
/// It is due after opening, and then after a number of ended jobs or a time, which is only checked when something is written.
struct HistorySweeper {
    /// Jobs removed in one transaction.
    private static let slice = 200
    /// After so many ended jobs, or so long, it is due again.
    private static let jobs = 1_000
    private static let interval = Duration.seconds(3_600)

    private let retention: HistoryRetention
    private var endedSince = 0
    private var dueAt = Timestamp.distantPast

    init(retention: HistoryRetention) { self.retention = retention }

    /// - Parameter ended: the number of ended jobs that were written.
    mutating func wrote(_ ended: Int) { endedSince += ended }

    func isDue(at now: Timestamp) -> Bool { endedSince >= Self.jobs || dueAt <= now }

    /// After a failure, or when nothing is left to remove.
    mutating func postpone(at now: Timestamp) {
        endedSince = 0
        dueAt = now + Self.interval
    }

    /// Removes one slice.
    /// - Parameter byAge: false: only jobs beyond the number that is kept.
    /// - Returns: the number of jobs.
    mutating func slice(of store: HistoryStore, now: Timestamp, byAge: Bool) throws -> Int {
        let border = byAge ? retention.age.map { now + (.zero - $0) } : nil
        let removed = try store.remove(endedBefore: border, keeping: retention.jobs, atMost: Self.slice)
        if removed < Self.slice { postpone(at: now) }
        return removed
    }
}
