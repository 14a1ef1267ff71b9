import DaemonKit
import DirectoryModel

/// `[Script]`: the scripts that are the whole service, with `TYPE = Script`.
enum ScriptSection {
    static let name = SectionName("Script")

    static let add = operation("ADD")
    static let modify = operation("MODIFY")
    static let delete = operation("DELETE")
    static let attributes = SettingKey(
        name, "ATTRIBUTES", .attributes, default: ["uid"],
        meaning: "The attributes whose values the scripts are given, split by blanks.")
    static let timeout = SettingKey(
        name, "TIMEOUT", .duration(.seconds(1)...Quantity.longest), default: .seconds(300),
        meaning: "How long a script may run.")
    static let grace = SettingKey(
        name, "GRACE", .duration(), default: .seconds(10),
        meaning: "How long it may take to end when it is asked to, before it is killed.")
    static let exitProfile = SettingKey(
        name, "EXIT_PROFILE", .text, default: "provisioning",
        meaning: "What the scripts' exit codes mean: a built-in profile, or the NAME of an [Exit NAME].")
    static let runAs = SettingKey(
        name, "RUN_AS", .user, default: nil, meaning: "The user as whom they run. Empty: the daemon's own.")

    private static func operation(_ key: String) -> SettingKey<String?> {
        SettingKey(
            name, key, .script, default: nil,
            meaning: "The script that carries out the wish \(key.lowercased()). Empty: there is nothing to do for it.")
    }

    static let section = SettingsSection(
        name,
        meaning: "With TYPE = Script in [Service]: three scripts are the whole service, and [Backup] is not read.",
        keys: [
            add.declaration, modify.declaration, delete.declaration, attributes.declaration, timeout.declaration,
            grace.declaration, exitProfile.declaration, runAs.declaration,
        ])
}
