import FoundationEssentials
import GRDB
import Glibc
public import SystemPackage

/// Answers questions about past jobs. It changes nothing, and every answer shows the history at one moment.
///
/// ``JobHistory`` asks through one; a command without a daemon opens its own.
public struct HistoryReader: Sendable {
    private let path: FilePath
    private let database: any DatabaseReader
    /// The run of the daemon that writes; nil when none does.
    private let run: Int64?

    init(path: FilePath, database: any DatabaseReader, run: Int64) {
        self.path = path
        self.database = database
        self.run = run
    }

    /// Opens a history for reading alone; it blocks for as long as the disk does. A daemon may write to it meanwhile.
    /// - Throws: when there is none, or it cannot be used.
    public init(file: FilePath) throws(HistoryError) {
        guard access(file.string, R_OK) == 0 else {
            throw HistoryError(
                errno == ENOENT
                    ? "\(file.printable): there is no history of jobs yet; the daemon makes it"
                    : "\(file.printable): the history of jobs cannot be read: \(Errno(rawValue: errno)); ask as the daemon's user or root"
            )
        }
        path = file
        run = nil
        do {
            var configuration = Configuration()
            configuration.readonly = true
            configuration.label = "job history"
            configuration.busyMode = .timeout(5)
            let database = try DatabaseQueue(path: Self.address(of: file), configuration: configuration)
            if let objection = try database.read({ database in
                try HistorySchema.objection(database)
                    ?? (HistorySchema.migrator.hasCompletedMigrations(database)
                        ? nil : "an earlier version has made it")
            }) {
                throw HistoryError(objection)
            }
            self.database = database
        } catch {
            throw HistoryError("\(file.printable): no usable history of jobs: \(error)")
        }
    }

    /// How SQLite is told to open the file. When there is nothing in a log beside it, the file alone is the history, and SQLite is told that it
    /// does not change: it would leave an empty log there, or fail where it may not.
    private static func address(of file: FilePath) -> String {
        var log = stat()
        guard stat(file.string + "-wal", &log) == 0 ? log.st_size == 0 : errno == ENOENT else { return file.string }
        let escaped = file.string.utf8.map { byte in
            let isPlain = byte < 0x80 && !"%?#".utf8.contains(byte)
            return isPlain ? String(UnicodeScalar(byte)) : "%" + String(0x100 + Int(byte), radix: 16).dropFirst()
        }
        return "file:\(escaped.joined())?immutable=1"
    }

    /// The jobs that a filter asks for, the newest first.
    public func jobs(matching filter: JobFilter = JobFilter()) async throws(HistoryError) -> [RecordedJob] {
        let isForward = filter.after != nil && filter.before == nil
        let (condition, arguments) = filter.condition
        let sql = """
            SELECT \(Self.columns) FROM job \(condition) ORDER BY id \(isForward ? "ASC" : "DESC")
            LIMIT \(max(1, filter.limit))
            """
        let jobs = try await read { try Row.fetchAll($0, sql: sql, arguments: arguments).map(RecordedJob.init) }
        return isForward ? jobs.reversed() : jobs
    }

    /// All that is known of one job; nil when there is no such job.
    public func job(_ id: JobID) async throws(HistoryError) -> RecordedCourse? {
        try await read { database in
            guard
                let row = try Row.fetchOne(
                    database, sql: "SELECT \(Self.columns) FROM job WHERE id = ?", arguments: [id.column])
            else { return nil }
            return RecordedCourse(
                job: try RecordedJob(row),
                attempts: try Row.fetchAll(
                    database, sql: "SELECT * FROM attempt WHERE job = ? ORDER BY id", arguments: [id.column]
                ).map { row in
                    let steps = try Row.fetchAll(
                        database, sql: "SELECT * FROM step WHERE attempt = ? ORDER BY id",
                        arguments: [row["id"] as Int64])
                    return try RecordedAttempt(row, steps: try steps.map(RecordedStep.init))
                },
                statuses: try Row.fetchAll(
                    database, sql: "SELECT time, letter FROM status WHERE job = ? ORDER BY id", arguments: [id.column]
                ).map(RecordedStatus.init),
                report: try Row.fetchAll(
                    database, sql: "SELECT time, source, text FROM report WHERE job = ? ORDER BY id",
                    arguments: [id.column]
                ).map(RecordedLine.init))
        }
    }

    /// The newest job of an account or a script; nil when there is none.
    public func last(client: String) async throws(HistoryError) -> RecordedJob? {
        try await jobs(matching: JobFilter(client: client, limit: 1)).first
    }

    /// Jobs of an earlier run of the daemon that are open still, the oldest first: their owners resume them, or close them.
    ///
    /// Without a daemon, these are all that are open.
    public func unfinished() async throws(HistoryError) -> [RecordedJob] {
        let run = run ?? .max
        return try await read { database in
            try Row.fetchAll(
                database, sql: "SELECT \(Self.columns) FROM job WHERE ended IS NULL AND run < ? ORDER BY id",
                arguments: [run]
            ).map(RecordedJob.init)
        }
    }

    /// The failed jobs of a type after which no job of the same client and level has ended, unless it was cancelled; the oldest first.
    public func unresolvedFailures(of type: JobType) async throws(HistoryError) -> [RecordedJob] {
        let failed = Set(JobResult.allCases.filter { !$0.isSuccess && $0 != .aborted }.map(\.status.letter)).sorted()
        let sql = """
            SELECT \(Self.columns) FROM job WHERE type = ? AND ended IS NOT NULL
            AND status IN (\(failed.map { _ in "?" }.joined(separator: ", ")))
            AND NOT EXISTS (
                SELECT 1 FROM job AS later WHERE later.client = job.client AND later.id > job.id
                AND later.type = job.type AND later.level = job.level AND later.ended IS NOT NULL AND later.status <> ?)
            ORDER BY id
            """
        return try await read { database in
            try Row.fetchAll(
                database, sql: sql,
                arguments: StatementArguments([type.rawValue] + failed + [JobStatus.canceled.letter])
            ).map(RecordedJob.init)
        }
    }

    private static let columns = """
        job.*, (SELECT count(*) FROM attempt WHERE attempt.job = job.id) AS attempts,
        (SELECT count(*) FROM attempt WHERE attempt.job = job.id AND fate IN ('cut off', 'lost')) AS interruptions,
        (SELECT min(began) FROM attempt WHERE attempt.job = job.id) AS began
        """

    private func read<Value: Sendable>(
        _ body: @Sendable @escaping (Database) throws -> Value
    ) async throws(HistoryError) -> Value {
        do {
            return try await database.read(body)
        } catch let error as DatabaseError {
            throw HistoryError("\(path.printable): the history of jobs cannot be read: \(error)", cause: error)
        } catch {
            throw HistoryError("\(path.printable): the history of jobs cannot be read: \(error)")
        }
    }
}

extension JobFilter {
    /// The condition, with WHERE unless there is none. Letters that are final alone, or open alone, say so, for the sake of their index.
    fileprivate var condition: (sql: String, arguments: StatementArguments) {
        var terms: [String] = []
        var values: [(any DatabaseValueConvertible)?] = []
        func require(_ term: String, _ value: (any DatabaseValueConvertible)?) {
            guard let value else { return }
            terms.append(term)
            values.append(value)
        }
        func require(_ column: String, oneOf texts: [String]) {
            guard !texts.isEmpty else { return }
            terms.append("\(column) IN (\(texts.map { _ in "?" }.joined(separator: ", ")))")
            values += texts
        }
        require("client = ?", client)
        require("type = ?", type?.rawValue)
        require("name = ?", name)
        require("created >= ?", since?.microsecondsSince1970)
        require("created < ?", until?.microsecondsSince1970)
        require("id < ?", before?.column)
        require("id > ?", after?.column)
        require("status", oneOf: statuses.map(\.letter).sorted())
        if !results.isEmpty {
            require("result", oneOf: results.map(\.rawValue).sorted())
            require("status", oneOf: Set(results.map(\.status.letter)).sorted())
        }
        if !results.isEmpty || (!statuses.isEmpty && statuses.allSatisfy(\.isFinal)) {
            terms.append("ended IS NOT NULL")
        } else if !statuses.isEmpty, statuses.allSatisfy({ !$0.isFinal }) {
            terms.append("ended IS NULL")
        }
        return (terms.isEmpty ? "" : "WHERE " + terms.joined(separator: " AND "), StatementArguments(values))
    }
}
