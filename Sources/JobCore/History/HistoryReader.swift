import FoundationEssentials
import Glibc
public import SystemPackage

/// Conditions for jobs, which must all be met. nil or empty is no condition.
public struct JobFilter: Codable, Hashable, Sendable {
    /// The client: an account's uid, or the name of a script.
    public var client: String?
    /// The jobs' type, as ``JobType`` has it.
    public var type: String?
    /// Any of these letters of ``JobStatus``.
    public var statuses: String
    /// Created at this time or later.
    public var since: Timestamp?
    /// Created at this time or earlier, up to the end of that second.
    public var until: Timestamp?
    /// How many jobs are listed at most, the newest first; at least 1.
    public var limit: Int

    /// Without arguments: the newest 50.
    public init(
        client: String? = nil, type: String? = nil, statuses: String = "", since: Timestamp? = nil,
        until: Timestamp? = nil, limit: Int = 50
    ) {
        self.client = client
        self.type = type
        self.statuses = statuses
        self.since = since
        self.until = until
        self.limit = limit
    }

    /// Whether a job meets the conditions.
    public func includes(_ job: Job) -> Bool {
        (client == nil || client == job.client) && (type == nil || type == job.type.rawValue)
            && (statuses.isEmpty || statuses.contains(job.status.letter)) && since.map { $0 <= job.created } ?? true
            && until.map { job.created < $0 + .seconds(1) } ?? true
    }

    /// The condition in SQL, with WHERE unless it is empty. Where all letters are final, or all are open, it names that, so that their index is used.
    fileprivate var condition: (sql: String, values: [SQLite.Value]) {
        var terms: [String] = []
        var values: [SQLite.Value] = []
        func require(_ term: String, _ value: SQLite.Value?) {
            guard let value else { return }
            terms.append(term)
            values.append(value)
        }
        require("client = ?", client.map(SQLite.Value.text))
        require("type = ?", type.map(SQLite.Value.text))
        require("created >= ?", since.map { .integer($0.microsecondsSince1970) })
        require("created < ?", until.map { .integer(($0 + .seconds(1)).microsecondsSince1970) })
        if !statuses.isEmpty {
            terms.append("status IN (\(statuses.map { _ in "?" }.joined(separator: ", ")))")
            values += statuses.map { .text(String($0)) }
            let areFinal = Set(statuses.map { JobStatus(rawValue: String($0))?.isFinal ?? false })
            if areFinal.count == 1 { terms.append(areFinal.contains(true) ? "ended IS NOT NULL" : "ended IS NULL") }
        }
        return (terms.isEmpty ? "" : "WHERE " + terms.joined(separator: " AND "), values)
    }
}

/// Reads recorded jobs. Every answer shows the history at one moment. It blocks on the disk.
///
/// Used by ``JobHistory``, and by commands without a daemon. Each query opens the file and closes it again, since queries are rare.
public struct HistoryReader: Sendable {
    private let path: FilePath
    private let notice: NoticeHandler

    /// - Parameter path: not opened before the first query.
    init(path: FilePath, notice: @escaping NoticeHandler) { (self.path, self.notice) = (path, notice) }

    /// For a command. A daemon may write to the history at the same time.
    /// - Parameter notice: called for each job whose record cannot be read, which is left out of the answer.
    /// - Throws: when there is none, or it cannot be used.
    public init(file: FilePath, notice: @escaping NoticeHandler = { _ in }) throws(HistoryError) {
        guard access(file.string, R_OK) == 0 else {
            throw HistoryError(
                errno == ENOENT
                    ? "\(file.printable): there is no history of jobs yet; the daemon makes it"
                    : "\(file.printable): the history of jobs cannot be read: \(Errno(rawValue: errno)); ask as the daemon's user or root"
            )
        }
        self.init(path: file, notice: notice)
        try read { _ in }
    }

    /// The jobs that match a filter, the newest first, without their long parts.
    public func jobs(matching filter: JobFilter = JobFilter()) throws(HistoryError) -> [Job] {
        let (condition, values) = filter.condition
        return try read { try records("\(condition) ORDER BY id DESC LIMIT \(max(1, filter.limit))", values, in: $0) }
    }

    /// The complete record of one job; nil when there is no such job.
    public func job(_ id: JobID) throws(HistoryError) -> Job? {
        try read { database in
            guard let record = try Self.results("WHERE id = ?", [.integer(id.column)], in: database).first else {
                return nil
            }
            var job = try record.get()
            _ = try database.rows(
                "SELECT time, source, text, step, head, tail, dropped FROM piece WHERE job = ? ORDER BY id",
                [.integer(id.column)]
            ) { row in
                if let step = row.integer(3).map({ Int($0) }) {
                    guard job.steps.indices.contains(step) else { return }
                    job.steps[step].script?.output = CapturedOutput(
                        head: row.bytes(4), tail: row.bytes(5), dropped: Int(row.integer(6) ?? 0))
                } else {
                    job.report.append(
                        ReportLine(
                            row.text(1).flatMap(ReportLine.Source.init) ?? .daemon, row.text(2) ?? "",
                            at: Timestamp(microsecondsSince1970: row.integer(0) ?? 0)))
                }
            }
            return job
        }
    }

    /// Open jobs, the oldest first. Without a daemon, all of them are interrupted jobs.
    public func open() throws(HistoryError) -> [Job] { try read { try open(in: $0) } }

    func open(in database: SQLite) throws -> [Job] { try records("WHERE ended IS NULL ORDER BY id", in: database) }

    /// The failed jobs of a type after which no job of the same client and level has ended, unless it was cancelled; the oldest first.
    public func unresolvedFailures(of type: JobType) throws(HistoryError) -> [Job] {
        let failed = Set(JobResult.allCases.filter { !$0.isSuccess && $0 != .aborted }.map(\.status.letter)).sorted()
        let condition = """
            WHERE type = ? AND ended IS NOT NULL AND status IN (\(failed.map { _ in "?" }.joined(separator: ", ")))
            AND NOT EXISTS (
                SELECT 1 FROM job AS later WHERE later.client = job.client AND later.id > job.id
                AND later.type = job.type AND later.level = job.level AND later.ended IS NOT NULL AND later.status <> ?)
            ORDER BY id
            """
        let values = [.text(type.rawValue)] + failed.map(SQLite.Value.text) + [.text(JobStatus.canceled.letter)]
        return try read { try records(condition, values, in: $0) }
    }

    /// Leaves out, with a notice, the jobs whose records cannot be read: the others are not affected.
    private func records(_ condition: String, _ values: [SQLite.Value] = [], in database: SQLite) throws -> [Job] {
        try Self.results(condition, values, in: database).compactMap { record in
            do throws(UnreadableRecord) { return try record.get() } catch {
                notice(CoreNotice(.error, "\(path.printable): \(error.text(path)); lists leave it out", job: error.job))
                return nil
            }
        }
    }

    private static func results(
        _ condition: String, _ values: [SQLite.Value], in database: SQLite
    ) throws -> [Result<Job, UnreadableRecord>] {
        let decoder = JSONDecoder()
        return try database.rows("SELECT record, created, id FROM job \(condition)", values) { row in
            do {
                var job = try decoder.decode(Job.self, from: Data(row.bytes(0)))
                // In JSON it is cut to the second.
                if let created = row.integer(1) { job.created = Timestamp(microsecondsSince1970: created) }
                return .success(job)
            } catch {
                return .failure(UnreadableRecord(job: JobID(column: row.integer(2) ?? 0), reason: "\(error)"))
            }
        }
    }

    /// A record that is not what this program writes.
    private struct UnreadableRecord: Error {
        var job: JobID
        var reason: String

        /// With the hint.
        func text(_ file: FilePath) -> String {
            let command = "PRAGMA foreign_keys = ON; DELETE FROM job WHERE id = \(job)"
            return
                "the record of job \(job) cannot be read (\(OneLine.of(reason))); to remove it: sqlite3 \(file.shellWord) '\(command)'"
        }
    }

    private func read<Value>(_ body: (SQLite) throws -> Value) throws(HistoryError) -> Value {
        do {
            let database = try SQLite(Self.address(of: path), isReadOnly: true)
            let value = try database.transaction(isReading: true) {
                try HistoryStore.check(database)
                return try body(database)
            }
            try database.close()
            return value
        } catch {
            let reason =
                switch error {
                case let record as UnreadableRecord:
                    throw HistoryError("\(path.printable): \(record.text(path))")
                case HistoryStore.Finding.older:
                    throw HistoryError(
                        "\(path.printable): no usable history of jobs: an earlier version has made it; the daemon sets it aside when it starts",
                        isPassing: true)
                case HistoryStore.Finding.newer: "a later version of this program has made it"
                case HistoryStore.Finding.foreign(let objection): objection
                default: "\(error)"
                }
            throw HistoryError(
                "\(path.printable): no usable history of jobs: \(reason)", cause: error as? SQLite.Failure)
        }
    }

    /// The name with which SQLite opens the file. Without a log the file alone is the history, and SQLite is told that it
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
}
