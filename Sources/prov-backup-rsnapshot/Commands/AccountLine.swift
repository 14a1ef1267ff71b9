import Daemon
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
    let lastBackup: Timestamp?
    let hosts: [String]

    init(uid: String, status: AccountStatus, lastBackup: Timestamp?) {
        self.uid = OneLine.value(uid)
        dn = status.dn.description
        phase = status.phase.rawValue
        mode = OneLine.value(status.mode.description)
        state = OneLine.value(status.state)
        date = status.date.map(OneLine.value)
        returnValue = status.returnValue.map(OneLine.value)
        self.lastBackup = lastBackup
        hosts = status.hosts.map(OneLine.value)
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

/// JSON as commands print it: one line, keys in a fixed order, bytes as the text that they mostly are, and nothing that steers a terminal.
enum JSONText {
    static func line(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.dataEncodingStrategy = .custom { bytes, encoder in
            var container = encoder.singleValueContainer()
            try container.encode(String(decoding: bytes, as: UTF8.self))
        }
        return escaping(String(decoding: try encoder.encode(value), as: UTF8.self))
    }

    /// Such characters can only be within strings, where each may be written by its number (RFC 8259, section 7).
    private static func escaping(_ json: String) -> String {
        guard json.unicodeScalars.contains(where: OneLine.mustBeEscaped) else { return json }
        var result = ""
        for scalar in json.unicodeScalars {
            guard OneLine.mustBeEscaped(scalar) else {
                result.unicodeScalars.append(scalar)
                continue
            }
            for unit in String(scalar).utf16 {
                let digits = String(unit, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            }
        }
        return result
    }
}
