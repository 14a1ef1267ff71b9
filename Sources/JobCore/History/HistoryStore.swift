/// The tables of the history's file, and the writes to them.
///
/// `job.record` is the job in JSON, without its long parts; the other columns are those that queries use. The long parts are pieces: lines of the
/// report, and the output of the programs of steps. Times in columns are microseconds since the beginning of 1970, UTC. An index serves each filter by
/// client, time and final letter, and the queries of retention and start; types are few, so a filter by type scans jobs from the newest on.
struct HistoryStore {
    /// Why a file is not the history of this version.
    enum Finding: Error {
        /// An earlier version of this program made it.
        case older
        /// A later version of this program made it.
        case newer
        /// It cannot be used.
        case foreign(String)
    }

    let database: SQLite

    /// "PRJH": marks the file as ours, so that a foreign database is recognised.
    private static let applicationID: Int64 = 0x5052_4A48
    private static let version: Int64 = 2

    private static let tables = """
        CREATE TABLE job (
            id INTEGER PRIMARY KEY, type TEXT NOT NULL, level TEXT NOT NULL, client TEXT NOT NULL,
            created INTEGER NOT NULL, status TEXT NOT NULL, ended INTEGER, record TEXT NOT NULL
        ) STRICT;
        CREATE INDEX job_client ON job(client);
        CREATE INDEX job_created ON job(created);
        CREATE INDEX job_open ON job(id) WHERE ended IS NULL;
        CREATE INDEX job_ended ON job(ended) WHERE ended IS NOT NULL;
        CREATE INDEX job_status ON job(status) WHERE ended IS NOT NULL;

        CREATE TABLE piece (
            id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES job(id) ON DELETE CASCADE,
            time INTEGER, source TEXT, text TEXT,
            step INTEGER, head BLOB, tail BLOB, dropped INTEGER
        ) STRICT;
        CREATE INDEX piece_job ON piece(job);
        """

    // MARK: - Opening

    /// Opens a file for the daemon that owns it, and creates missing tables.
    /// - Returns: the number of attempts that the last run did not end, which are marked as lost, and the greatest number of a job.
    /// - Throws: ``Finding``, with the file unchanged, or the error of SQLite.
    static func open(_ path: String) throws -> (store: HistoryStore, lost: Int, newest: JobID) {
        // A foreign database is not changed, not even into one with a log.
        let look = try SQLite(path, isReadOnly: true)
        try check(look)
        try look.close()
        let database = try SQLite(path)
        do {
            // Before the first table: later it would take a VACUUM.
            try database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            try database.execute("PRAGMA journal_mode = WAL")
            try database.execute("PRAGMA synchronous = NORMAL")
            // In pages of 4 KiB: for times when the writer's own checkpoints do not get to the end of the log, or do not get a thread.
            try database.execute("PRAGMA wal_autocheckpoint = 16384")
            try database.execute("PRAGMA journal_size_limit = 16777216")
            try database.execute("PRAGMA foreign_keys = ON")
            let (lost, newest) = try database.transaction {
                if try database.integer("PRAGMA user_version") == 0 {
                    try database.execute(tables)
                    try database.execute("PRAGMA application_id = \(applicationID)")
                    try database.execute("PRAGMA user_version = \(version)")
                }
                let newest = JobID(column: try database.integer("SELECT max(id) FROM job") ?? 0)
                let lost = try database.run(
                    """
                    UPDATE job SET record = json_set(record, '$.attempts[#-1].fate', 'lost')
                    WHERE ended IS NULL
                        AND CASE WHEN json_valid(record) THEN json_extract(record, '$.attempts[#-1].fate') END = 'running'
                    """)
                return (lost, newest)
            }
            return (HistoryStore(database: database), lost, newest)
        } catch {
            try database.close()
            throw error
        }
    }

    /// - Throws: ``Finding`` when the database is not a history of this version, unless it is empty.
    static func check(_ database: SQLite) throws {
        guard try database.integer("SELECT count(*) FROM sqlite_master") ?? 0 > 0 else { return }
        guard try database.integer("PRAGMA application_id") == applicationID else {
            throw Finding.foreign("it is another program's database")
        }
        switch try database.integer("PRAGMA user_version") ?? 0 {
        case version: return
        case ..<version: throw Finding.older
        default: throw Finding.newer
        }
    }

    /// Copies a file's log into its database, as far as no reader needs it. Others may write meanwhile.
    static func checkpoint(_ path: String) throws {
        let database = try SQLite(path, mustExist: true)
        try database.run("PRAGMA wal_checkpoint(PASSIVE)")
        try database.close()
    }

    // MARK: - Writing

    /// A job whose number was that of another job, which is described, and whose record it has replaced.
    typealias Replaced = (job: JobID, other: String)

    /// Writes all of it or, when it throws, nothing. Pieces of jobs that are not in the file are ignored.
    func write(_ batch: HistoryQueue.Batch) throws -> [Replaced] {
        try database.transaction {
            var replaced: [Replaced] = []
            for job in batch.jobs {
                if let other = try write(job) { replaced.append((job.id, other)) }
            }
            for piece in batch.pieces { try write(piece) }
            return replaced
        }
    }

    /// - Returns: the other job that the file had under this number.
    private func write(_ job: Job) throws -> String? {
        guard try !update(job) else { return nil }
        let id = [SQLite.Value.integer(job.id.column)]
        let other = try database.rows("SELECT type, client, created FROM job WHERE id = ?", id) { row in
            let created = Timestamp(microsecondsSince1970: row.integer(2) ?? 0)
            return "\(row.text(0) ?? "") of \(row.text(1) ?? ""), \(created.text)"
        }
        // With its pieces.
        try database.run("DELETE FROM job WHERE id = ?", id)
        _ = try update(job)
        return other.first
    }

    /// - Returns: false, with nothing changed, when the file has another job under this number.
    private func update(_ job: Job) throws -> Bool {
        try database.run(
            """
            INSERT INTO job (id, type, level, client, created, status, ended, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET
                level = excluded.level, status = excluded.status, ended = excluded.ended, record = excluded.record
                WHERE created = excluded.created
            """,
            [
                .integer(job.id.column), .text(job.type.rawValue), .text(job.level), .text(job.client),
                .integer(job.created.microsecondsSince1970), .text(job.status.letter),
                SQLite.Value(job.ended?.microsecondsSince1970),
                .text(String(decoding: try JSONLine.encode(job.record), as: UTF8.self)),
            ]) > 0
    }

    private func write(_ piece: HistoryQueue.Piece) throws {
        var values: [SQLite.Value] = [.integer(piece.job.column)]
        switch piece.content {
        case .line(let line):
            values += [
                .integer(line.time.microsecondsSince1970), .text(line.source.rawValue), .text(line.text), .null, .null,
                .null, .null,
            ]
        case .output(let output, let step):
            values += [
                .null, .null, .null, .integer(Int64(step)), .bytes(output.head), .bytes(output.tail),
                .integer(Int64(output.dropped)),
            ]
        }
        try database.run(
            """
            INSERT INTO piece (job, time, source, text, step, head, tail, dropped)
            SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM job WHERE id = ?1
            """, values)
    }

    /// Whether the file has all of these jobs.
    func has(_ jobs: [JobID]) throws -> Bool {
        try jobs.allSatisfy { try database.integer("SELECT 1 FROM job WHERE id = ?", [.integer($0.column)]) != nil }
    }

    /// Removes ended jobs, so many at most, and gives back their space.
    /// - Parameters:
    ///   - border: those that ended before; nil: none for their age.
    ///   - jobs: of the others so many of the newest stay; nil: all.
    /// - Returns: how many were removed.
    func remove(endedBefore border: Timestamp?, keeping jobs: Int?, atMost limit: Int) throws -> Int {
        let removed = try database.transaction {
            var removed = 0
            if let border {
                removed += try remove(
                    "ended < ? ORDER BY ended LIMIT ?",
                    [.integer(border.microsecondsSince1970), .integer(Int64(limit))])
            }
            if let jobs, removed < limit {
                let ended = try database.integer("SELECT count(*) FROM job WHERE ended IS NOT NULL") ?? 0
                let many = min(Int64(limit - removed), ended - Int64(max(0, jobs)))
                if many > 0 { removed += try remove("1 ORDER BY ended, id LIMIT ?", [.integer(many)]) }
            }
            return removed
        }
        try database.run("PRAGMA incremental_vacuum(2000)")
        return removed
    }

    private func remove(_ condition: String, _ values: [SQLite.Value]) throws -> Int {
        try database.run(
            "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE ended IS NOT NULL AND \(condition))", values)
    }

    /// How many open jobs a file of another version has, if it has them as this version does.
    static func openCount(inOther path: String) throws -> Int {
        let database = try SQLite(path, isReadOnly: true)
        let count = try database.integer("SELECT count(*) FROM job WHERE ended IS NULL") ?? 0
        try database.close()
        return Int(count)
    }
}

extension JobID {
    /// The number in the history's columns.
    var column: Int64 { Int64(clamping: number) }

    init(column: Int64) { self.init(UInt64(clamping: column)) }
}
