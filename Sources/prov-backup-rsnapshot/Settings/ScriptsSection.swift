import DaemonKit

/// `[Scripts]`: what holds for scripts and handlers of every kind.
enum ScriptsSection {
    static let name = SectionName("Scripts")

    static let eventsDirectory = SettingKey(
        name, "EVENTS_DIRECTORY", .path, default: "/etc/Provisioning/scripts",
        meaning: "Where DirStartUp.py is looked for, which sets up handlers of events. None there: no scripting.")
    static let eventTimeout = SettingKey(
        name, "EVENT_TIMEOUT", .duration(.seconds(1)...Quantity.longest), default: .seconds(30),
        meaning: "How long a handler may take for one event.")
    static let maxJobs = SettingKey(
        name, "MAX_JOBS", SettingKind<Int>.number(1...10_000).orEmpty, default: nil,
        meaning: "How many jobs run at once, those of all types together. Empty: each type has its own limit alone.")

    static let section = SettingsSection(
        name, meaning: "What holds for scripts and handlers of every kind.",
        keys: [eventsDirectory.declaration, eventTimeout.declaration, maxJobs.declaration])
}
