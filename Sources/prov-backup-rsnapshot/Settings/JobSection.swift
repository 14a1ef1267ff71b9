import DaemonKit

/// `[Job NAME]`: a script that is run as a job.
enum JobSection {
    static let name = SectionName("Job", label: "NAME", example: "server_backup")

    static let script = SettingKey(
        name, "SCRIPT", .script, default: nil, example: "/etc/Provisioning/scripts/server_backup.sh",
        meaning: "The script. Must be set; only its owner may be able to write it and every folder above it.")
    static let schedule = SettingKey(
        name, "SCHEDULE", .schedule, default: nil, example: "30 2 * * 1-5",
        meaning:
            "When it runs, as in crontab(5). Empty: only by hand, with jobs run NAME. While one still waits or runs, no other is asked for."
    )
    static let timeout = SettingKey(
        name, "TIMEOUT", .duration(.seconds(1)...Quantity.longest), default: .seconds(365 * 86_400),
        meaning: "How long it may run.")
    static let exitProfile = SettingKey(
        name, "EXIT_PROFILE", .text, default: "lightsout-server",
        meaning:
            "What its exit codes mean: posix, lightsout-server, lightsout-client, rsnapshot, provisioning, or the NAME of an [Exit NAME]."
    )
    static let priority = SettingKey(
        name, "PRIORITY", .number(1...100), default: 10,
        meaning: "Of the jobs that wait, the one with the lowest number begins first.")
    static let runAs = SettingKey(
        name, "RUN_AS", .user, default: nil, meaning: "The user as whom it runs. Empty: the daemon's own.")
    static let onInterrupt = SettingKey(
        name, "ON_INTERRUPT", .choice(OnInterrupt.self), default: .repeat,
        meaning:
            "What becomes of it when the daemon stops or crashes while it runs: repeat runs it again, fail ends it as failed."
    )

    static let section = SettingsSection(
        name,
        meaning: "Scripts that are run as jobs, as many as are wanted. NAME: letters, digits, hyphens, dots and _.",
        keys: [
            script.declaration, schedule.declaration, timeout.declaration, exitProfile.declaration,
            priority.declaration, runAs.declaration, onInterrupt.declaration,
        ])
}

/// `ON_INTERRUPT`.
enum OnInterrupt: String, CaseIterable, Hashable, Sendable {
    case `repeat`, fail
}
