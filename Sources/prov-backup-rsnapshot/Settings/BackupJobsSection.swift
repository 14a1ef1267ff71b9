import BackupRsnapshot
import DaemonKit
import JobCore

/// `[Backup Jobs]`: when and how the backups themselves run.
enum BackupJobsSection {
    static let name = SectionName("Backup Jobs")

    static let slots = SettingKey(
        name, "SLOTS", .number(1...1_024), default: 2, meaning: "How many accounts are backed up at once.")
    static let timeout = SettingKey(
        name, "TIMEOUT", .duration(.seconds(1)...Quantity.longest), default: .seconds(12 * 3_600),
        meaning: """
            How long the backup of one account may take, from making room to measuring; also how long one attempt may remove a home, \
            an archived home, or change a group. What is cut off goes on in the next run or attempt.
            """)
    static let memory = SettingKey(
        name, "MEMORY", .size, default: ByteCount(2 << 30),
        meaning: "The most memory of each process of a copy; 0: no limit. rsync needs about 1G for ten million files."
    )
    static let window = SettingKey(
        name, "WINDOW", .window, default: nil,
        meaning: "The time of day in which backups may begin; it may pass midnight, such as 22:00-06:00.")
    static let schedules = SnapshotLevel.allCases.map { level in
        SettingKey(
            name, level.rawValue.uppercased(), .schedule, default: nil,
            meaning:
                "When \(level.rawValue) snapshots are made, as in crontab(5). Empty: only by hand. An account whose last one still waits or runs is left out."
        )
    }
    static let writeSizes = SettingKey(
        name, "WRITE_SIZES", .boolean, default: true,
        meaning: "Whether anything is written into an account's entry after its backup; no switches the next three off."
    )
    static let writeBackupSize = SettingKey(
        name, "WRITE_BACKUP_SIZE", .boolean, default: true, meaning: "Whether sstBackupSize is written.")
    static let writeIncrementSize = SettingKey(
        name, "WRITE_INCREMENT_SIZE", .boolean, default: true, meaning: "Whether sstIncrementSize is written.")
    static let writeLastSuccess = SettingKey(
        name, "WRITE_LAST_SUCCESS", .boolean, default: true,
        meaning: "Whether sstBackupLastSuccessfulBackup is written.")

    static let section = SettingsSection(
        name,
        meaning:
            "When and how the daemon runs rsnapshot for the accounts. Of levels that are due together the larger one goes first.",
        keys: [slots.declaration, timeout.declaration, memory.declaration, window.declaration]
            + schedules.map(\.declaration) + [
                writeSizes.declaration, writeBackupSize.declaration, writeIncrementSize.declaration,
                writeLastSuccess.declaration,
            ])
}
