package import LDAP
package import Provisioning

/// A backup account as its entry describes it, every value checked before it reaches a path, a file or an argument.
///
/// Diagnostics: `ProvisioningFailure` of class permanent that names the DN and, for each wrong attribute, its value and what to
/// write instead. Its code is that of the first problem in the order numbers, home, quota, intervals.
package struct BackupAccount: Hashable, Sendable {
    /// The entry that it was read from.
    package let dn: DN
    /// Seven digits or more; the same number as `uidNumber`.
    package let uid: String
    /// The user that owns what the account may write.
    package let uidNumber: UInt32
    /// The group that owns it, 1000 or more.
    package let gidNumber: UInt32
    /// Where the home may lie: one place in layout `attribute`, one for each volume in layout `hashed`; never empty.
    package let homes: [HomePath]
    /// nil is no limit.
    package let quota: ByteCount?
    /// How many snapshots of each level are kept; none at all for a deletion.
    package let retention: Retention

    /// The least and the greatest number of an account: seven digits, and what a `uid_t` holds besides its two reserved values.
    static let uidRange: ClosedRange<UInt64> = 1_000_000...4_294_967_293

    /// Whether a text could be an account's uid.
    static func isUID(_ text: String) -> Bool { EntryReader.decimal(text).map(uidRange.contains) ?? false }

    /// - Parameters:
    ///   - entry: with the attributes of `BackupRsnapshotService.requestedAttributes`.
    ///   - operation: for `delete`, only what a deletion needs is demanded: the numbers and the home.
    ///   - places: where homes may lie.
    /// - Throws: `ProvisioningFailure` with all problems.
    package init(reading entry: Entry, for operation: Operation, places: HomePlaces) throws(ProvisioningFailure) {
        var reader = EntryReader(entry)
        if entry.dn.description.unicodeScalars.contains(where: \.isControl) {
            reader.refuse(
                .undefinedError, "the entry's name \(EntryReader.quote(entry.dn.description)) has control characters",
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
                    .cannotCheckHomeDirPresence, "\(name) is \(EntryReader.quote(text)), \(error.reason)", hint: hint())
                return []
            }
        }
    }

    private static func quota(_ reader: inout EntryReader) -> ByteCount? {
        guard !reader.entry[BackupAttribute.quota].isEmpty else { return nil }
        let bytes = reader.number(
            BackupAttribute.quota, in: 0...UInt64(Int64.max), code: .cannotSetQuota,
            hint: "write a number of bytes into \(BackupAttribute.quota); 0 means no limit")
        return bytes.flatMap { $0 == 0 ? nil : ByteCount($0) }
    }

    private static func retention(_ reader: inout EntryReader) -> Retention {
        let code = ProvisioningExitCode.cannotCreateRsnapshotConfiguration
        var counts: [SnapshotLevel: Int] = [:]
        var isComplete = true
        for level in SnapshotLevel.allCases {
            let name = BackupAttribute.interval(level)
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
}

/// One of the rsnapshot levels that an account can have, the most frequent first: the order in which rsnapshot wants them.
package enum SnapshotLevel: String, CaseIterable, Hashable, Sendable {
    case hourly, daily, weekly, monthly, yearly

    /// The attribute that says how many snapshots of the level an account keeps.
    package var intervalAttribute: AttributeName { BackupAttribute.interval(self) }

    fileprivate var place: Int {
        switch self {
        case .hourly: 0
        case .daily: 1
        case .weekly: 2
        case .monthly: 3
        case .yearly: 4
        }
    }
}

/// How many snapshots of each level are kept.
package struct Retention: Hashable, Sendable {
    /// In the order of the levels.
    private let counts: [Int]

    /// - Parameter counts: snapshots for each level, 0 to 99; a level that is missing counts as 0.
    package init(_ counts: [SnapshotLevel: Int]) { self.counts = SnapshotLevel.allCases.map { counts[$0] ?? 0 } }

    /// How many snapshots of the level are kept; 0 means that the level is not used.
    package subscript(level: SnapshotLevel) -> Int { counts[level.place] }

    /// The levels that are used, the most frequent first.
    package var levels: [SnapshotLevel] { SnapshotLevel.allCases.filter { self[$0] > 0 } }

    /// Why rsnapshot would refuse this retention, or nil when it would not.
    var objection: (reason: String, hint: String)? {
        guard let first = levels.first else {
            return (
                "all five intervals are 0, and rsnapshot needs at least one",
                "write a number from 1 to 99 into one of sstBackupIntervalHourly … sstBackupIntervalYearly"
            )
        }
        guard self[first] == 1, levels.count > 1 else { return nil }
        return (
            "\(BackupAttribute.interval(first)) is 1 while \(levels[1].rawValue) snapshots are wanted too: "
                + "rsnapshot could never hand one on to the next level",
            "write at least 2 into \(BackupAttribute.interval(first)), or 0 into the intervals after it"
        )
    }
}

/// A number of bytes.
package struct ByteCount: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The number.
    package let bytes: UInt64

    /// - Parameter bytes: any number of bytes.
    package init(_ bytes: UInt64) { self.bytes = bytes }

    /// Blocks of 1024 bytes, as the quota programs count them, rounded up so that no byte that was granted is lost.
    package var kibibytesRoundedUp: UInt64 { bytes / 1024 + (bytes % 1024 == 0 ? 0 : 1) }

    /// Units of 1024³ bytes, a begun one counted whole.
    package var gibibytesRoundedUp: UInt64 {
        let (whole, rest) = bytes.quotientAndRemainder(dividingBy: 1 << 30)
        return whole + (rest == 0 ? 0 : 1)
    }

    /// The number of bytes in digits.
    package var description: String { String(bytes) }
    /// The smaller number of bytes comes first.
    package static func < (left: Self, right: Self) -> Bool { left.bytes < right.bytes }
}
