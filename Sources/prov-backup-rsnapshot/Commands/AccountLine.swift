import DaemonKit
import FoundationEssentials
import JobCore
import Provisioning

/// An account as a line of a list.
struct AccountLine: Encodable {
    let uid: String
    let dn: String
    let phase: String
    let mode: String
    let state: String
    let date: String?
    let returnValue: String?
    /// When this host last made a copy.
    let lastBackup: Moment?
    let hosts: [String]

    init(uid: String, status: AccountStatus, lastBackup: WallTime?) {
        self.uid = uid
        dn = status.dn.description
        phase = status.phase.rawValue
        mode = status.mode.description
        state = status.state
        date = status.date
        returnValue = status.returnValue
        self.lastBackup = lastBackup.map(Moment.init)
        hosts = status.hosts
    }

    static let heading = columns("UID", "MODE", "STATE", "DATE", "RETURN", "LAST BACKUP", "HOST")

    var text: String {
        Self.columns(
            uid, mode, state, date ?? "-", returnValue ?? "-", lastBackup?.local ?? "-",
            hosts.isEmpty ? "-" : hosts.joined(separator: ","))
    }

    private static func columns(_ cells: String...) -> String {
        zip(cells, [12, 10, 18, 9, 7, 20, 0]).map { cell, width in
            let cell = OneLine.escaping(cell)
            return cell + String(repeating: " ", count: max(width - cell.count, width == 0 ? 0 : 1))
        }.joined()
    }
}

/// JSON as commands print it: one line, keys in a fixed order, bytes as the text that they mostly are.
enum JSONText {
    static func line(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.dataEncodingStrategy = .custom { bytes, encoder in
            var container = encoder.singleValueContainer()
            try container.encode(String(decoding: bytes, as: UTF8.self))
        }
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}
