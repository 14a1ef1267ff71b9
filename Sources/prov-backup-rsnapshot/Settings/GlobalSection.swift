import DaemonKit

/// `[Global]`: what is logged, and how a start without the directory goes.
enum GlobalSection {
    static let name = SectionName("Global")

    static let logDebug = SettingKey(
        name, "LOG_DEBUG", .flag, default: false, meaning: "Log every step, for finding faults.")
    static let logInfo = SettingKey(
        name, "LOG_INFO", .flag, default: true, meaning: "Log what was done.")
    static let logWarning = SettingKey(
        name, "LOG_WARNING", .flag, default: true, meaning: "Log what is odd but stops nothing.")
    static let logErr = SettingKey(
        name, "LOG_ERR", .flag, default: true, meaning: "Log what went wrong.")
    static let environment = SettingKey(
        name, "ENVIRONMENT", .text, default: "", note: "host name",
        meaning: "What this installation is called in mails and at the start in the log, such as production or test.")
    static let sleep = SettingKey(
        name, "SLEEP", .duration(.seconds(1)...Quantity.longest), default: .seconds(10),
        meaning: "The first wait before a directory that is away is tried again.")
    static let attempts = SettingKey(
        name, "ATTEMPTS", .number(1...1_000_000), default: 3,
        meaning:
            "At start: after so many failed tries the missing directory is logged as an error. It is tried for ever.")

    static let section = SettingsSection(
        name, meaning: "What is logged, and how the start goes while the directory is away.",
        keys: [
            logDebug.declaration, logInfo.declaration, logWarning.declaration, logErr.declaration,
            environment.declaration, sleep.declaration, attempts.declaration,
        ])
}
