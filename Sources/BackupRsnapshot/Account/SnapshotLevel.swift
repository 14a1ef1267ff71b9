public import DirectoryModel

/// One of the rsnapshot levels that an account can have, the most frequent first: the order in which rsnapshot wants them.
public enum SnapshotLevel: String, CaseIterable, Hashable, Sendable {
    case hourly, daily, weekly, monthly, yearly

    /// The attribute that says how many snapshots of the level an account keeps.
    public var intervalAttribute: AttributeName { BackupAttribute.interval(self) }

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
public struct Retention: Hashable, Sendable {
    /// In the order of the levels.
    private let counts: [Int]

    /// - Parameter counts: snapshots for each level, 0 to 99; a level that is missing counts as 0.
    public init(_ counts: [SnapshotLevel: Int]) { self.counts = SnapshotLevel.allCases.map { counts[$0] ?? 0 } }

    /// How many snapshots of the level are kept; 0 means that the level is not used.
    public subscript(level: SnapshotLevel) -> Int { counts[level.place] }

    /// The levels that are used, the most frequent first.
    public var levels: [SnapshotLevel] { SnapshotLevel.allCases.filter { self[$0] > 0 } }

    /// Why rsnapshot would refuse this retention, or nil when it would not.
    var objection: (reason: String, cure: String)? {
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
