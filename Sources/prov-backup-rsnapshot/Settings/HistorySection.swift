import DaemonKit

/// `[History]`: how much is kept of jobs that are over.
enum HistorySection {
    static let name = SectionName("History")

    static let file = SettingKey(
        name, "FILE", SettingKind<String>.path.orEmpty, default: nil, note: "STATE_DIRECTORY/history.sqlite",
        meaning: "The history's file. It may be deleted while the daemon is down: only the past is lost.")
    static let keepDays = SettingKey(
        name, "KEEP_DAYS", .number(1...36_525), default: 90, meaning: "How many days a job is kept after its end.")
    static let keepJobs = SettingKey(
        name, "KEEP_JOBS", .number(1...100_000_000), default: 100_000,
        meaning: "How many jobs are kept; the oldest go first.")

    static let section = SettingsSection(
        name, meaning: "How much is kept of jobs that are over.",
        keys: [file.declaration, keepDays.declaration, keepJobs.declaration])
}
