import FoundationEssentials
import GRDB

/// The tables of the history.
///
/// - Every time is an integer: microseconds since the beginning of 1970, UTC; every duration is in microseconds.
/// - `job.status` and `status.letter` are the letters of ``JobStatus``; results, classes and script statuses are the raw values of their enums.
/// - A list of texts (`arguments`, `survivors`) is one blob: the bytes of each text, each followed by a zero byte, as in /proc/PID/cmdline.
/// - `run` counts the openings by a daemon. A job that is open and was opened by an earlier run waits for its owner to resume it.
/// - An attempt has no fate while it runs.
///
/// Indexes serve the filters by client, time and final letter, and what retention and rescue look for. Types and names are few, so jobs are looked
/// through for them from the newest on.
enum HistorySchema {
    /// "PRJH": marks the file as ours, so that nobody else's database is taken for one.
    static let applicationID: Int32 = 0x5052_4A48

    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { database in
            try database.execute(sql: "PRAGMA application_id = \(applicationID)")
            try database.execute(sql: tables)
        }
        return migrator
    }

    private static let tables = """
        CREATE TABLE run (id INTEGER PRIMARY KEY, began INTEGER NOT NULL) STRICT;

        CREATE TABLE job (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL, type TEXT NOT NULL, name TEXT NOT NULL, level TEXT NOT NULL,
            subject TEXT NOT NULL, client TEXT NOT NULL, priority INTEGER NOT NULL, created INTEGER NOT NULL,
            status TEXT NOT NULL, progress INTEGER,
            ended INTEGER, result TEXT, class TEXT, message TEXT, exit_code INTEGER, signal INTEGER
        ) STRICT;
        CREATE INDEX job_client ON job(client);
        CREATE INDEX job_created ON job(created);
        CREATE INDEX job_open ON job(run) WHERE ended IS NULL;
        CREATE INDEX job_ended ON job(ended) WHERE ended IS NOT NULL;
        CREATE INDEX job_status ON job(status) WHERE ended IS NOT NULL;

        CREATE TABLE attempt (
            id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES job(id) ON DELETE CASCADE, number INTEGER NOT NULL,
            began INTEGER NOT NULL, ended INTEGER, fate TEXT, pre TEXT, post TEXT,
            result TEXT, class TEXT, message TEXT, exit_code INTEGER, signal INTEGER
        ) STRICT;
        CREATE INDEX attempt_job ON attempt(job, number);
        CREATE INDEX attempt_running ON attempt(job) WHERE fate IS NULL;

        CREATE TABLE step (
            id INTEGER PRIMARY KEY, attempt INTEGER NOT NULL REFERENCES attempt(id) ON DELETE CASCADE, name TEXT NOT NULL,
            began INTEGER NOT NULL, duration INTEGER NOT NULL, result TEXT NOT NULL,
            arguments BLOB, refusal TEXT,
            path TEXT, resolved_path TEXT, device INTEGER, inode INTEGER, owner INTEGER, mode INTEGER, size INTEGER,
            modified INTEGER, sha256 TEXT,
            exit_code INTEGER, signal INTEGER, cause TEXT, script_duration INTEGER, survivors BLOB,
            output_head BLOB, output_tail BLOB, output_dropped INTEGER
        ) STRICT;
        CREATE INDEX step_attempt ON step(attempt);

        CREATE TABLE status (
            id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES job(id) ON DELETE CASCADE,
            time INTEGER NOT NULL, letter TEXT NOT NULL
        ) STRICT;
        CREATE INDEX status_job ON status(job);

        CREATE TABLE report (
            id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES job(id) ON DELETE CASCADE,
            time INTEGER NOT NULL, source TEXT NOT NULL, text TEXT NOT NULL
        ) STRICT;
        CREATE INDEX report_job ON report(job);
        """

    /// - Returns: why the database cannot be used as the history; nil when it can, or when it is new.
    static func objection(_ database: Database) throws -> String? {
        let tables = try Int.fetchOne(database, sql: "SELECT count(*) FROM sqlite_master") ?? 0
        guard tables > 0 else { return nil }
        let mark = try Int32.fetchOne(database, sql: "PRAGMA application_id")
        guard mark == applicationID else { return "it is another program's database" }
        return try migrator.hasBeenSuperseded(database) ? "a later version of this program has made it" : nil
    }
}

/// A list of texts as one blob: each text is followed by a zero byte.
enum TextList {
    static func blob(_ texts: [String]) -> Data {
        var data = Data()
        for text in texts {
            data.append(contentsOf: text.utf8)
            data.append(0)
        }
        return data
    }

    static func texts(_ blob: Data) -> [String] {
        blob.split(separator: 0, omittingEmptySubsequences: false).dropLast().map {
            String(decoding: $0, as: UTF8.self)
        }
    }
}
