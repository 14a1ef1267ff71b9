import DirectoryModel

/// The attributes of an account's entry that this service reads or writes, each spelled once (specification, section 5).
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
