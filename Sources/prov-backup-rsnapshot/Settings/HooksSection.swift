import DaemonKit
import JobCore

/// `[Hooks TYPE]`: the scripts before and after the jobs of a type.
enum HooksSection {
    static let name = SectionName("Hooks", label: "TYPE", example: "Backup")
    /// The types of jobs that there are.
    static let types: [JobType] = [.provisioning, .backup, .admin]

    static let enabled = SettingKey(
        name, "ENABLED", .boolean, default: false,
        meaning: "Whether pre_script.sh runs before each job of this type and post_script.sh after it.")
    static let directory = SettingKey(
        name, "DIRECTORY", SettingKind<String>.path.orEmpty, default: nil,
        meaning: "The folder that holds the two scripts. Must be set where they are enabled.")
    static let skipOnPreFailure = SettingKey(
        name, "SKIP_ON_PRE_FAILURE", .boolean, default: false,
        meaning: "Whether the job is left out when pre_script.sh fails or is missing.")
    static let timeout = SettingKey(
        name, "TIMEOUT", .duration(.seconds(1)...Quantity.longest), default: .seconds(365 * 86_400),
        meaning: "How long each of the two may run.")
    static let window = SettingKey(
        name, "WINDOW", .window, default: nil,
        meaning: "The time of day in which jobs of this type may begin; it may pass midnight, such as 22:00-06:00.")
    static let alert = SettingKey(
        name, "ALERT", .boolean, default: true,
        meaning: "Whether the failure of one of the two scripts is reported by mail, once after the last try.")

    static let section = SettingsSection(
        name,
        meaning: """
            The scripts before and after jobs, for each type of jobs a section of its own: [Hooks Provisioning], \
            [Hooks Backup], [Hooks Admin].
            """,
        keys: [
            enabled.declaration, directory.declaration, skipOnPreFailure.declaration, timeout.declaration,
            window.declaration, alert.declaration,
        ])
}
