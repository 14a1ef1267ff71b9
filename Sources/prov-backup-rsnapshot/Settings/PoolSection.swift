import DaemonKit

/// `[Pool NAME]`: volumes that homes are spread over.
enum PoolSection {
    static let name = SectionName("Pool", label: "NAME")

    static let volumes = SettingKey(
        name, "VOLUMES", .paths, default: [], example: "/var/backup/volume1 /var/backup/volume2",
        meaning: "Directories split by blanks, each one of HOME_ROOTS or below one.")

    static let section = SettingsSection(
        name, meaning: "Volumes that homes are spread over, as many pools as are wanted.",
        keys: [volumes.declaration])
}
