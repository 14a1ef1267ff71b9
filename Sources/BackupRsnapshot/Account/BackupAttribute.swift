import DirectoryModel

/// The attributes of an account's entry that this service reads, each spelled once (specification, section 5).
enum BackupAttribute {
    static let uid: AttributeName = "uid"
    static let uidNumber: AttributeName = "uidNumber"
    static let gidNumber: AttributeName = "gidNumber"
    static let homeDirectory: AttributeName = "homeDirectory"
    static let quota: AttributeName = "sstQuota"
    static let isActive: AttributeName = "sstIsActive"
    static let host: AttributeName = "host"

    static func interval(_ level: SnapshotLevel) -> AttributeName {
        switch level {
        case .hourly: "sstBackupIntervalHourly"
        case .daily: "sstBackupIntervalDaily"
        case .weekly: "sstBackupIntervalWeekly"
        case .monthly: "sstBackupIntervalMonthly"
        case .yearly: "sstBackupIntervalYearly"
        }
    }

    static let all: [AttributeName] =
        [uid, uidNumber, gidNumber, homeDirectory, quota, isActive, host] + SnapshotLevel.allCases.map(interval)
}
