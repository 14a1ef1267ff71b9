import GRDB
import SystemPackage

/// The one owner of the history's file: opens it, writes to it, keeps it within its bounds, and puts it aside when it is damaged.
///
/// It never fails: when nothing can be written, changes are left out and an operator is told, once for each trouble.
actor HistoryDatabase {
    private enum State {
        /// Not tried yet, or the disk was full or the file locked when it was tried.
        case unopened
        case open(DatabasePool, HistoryFile.Identity?)
        /// Nothing will be written before the next start.
        case off(HistoryError)
    }

    /// Files put aside in one run; with more, the disk is the trouble and not the file.
    private static let mostSetAside = 3
    /// Changes in a transaction.
    private static let batch = 5_000

    private let file: HistoryFile
    private let intake: HistoryIntake
    private let clock: any WallClock
    private let notice: NoticeHandler
    private let executor = ThreadExecutor("job history")
    private var state = State.unopened { didSet { noteHindrance() } }
    private var ledger = HistoryLedger()
    private var sweeper: HistorySweeper
    /// What hinders writing just now and has been told; nil when nothing does.
    private var trouble: String? { didSet { noteHindrance() } }
    /// When it was tried last in vain to open the file.
    private var triedAt: ContinuousClock.Instant?
    /// Changes left out since the operator was told how many.
    private var missing = 0
    private var setAside = 0
    private var written: UInt64 = 0

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(
        file: FilePath, intake: HistoryIntake, retention: HistoryRetention, clock: any WallClock,
        notice: @escaping NoticeHandler
    ) {
        self.file = HistoryFile(path: file)
        self.intake = intake
        self.clock = clock
        self.notice = notice
        sweeper = HistorySweeper(retention: retention)
    }

    // MARK: - Work

    /// Opens the file, unless that has been done or cannot be done.
    func open() async {
        _ = pool()
        await sweep()
    }

    /// Writes what waits until nothing does.
    func drain() async {
        while let batch = intake.take() {
            write(batch)
            // Lets whoever waits for the database in.
            await Task.yield()
        }
        await sweep()
    }

    /// - Returns: once what was offered before is written or left out.
    func flush() {
        let target = intake.position
        while written < target, let batch = intake.take() { write(batch) }
    }

    /// What can be read, with all that was offered before.
    func reader() throws(HistoryError) -> HistoryReader {
        HistoryReader(path: file.path, database: try flushed(), run: ledger.run)
    }

    /// - Throws: when one of the jobs is not in the file once all that was offered before is written or left out.
    func confirm(_ jobs: [JobID]) throws(HistoryError) {
        let pool = try flushed()
        do {
            let isComplete = try pool.read { database in
                let statement = try database.cachedStatement(sql: "SELECT 1 FROM job WHERE id = ?")
                return try jobs.allSatisfy { try Int.fetchOne(statement, arguments: [$0.column]) != nil }
            }
            if isComplete { return }
        } catch {
            throw HistoryError("\(file.path.printable): cannot be read: \(error)", cause: error as? DatabaseError)
        }
        throw HistoryError("\(file.path.printable): \(trouble ?? "changes were left out, see the daemon's log")")
    }

    private func flushed() throws(HistoryError) -> DatabasePool {
        flush()
        if let pool = pool() { return pool }
        if case .off(let error) = state { throw error }
        throw HistoryError("\(file.path.printable): the history cannot be opened just now: \(trouble ?? "")")
    }

    /// A reader has met damage, if that is what it is.
    func readerFailed(_ error: HistoryError) {
        guard case .open = state, let cause = error.cause else { return }
        switch cause.resultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB: replace(because: "\(cause)")
        default: break
        }
    }

    /// Writes what waits and gives the file back. Nothing is written after that.
    func close() {
        intake.close()
        flush()
        if case .open(let pool, _) = state {
            do {
                // So that the file alone is the whole history.
                try pool.writeWithoutTransaction { _ = try $0.checkpoint(.truncate) }
                try pool.close()
            } catch {
                notice(CoreNotice(.warning, "\(file.path.printable): the history could not be closed: \(error)"))
            }
        }
        state = .off(HistoryError("\(file.path.printable): the history is closed: the daemon is stopping"))
    }

    /// For tests: what SQLite itself says and does.
    func withDatabase<Value>(_ body: (Database) throws -> Value) throws -> Value? {
        guard let pool = pool() else { return nil }
        return try pool.writeWithoutTransaction(body)
    }

    // MARK: - Writing

    private func write(_ batch: HistoryIntake.Batch) {
        missing += batch.dropped
        var rest = batch.changes[...]
        while !rest.isEmpty {
            let slice = rest.prefix(Self.batch)
            rest = rest.dropFirst(slice.count)
            if !write(slice) { missing += slice.count }
        }
        written = batch.position
        if trouble == nil, missing > 0, case .open = state {
            notice(
                CoreNotice(
                    .warning,
                    "\(file.path.printable): the history is written again; \(missing) changes of jobs are missing"))
            missing = 0
        }
    }

    /// - Returns: false when the changes were left out.
    private func write(_ changes: ArraySlice<JobChange>) -> Bool {
        var next = changes.startIndex
        // A damaged file is put aside once, and the changes go into the new one.
        for _ in 0..<2 {
            guard let pool = pool() else { break }
            var position = changes.startIndex
            defer { next = position }
            do {
                try pool.write { database in
                    try ledger.writePendingEnds(in: database)
                    while position < changes.endIndex {
                        try ledger.write(changes[position], in: database)
                        position += 1
                    }
                }
                ledger.committed()
                trouble = nil
                sweeper.wrote(changes)
                return true
            } catch {
                ledger.rolledBack()
                guard failed(error) else { break }
            }
        }
        ledger.note(changes[next...])
        return false
    }

    private func sweep() async {
        while case .open(let pool, _) = state, sweeper.isDue(at: clock.now) {
            sweepSlice(pool)
            await Task.yield()
        }
    }

    private func sweepSlice(_ pool: DatabasePool) {
        do {
            try pool.writeWithoutTransaction { try sweeper.slice($0, now: clock.now) }
        } catch {
            sweeper.postpone(at: clock.now)
            _ = failed(error)
        }
    }

    // MARK: - Trouble

    private func noteHindrance() {
        if case .off = state { intake.isHindered = true } else { intake.isHindered = trouble != nil }
    }

    /// - Returns: whether it is worth trying again at once.
    private func failed(_ error: any Error) -> Bool {
        let trouble = HistoryTrouble(error, in: file)
        guard let text = trouble.text else { return replace(because: "\(error)") }
        tell(text, error)
        return false
    }

    /// Once for each trouble.
    private func tell(_ text: String, _ error: any Error) {
        guard trouble != text else { return }
        trouble = text
        notice(
            CoreNotice(
                .error,
                "\(file.path.printable): \(text) (\(error)); changes of jobs are left out meanwhile, and nothing else suffers"
            ))
    }

    private func off(_ error: HistoryError) {
        state = .off(error)
        notice(
            CoreNotice(
                .error, "no history of jobs is kept until the next start, and nothing else suffers: \(error)"))
    }

    /// - Returns: whether there is another file now.
    @discardableResult
    private func replace(because reason: String) -> Bool {
        do throws(HistoryError) {
            if case .open(let pool, _) = state {
                // Closed before its file is renamed: closing removes the log by its name.
                do { try pool.close() } catch {
                    throw HistoryError("\(file.path.printable): cannot be closed: \(error)")
                }
            }
            state = .unopened
            guard setAside < Self.mostSetAside else {
                throw HistoryError("\(file.path.printable): damaged again and again (\(reason)); look at the disk")
            }
            setAside += 1
            let aside = try file.setAside(at: clock.now)
            notice(
                CoreNotice(
                    .error,
                    "\(file.path.printable): no usable history (\(reason)); it was set aside as \(aside.printable), and a new one is begun"
                ))
            return true
        } catch {
            off(error)
            return false
        }
    }

    /// Somebody has removed or renamed the file under our hands.
    private func removed(_ pool: DatabasePool) {
        state = .unopened
        do {
            try pool.close()
            notice(
                CoreNotice(
                    .warning,
                    "\(file.path.printable): the history was removed or replaced while in use; a new one is begun"))
        } catch {
            off(HistoryError("\(file.path.printable): was removed, and cannot be closed: \(error)"))
        }
    }

    // MARK: - Opening

    /// The open database, opened now if need be; nil when that cannot be done now.
    private func pool() -> DatabasePool? {
        switch state {
        case .open(let pool, let identity):
            if file.identity == identity { return pool }
            removed(pool)
        case .off: return nil
        case .unopened: break
        }
        if case .off = state { return nil }
        // A disk that is full or a file that is locked is not tried again for every change.
        if let triedAt, ContinuousClock.now - triedAt < .seconds(1) { return nil }
        for _ in 0...Self.mostSetAside {
            do throws(HistoryError) {
                try file.checkDirectory()
                if let objection = try file.prepare() {
                    guard replace(because: objection) else { return nil }
                    continue
                }
            } catch {
                off(error)
                return nil
            }
            do {
                let opened = try HistoryOpening.open(file, at: clock.now)
                state = .open(opened.pool, file.identity)
                triedAt = nil
                ledger.run = opened.run
                ledger.rolledBack()
                if opened.lost > 0 {
                    notice(
                        CoreNotice(
                            .warning,
                            "the last run ended in the middle of \(opened.lost) attempts; the history marks them as lost"
                        ))
                }
                return opened.pool
            } catch {
                guard failed(error) else {
                    triedAt = .now
                    return nil
                }
            }
        }
        return nil
    }
}
