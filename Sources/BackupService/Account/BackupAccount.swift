package import LDAP
import Provisioning
import JobCore
import SystemPackage

/// A backup account as its entry describes it. Every value is checked before it is used in a path, a file or an argument.
///
/// Errors: one permanent `ProvisioningFailure` that lists all wrong attributes with their values and hints. Its code is that of the
/// first problem, in the order numbers, home, quota, intervals.
struct BackupAccount: Hashable, Sendable {
    let dn: DN
    /// Seven digits or more; the same number as `uidNumber`.
    let uid: String
    let uidNumber: UInt32
    /// 1000 or more.
    let gidNumber: UInt32
    /// Where the home may be: one path in layout `attribute`, one for each volume in layout `hashed`; never empty.
    let homes: [HomePath]
    /// Bytes; nil: no limit.
    let quota: UInt64?
    /// How many snapshots of each level are kept; empty for a deletion.
    let retention: Retention

    /// At least seven digits, at most what a `uid_t` holds without its two reserved values.
    static let uidRange: ClosedRange<UInt64> = 1_000_000...4_294_967_293

    static func isUID(_ text: String) -> Bool { EntryReader.decimal(text).map(uidRange.contains) ?? false }

    /// - Parameters:
    ///   - entry: with the attributes of `BackupRsnapshotService.requestedAttributes`.
    ///   - operation: `delete` needs only the numbers and the home.
    init(reading entry: Entry, for operation: Operation, places: HomePlaces) throws(ProvisioningFailure) {
        var reader = EntryReader(entry)
        if entry.dn.description.unicodeScalars.contains(where: \.isControl) {
            reader.refuse(
                .undefinedError, "the entry's name \(entry.dn.description.quotedValue) has control characters",
                hint: "rename the entry")
        }

        let number = "write the account's number, seven digits or more, into both uid and uidNumber"
        let uid = reader.number(BackupAttribute.uid, in: Self.uidRange, code: .undefinedError, hint: number)
        let uidNumber = reader.number(BackupAttribute.uidNumber, in: Self.uidRange, code: .undefinedError, hint: number)
        if let uid, let uidNumber, uid != uidNumber {
            reader.refuse(.undefinedError, "uid is \(uid) and uidNumber is \(uidNumber)", hint: number)
        }
        let gidNumber = reader.number(
            BackupAttribute.gidNumber, in: 1000...Self.uidRange.upperBound, code: .undefinedError,
            hint: "write a group's number of 1000 or more into gidNumber, usually that of the account")

        let homes = Self.homes(&reader, uid: uid, places: places)
        let isDelete = operation == .delete
        let quota = isDelete ? nil : Self.quota(&reader)
        let retention = isDelete ? Retention([:]) : Self.retention(&reader)
        try reader.finish()
        guard let uid, let uidNumber, let gidNumber, !homes.isEmpty else {
            throw ProvisioningFailure(
                .undefinedError, reason: "\(entry.dn): the entry could not be read",
                hint: "report this as a bug, with the log")
        }

        dn = entry.dn
        self.uid = String(uid)
        self.uidNumber = UInt32(uidNumber)
        self.gidNumber = UInt32(gidNumber)
        self.homes = homes
        self.quota = quota
        self.retention = retention
    }

    private static func homes(_ reader: inout EntryReader, uid: UInt64?, places: HomePlaces) -> [HomePath] {
        let name = BackupAttribute.homeDirectory
        switch places.layout {
        case .hashed:
            guard let uid else { return [] }
            return places.volumes.map { places.hashedHome(uid: String(uid), volume: $0) }
        case .attribute:
            func hint() -> String {
                "write an absolute path below \(places.rootList) that ends in the account's uid into \(name)"
            }
            guard let text = reader.text(name, code: .cannotCheckHomeDirPresence, hint: hint()) else { return [] }
            do {
                return [try HomePath(parsing: text, uid: uid.map(String.init), places: places)]
            } catch {
                reader.refuse(
                    .cannotCheckHomeDirPresence, "\(name) is \(text.quotedValue), \(error.reason)", hint: hint())
                return []
            }
        }
    }

    private static func quota(_ reader: inout EntryReader) -> UInt64? {
        guard !reader.entry[BackupAttribute.quota].isEmpty else { return nil }
        let bytes = reader.number(
            BackupAttribute.quota, in: 0...UInt64(Int64.max), code: .cannotSetQuota,
            hint: "write a number of bytes into \(BackupAttribute.quota); 0 means no limit")
        return bytes == 0 ? nil : bytes
    }

    private static func retention(_ reader: inout EntryReader) -> Retention {
        let code = ProvisioningExitCode.cannotCreateRsnapshotConfiguration
        var counts: [SnapshotLevel: Int] = [:]
        var isComplete = true
        for level in SnapshotLevel.allCases {
            let name = level.intervalAttribute
            let count = reader.number(
                name, in: 0...99, code: code,
                hint: "write a number from 0 to 99 into \(name); 0 means no \(level) snapshots")
            counts[level] = count.map { Int($0) }
            if count == nil { isComplete = false }
        }
        let retention = Retention(counts)
        if isComplete, let objection = retention.objection {
            reader.refuse(code, objection.reason, hint: objection.hint)
        }
        return retention
    }

    /// Looks the account up in the system's user database (nsswitch.conf).
    /// - Throws: code 2 when the user is unknown or has another number.
    func requireSystemUser() throws(ProvisioningFailure) {
        let code = ProvisioningExitCode.userNotPresentInBackend
        let hint = "see what getent passwd \(uid) says, or set REQUIRE_SYSTEM_USER = no"
        let user: SystemUser?
        do throws(Errno) { user = try SystemUser.named(uid) } catch {
            guard !error.isShortage else {
                throw ProvisioningFailure(
                    code, .shortage, reason: "cannot look up \(uid) in the system's user database: \(error)",
                    hint: error.shortageHint(at: "/etc"))
            }
            throw ProvisioningFailure(
                code, .retryable, reason: "the system's user database did not answer about \(uid)", hint: hint)
        }
        guard let user else {
            throw ProvisioningFailure(
                code, reason: "the system's user database does not know \(uid)", hint: hint)
        }
        guard user.uid == uidNumber else {
            throw ProvisioningFailure(
                code, reason: "the system knows \(uid) as user \(user.uid), the entry as \(uidNumber)",
                hint: "see what getent passwd \(uid) says and make both the same")
        }
    }
}

/// A level of rsnapshot. The cases are in rsnapshot's order, the most frequent first.
package enum SnapshotLevel: String, CaseIterable, Hashable, Sendable {
    case hourly, daily, weekly, monthly, yearly

    /// The attribute that holds how many snapshots of the level an account keeps.
    package var intervalAttribute: AttributeName {
        switch self {
        case .hourly: "sstBackupIntervalHourly"
        case .daily: "sstBackupIntervalDaily"
        case .weekly: "sstBackupIntervalWeekly"
        case .monthly: "sstBackupIntervalMonthly"
        case .yearly: "sstBackupIntervalYearly"
        }
    }
}

/// How many snapshots of each level are kept.
struct Retention: Hashable, Sendable {
    private let counts: [SnapshotLevel: Int]

    /// - Parameter counts: 0 to 99 for each level; a missing level counts as 0.
    init(_ counts: [SnapshotLevel: Int]) { self.counts = counts.filter { $0.value > 0 } }

    /// 0: the level is not used.
    subscript(level: SnapshotLevel) -> Int { counts[level] ?? 0 }

    /// The levels that are used, the most frequent first.
    var levels: [SnapshotLevel] { SnapshotLevel.allCases.filter { self[$0] > 0 } }

    /// Why rsnapshot would reject this retention; nil: it is valid.
    var objection: (reason: String, hint: String)? {
        guard let first = levels.first else {
            return (
                "all five intervals are 0, and rsnapshot needs at least one",
                "write a number from 1 to 99 into one of sstBackupIntervalHourly … sstBackupIntervalYearly"
            )
        }
        guard self[first] == 1, levels.count > 1 else { return nil }
        return (
            "\(first.intervalAttribute) is 1 while \(levels[1].rawValue) snapshots are wanted too: "
                + "rsnapshot could never hand one on to the next level",
            "write at least 2 into \(first.intervalAttribute), or 0 into the intervals after it"
        )
    }
}
