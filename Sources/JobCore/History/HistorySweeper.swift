import GRDB

/// Removes what is older or more than the retention allows, a small slice at a time.
///
/// It is due after opening, and then after so many jobs have ended or so much time has passed; the time is only looked at when something is written.
struct HistorySweeper {
    /// Jobs removed in one transaction, and pages given back after it.
    private static let slice = 200
    private static let pages = 2_000
    /// After so many ended jobs, or so long, it is due again.
    private static let jobs = 1_000
    private static let interval = Duration.seconds(3_600)

    private let retention: HistoryRetention
    private var endedSince = 0
    private var dueAt = WallTime.distantPast

    init(retention: HistoryRetention) { self.retention = retention }

    /// Some changes are in the file.
    mutating func wrote(_ changes: some Sequence<JobChange>) {
        for case .closed in changes.lazy.map(\.event) { endedSince += 1 }
    }

    func isDue(at now: WallTime) -> Bool { endedSince >= Self.jobs || dueAt <= now }

    /// Not now: it has failed.
    mutating func postpone(at now: WallTime) {
        endedSince = 0
        dueAt = now + Self.interval
    }

    /// Removes one slice. When there was less to remove, it is not due for a while.
    mutating func slice(_ database: Database, now: WallTime) throws {
        var removed = 0
        try database.inTransaction {
            if let age = retention.age {
                let border = (now + (.zero - age)).microsecondsSince1970
                removed += try remove(
                    "SELECT id FROM job WHERE ended IS NOT NULL AND ended < ? ORDER BY ended LIMIT ?",
                    [border, Self.slice], in: database)
            }
            if let jobs = retention.jobs, removed < Self.slice {
                let ended = try Int.fetchOne(database, sql: "SELECT count(*) FROM job WHERE ended IS NOT NULL") ?? 0
                let many = min(Self.slice - removed, ended - max(0, jobs))
                if many > 0 {
                    removed += try remove(
                        "SELECT id FROM job WHERE ended IS NOT NULL ORDER BY ended, id LIMIT ?", [many], in: database)
                }
            }
            return .commit
        }
        // Every row is a page that is given back.
        _ = try Row.fetchAll(database, sql: "PRAGMA incremental_vacuum(\(Self.pages))")
        if removed < Self.slice { postpone(at: now) }
    }

    private func remove(_ query: String, _ arguments: StatementArguments, in database: Database) throws -> Int {
        try database.execute(sql: "DELETE FROM job WHERE id IN (\(query))", arguments: arguments)
        return database.changesCount
    }
}
