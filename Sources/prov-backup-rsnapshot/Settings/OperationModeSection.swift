import DaemonKit

/// `[Operation Mode]`: how a lost directory is sought again.
enum OperationModeSection {
    static let name = SectionName("Operation Mode")

    static let sleep = SettingKey(
        name, "SLEEP", .duration(.seconds(1)...Quantity.longest), default: .seconds(30),
        meaning: "In operation: the longest wait between two tries to reach the directory again.")
    static let attempts = SettingKey(
        name, "ATTEMPTS", .number(1...1_000_000), default: 3,
        meaning: "In operation: after so many failed tries the missing directory is logged as an error. It is tried for ever.")

    static let section = SettingsSection(
        name, meaning: "What happens when the directory goes away in operation.",
        keys: [sleep.declaration, attempts.declaration])
}
