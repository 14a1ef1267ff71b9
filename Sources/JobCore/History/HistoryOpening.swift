import GRDB
import SystemPackage

/// A history's file as a new run of the daemon opens it: ours, with today's tables, and with the last run's account settled.
struct HistoryOpening {
    let pool: DatabasePool
    /// This opening's number.
    let run: Int64
    /// Attempts that the last run did not end.
    let lost: Int

    /// - Throws: SQLite's error, or a ``HistoryError`` when the file is a stranger's; then nothing in it has been changed.
    static func open(_ file: HistoryFile, at now: WallTime) throws -> Self {
        try look(file)
        let pool = try DatabasePool(path: file.path.string, configuration: configuration)
        do {
            try HistorySchema.migrator.migrate(pool)
            return try pool.write { database in
                try database.execute(
                    sql: "INSERT INTO run (began) VALUES (?)", arguments: [now.microsecondsSince1970])
                let run = database.lastInsertedRowID
                try database.execute(sql: "UPDATE attempt SET fate = 'lost' WHERE fate IS NULL")
                return Self(pool: pool, run: run, lost: database.changesCount)
            }
        } catch {
            do { try pool.close() } catch let second { throw HistoryError("\(error); and then: \(second)") }
            throw error
        }
    }

    /// A stranger's database is not changed, not even into one with a log.
    private static func look(_ file: HistoryFile) throws {
        var configuration = Configuration()
        configuration.readonly = true
        let queue = try DatabaseQueue(path: file.path.string, configuration: configuration)
        let objection = try queue.read { try HistorySchema.objection($0) }
        try queue.close()
        if let objection { throw HistoryError(objection) }
    }

    private static var configuration: Configuration {
        var configuration = Configuration()
        configuration.label = "job history"
        configuration.busyMode = .timeout(5)
        configuration.maximumReaderCount = 4
        configuration.prepareDatabase { database in
            guard !database.configuration.readonly else { return }
            // Before the first table: later it would take a VACUUM.
            try database.execute(sql: "PRAGMA auto_vacuum = INCREMENTAL")
            try database.execute(sql: "PRAGMA synchronous = NORMAL")
            try database.execute(sql: "PRAGMA journal_size_limit = 16777216")
        }
        return configuration
    }
}
