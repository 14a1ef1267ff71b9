import LDAP
import JobCore
import Provisioning

/// Reads values from an entry and collects all problems, so that an operator sees them together.
struct EntryReader {
    let entry: Entry
    private var problems: [ProvisioningFailure] = []

    init(_ entry: Entry) { self.entry = entry }

    mutating func refuse(_ code: ProvisioningExitCode, _ reason: String, hint: String) {
        problems.append(ProvisioningFailure(code, reason: reason, hint: hint))
    }

    /// The attribute's only value, as text without control characters.
    mutating func text(
        _ name: AttributeName, code: ProvisioningExitCode, hint: @autoclosure () -> String
    ) -> String? {
        let values = entry[name]
        guard let value = values.first else {
            refuse(code, "\(name) is missing", hint: hint())
            return nil
        }
        guard values.count == 1 else {
            refuse(code, "\(name) has \(values.count) values", hint: "leave one value in \(name)")
            return nil
        }
        guard let text = value.text, !text.isEmpty, text.utf8.count <= 4000,
            !text.unicodeScalars.contains(where: \.isControl)
        else {
            refuse(
                code, "\(name) is \((value.text ?? value.description).quotedValue), which is not plain text",
                hint: hint())
            return nil
        }
        return text
    }

    /// The attribute's only value, as a decimal number without sign and without leading zeros.
    mutating func number(
        _ name: AttributeName, in range: ClosedRange<UInt64>, code: ProvisioningExitCode,
        hint: @autoclosure () -> String
    ) -> UInt64? {
        let values = entry[name]
        if values.count == 1, let number = Self.decimal(values[0].bytes), range.contains(number) { return number }
        guard let text = text(name, code: code, hint: hint()) else { return nil }
        refuse(
            code,
            "\(name) is \(text.quotedValue), which is not a number from \(range.lowerBound) to \(range.upperBound)",
            hint: hint())
        return nil
    }

    static func decimal(_ text: String) -> UInt64? { decimal(Array(text.utf8)) }

    private static func decimal(_ digits: [UInt8]) -> UInt64? {
        guard let first = digits.first, first != UInt8(ascii: "0") || digits.count == 1,
            digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        return UInt64(String(decoding: digits, as: UTF8.self))
    }

    /// - Throws: one failure for all problems; its code is that of the first.
    func finish() throws(ProvisioningFailure) {
        guard let first = problems.first else { return }
        throw ProvisioningFailure(
            first.code, reason: "\(entry.dn): " + problems.map(\.reason).joined(separator: "; "),
            hint: problems.map(\.hint).joined(separator: "; "))
    }
}

/// The attributes of an account's entry that this service reads or writes (specification: schema.md#attributes).
enum BackupAttribute {
    static let uid: AttributeName = "uid"
    static let uidNumber: AttributeName = "uidNumber"
    static let gidNumber: AttributeName = "gidNumber"
    static let homeDirectory: AttributeName = "homeDirectory"
    static let quota: AttributeName = "sstQuota"
    static let isActive: AttributeName = "sstIsActive"
    static let host: AttributeName = "host"
    /// Bytes on the disk of all snapshots; written by a backup.
    static let size: AttributeName = "sstBackupSize"
    /// Bytes of the newest snapshot that no older one shares; written by a backup.
    static let increment: AttributeName = "sstIncrementSize"
    /// `0`, or `HOST:YYYYMMDDThhmmssZ` for each host; written by a backup.
    static let lastSuccess: AttributeName = "sstBackupLastSuccessfulBackup"

    /// What provisioning and a backup read.
    static let all: [AttributeName] =
        [uid, uidNumber, gidNumber, homeDirectory, quota, isActive, host]
        + SnapshotLevel.allCases.map(\.intervalAttribute)
}

/// What a backup writes into the account's entry. nil leaves an attribute as it is.
struct BackupRecord: Sendable {
    var size: UInt64?
    var increment: UInt64?
    /// When this host's last copy was made.
    var lastSuccess: (host: String, time: Timestamp)?

    static let attributes = [BackupAttribute.size, BackupAttribute.increment, BackupAttribute.lastSuccess]

    /// The changes that bring the entry to this record; none when it is up to date.
    ///
    /// Sizes are replaced. Of the times, only this host's values and `0` for "never" are removed, one by one; those of other hosts stay.
    func modifications(of entry: Entry) -> [Modification] {
        var modifications: [Modification] = []
        for (name, bytes) in [(BackupAttribute.size, size), (BackupAttribute.increment, increment)] {
            guard let bytes, entry[name] != [AttributeValue("\(bytes)")] else { continue }
            modifications.append(Modification(.replace, name, [AttributeValue("\(bytes)")]))
        }
        guard let lastSuccess else { return modifications }
        let name = BackupAttribute.lastSuccess
        let new = "\(lastSuccess.host):\(lastSuccess.time.text)"
        let prefix = lastSuccess.host.lowercased() + ":"
        func isNew(_ value: AttributeValue) -> Bool { value.text?.lowercased() == new.lowercased() }
        let old = entry[name].filter { value in
            guard let text = value.text?.lowercased() else { return false }
            return (text == "0" || text.hasPrefix(prefix)) && !isNew(value)
        }
        if !old.isEmpty { modifications.append(Modification(.delete, name, old)) }
        if !entry[name].contains(where: isNew) { modifications.append(.add(name, AttributeValue(new))) }
        return modifications
    }
}
