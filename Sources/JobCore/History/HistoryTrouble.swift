import GRDB

/// What keeps the history from being written: something that passes when it is seen to, or damage.
enum HistoryTrouble {
    case noRoom
    case locked
    case damage

    /// Reads what SQLite said. What it cannot tell from damage the disk may.
    init(_ error: any Error, in file: HistoryFile) {
        guard let error = error as? DatabaseError else {
            self = .damage
            return
        }
        self =
            switch error.resultCode {
            case .SQLITE_FULL, .SQLITE_NOMEM: .noRoom
            case .SQLITE_BUSY, .SQLITE_LOCKED, .SQLITE_INTERRUPT: .locked
            default: file.isWithoutRoom ? .noRoom : .damage
            }
    }

    /// What is wrong and what mends it; nil for damage, which is mended here.
    var text: String? {
        switch self {
        case .noRoom: "there is no room for the history; make room on its file system"
        case .locked: "another program keeps the history locked; find it with fuser"
        case .damage: nil
        }
    }
}
