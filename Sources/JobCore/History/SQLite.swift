import CSQLite
import SystemPackage

/// A connection to an SQLite database, for one thread at a time. Each statement is prepared once.
///
/// It is closed with its last reference unless ``close()`` was called.
final class SQLite {
    /// The value of a column or a parameter.
    enum Value {
        case null
        case integer(Int64)
        case text(String)
        case bytes([UInt8])

        init(_ number: Int64?) { self = number.map(Value.integer) ?? .null }
        init(_ text: String?) { self = text.map(Value.text) ?? .null }
    }

    /// An error of SQLite.
    struct Failure: Error, Hashable, CustomStringConvertible {
        /// The primary result code, such as `SQLITE_FULL`.
        let code: Int32
        let message: String
        /// The system error behind a failure to open, read or write a file.
        var cause: Errno?

        var description: String { "SQLite error \(code): \(message)" }
    }

    /// The current row of a statement. It is valid only within the closure that it is given to.
    struct Row {
        fileprivate let statement: OpaquePointer

        func integer(_ column: Int32) -> Int64? {
            sqlite3_column_type(statement, column) == SQLITE_NULL ? nil : sqlite3_column_int64(statement, column)
        }

        func text(_ column: Int32) -> String? {
            sqlite3_column_type(statement, column) == SQLITE_NULL ? nil : String(decoding: bytes(column), as: UTF8.self)
        }

        func bytes(_ column: Int32) -> [UInt8] {
            // In this order: the first call may convert the value, which the second one measures.
            let start = sqlite3_column_blob(statement, column)
            return Array(UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(statement, column))))
        }
    }

    private var handle: OpaquePointer?
    private var statements: [String: OpaquePointer] = [:]

    /// - Parameters:
    ///   - name: a path from `/` on, or a URI that begins with `file:`.
    ///   - isReadOnly: then the file must exist.
    ///   - mustExist: otherwise a missing file is made.
    init(_ name: String, isReadOnly: Bool = false, mustExist: Bool = false) throws(Failure) {
        let access =
            isReadOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | (mustExist ? 0 : SQLITE_OPEN_CREATE)
        let code = sqlite3_open_v2(name, &handle, access | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, nil)
        guard code == SQLITE_OK else { throw failure() }
        // Another program may read or write for a moment.
        sqlite3_busy_timeout(handle, 5_000)
    }

    deinit { _ = release() }

    /// Ends the connection. Nothing can be asked after that.
    func close() throws(Failure) { guard release() == SQLITE_OK else { throw failure() } }

    private func release() -> Int32 {
        for statement in statements.values { sqlite3_finalize(statement) }
        statements = [:]
        let code = sqlite3_close(handle)
        if code == SQLITE_OK { handle = nil }
        return code
    }

    // MARK: - Statements

    /// Runs statements that have no parameters, and ignores what they return.
    func execute(_ script: String) throws(Failure) {
        guard sqlite3_exec(handle, script, nil, nil, nil) == SQLITE_OK else { throw failure() }
    }

    /// Runs one statement.
    /// - Returns: how many rows it has changed.
    @discardableResult
    func run(_ statement: String, _ values: [Value] = []) throws -> Int {
        _ = try rows(statement, values) { _ in }
        return Int(sqlite3_changes(handle))
    }

    /// The rows that one statement returns, in their order.
    func rows<Element>(_ text: String, _ values: [Value] = [], _ read: (Row) throws -> Element) throws -> [Element] {
        let statement = try prepared(text)
        defer {
            sqlite3_reset(statement)
            sqlite3_clear_bindings(statement)
        }
        for (index, value) in values.enumerated() { try bind(value, to: Int32(index + 1), of: statement) }
        var rows: [Element] = []
        while true {
            switch sqlite3_step(statement) {
            case SQLITE_ROW: rows.append(try read(Row(statement: statement)))
            case SQLITE_DONE: return rows
            default: throw failure()
            }
        }
    }

    /// The first column of the first row; nil when there is no row, or nothing in it.
    func integer(_ statement: String, _ values: [Value] = []) throws -> Int64? {
        try rows(statement, values) { $0.integer(0) }.first ?? nil
    }

    /// Does all of the body or, when that throws, nothing.
    /// - Parameter isReading: it changes nothing and sees the database at one moment; others may write meanwhile.
    func transaction<Value>(isReading: Bool = false, _ body: () throws -> Value) throws -> Value {
        try run(isReading ? "BEGIN" : "BEGIN IMMEDIATE")
        do {
            let value = try body()
            try run("COMMIT")
            return value
        } catch {
            // After some failures SQLite has done so by itself.
            if sqlite3_get_autocommit(handle) == 0 { sqlite3_exec(handle, "ROLLBACK", nil, nil, nil) }
            throw error
        }
    }

    private func prepared(_ text: String) throws(Failure) -> OpaquePointer {
        if let statement = statements[text] { return statement }
        var statement: OpaquePointer?
        guard sqlite3_prepare_v2(handle, text, -1, &statement, nil) == SQLITE_OK, let statement else { throw failure() }
        statements[text] = statement
        return statement
    }

    private func bind(_ value: Value, to index: Int32, of statement: OpaquePointer) throws(Failure) {
        let code =
            switch value {
            case .null: sqlite3_bind_null(statement, index)
            case .integer(let number): sqlite3_bind_int64(statement, index, number)
            case .text(let text): sqlite3_bind_text(statement, index, text, Int32(text.utf8.count), csqlite_copy())
            case .bytes(let bytes): sqlite3_bind_blob(statement, index, bytes, Int32(bytes.count), csqlite_copy())
            }
        guard code == SQLITE_OK else { throw failure() }
    }

    private func failure() -> Failure {
        let code = sqlite3_errcode(handle) & 0xFF
        let isOfFile = code == SQLITE_CANTOPEN || code == SQLITE_IOERR
        return Failure(
            code: code, message: String(cString: sqlite3_errmsg(handle)),
            cause: isOfFile ? Errno(rawValue: sqlite3_system_errno(handle)) : nil)
    }
}
