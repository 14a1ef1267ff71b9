import GRDB

/// Why the history cannot be asked, with what mends it.
public struct HistoryError: Error, Sendable, CustomStringConvertible {
    /// One line: the file, what is wrong, and the cure.
    public let description: String
    /// What SQLite said, where it was asked.
    let cause: DatabaseError?

    init(_ description: String, cause: DatabaseError? = nil) {
        self.description = description
        self.cause = cause
    }
}
