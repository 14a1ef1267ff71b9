import LDAP
import Provisioning

/// Reads values out of an entry and collects what is wrong with them, so that an operator sees every problem at once.
struct EntryReader {
    struct Problem: Hashable {
        var code: ProvisioningExitCode
        var reason: String
        var hint: String
    }

    let entry: Entry
    private(set) var problems: [Problem] = []

    init(_ entry: Entry) { self.entry = entry }

    mutating func refuse(_ code: ProvisioningExitCode, _ reason: String, hint: String) {
        problems.append(Problem(code: code, reason: reason, hint: hint))
    }

    /// The one value of an attribute as it must be for a path, a file or an argument: text without control characters.
    /// - Parameter hint: formed only where it is needed, as in ``number(_:in:code:hint:)``.
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
            refuse(code, "\(name) is \(Self.quote(value)), which is not plain text", hint: hint())
            return nil
        }
        return text
    }

    /// The one value of an attribute as a decimal number without sign and without leading zeros.
    mutating func number(
        _ name: AttributeName, in range: ClosedRange<UInt64>, code: ProvisioningExitCode,
        hint: @autoclosure () -> String
    ) -> UInt64? {
        let values = entry[name]
        if values.count == 1, let number = Self.decimal(values[0].bytes), range.contains(number) { return number }
        guard let text = text(name, code: code, hint: hint()) else { return nil }
        refuse(
            code,
            "\(name) is \(Self.quote(text)), which is not a number from \(range.lowerBound) to \(range.upperBound)",
            hint: hint())
        return nil
    }

    static func decimal(_ text: String) -> UInt64? { decimal(Array(text.utf8)) }

    private static func decimal(_ digits: [UInt8]) -> UInt64? {
        guard let first = digits.first, first != UInt8(ascii: "0") || digits.count == 1 else { return nil }
        var number: UInt64 = 0
        for digit in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            let (tens, isLost) = number.multipliedReportingOverflow(by: 10)
            let (sum, isTooMuch) = tens.addingReportingOverflow(UInt64(digit - UInt8(ascii: "0")))
            guard !isLost, !isTooMuch else { return nil }
            number = sum
        }
        return number
    }

    /// A value for a message: control characters escaped, and no longer than a line.
    static func quote(_ value: AttributeValue) -> String {
        let text = value.description
        return text.count > 120 ? "\"\(text.prefix(120))…\"" : "\"\(text)\""
    }
    static func quote(_ text: String) -> String { quote(AttributeValue(text)) }

    /// - Throws: one failure for all problems together; its code is that of the first.
    func finish() throws(ProvisioningFailure) {
        guard let first = problems.first else { return }
        throw ProvisioningFailure(
            first.code, .permanent,
            reason: "\(entry.dn): " + problems.map(\.reason).joined(separator: "; "),
            hint: problems.map(\.hint).joined(separator: "; "))
    }
}

/// The attributes of an account's entry that this service reads or writes, each spelled once (specification: schema.md#attributes).
enum BackupAttribute {
    static let uid: AttributeName = "uid"
    static let uidNumber: AttributeName = "uidNumber"
    static let gidNumber: AttributeName = "gidNumber"
    static let homeDirectory: AttributeName = "homeDirectory"
    static let quota: AttributeName = "sstQuota"
    static let isActive: AttributeName = "sstIsActive"
    static let host: AttributeName = "host"
    /// Bytes that all snapshots take on the disk; a backup writes it.
    static let size: AttributeName = "sstBackupSize"
    /// Bytes that the newest snapshot takes besides what it shares; a backup writes it.
    static let increment: AttributeName = "sstIncrementSize"
    /// `0`, or `HOST:YYYYMMDDThhmmssZ` for each host; a backup writes it.
    static let lastSuccess: AttributeName = "sstBackupLastSuccessfulBackup"

    static func interval(_ level: SnapshotLevel) -> AttributeName {
        switch level {
        case .hourly: "sstBackupIntervalHourly"
        case .daily: "sstBackupIntervalDaily"
        case .weekly: "sstBackupIntervalWeekly"
        case .monthly: "sstBackupIntervalMonthly"
        case .yearly: "sstBackupIntervalYearly"
        }
    }

    /// What provisioning and a backup read.
    static let all: [AttributeName] =
        [uid, uidNumber, gidNumber, homeDirectory, quota, isActive, host] + SnapshotLevel.allCases.map(interval)
}
