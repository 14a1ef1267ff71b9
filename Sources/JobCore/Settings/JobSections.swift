package import SystemPackage

/// `[Scripts]`.
package struct ScriptsSettings: SettingsSection {
    package var events = EventConfiguration()
    /// The limit for all types; `nil`: none.
    package var maxJobs: Int?

    package init() {}

    package static let section = SectionName("Scripts")
    package static let meaning = "Settings of all scripts and event handlers."
    package static let keys: [Setting<Self>] = [
        Setting(
            "EVENTS_DIRECTORY", \.events.directory, .path, restart: true,
            meaning:
                "The directory of DirStartUp.py, which sets up the event handlers. If it has none, there are no handlers."
        ),
        Setting(
            "EVENT_TIMEOUT", \.events.timeLimit, .duration(from: .seconds(1)), restart: true,
            meaning: "How long a handler may take for one event, from its call."),
        Setting(
            "MAX_JOBS", \.maxJobs, orEmpty: .number(1...10_000),
            meaning: """
                How many jobs run at once, those of all types together. If more than one, the last place is kept for provisioning. Empty: each \
                type has its own limit alone.
                """
        ),
    ]
}

extension JobPolicy: SettingsSection {
    /// The types with such a section.
    package static let types: [JobType] = [.provisioning, .backup, .admin]

    package static let section = SectionName("Hooks", label: "TYPE", example: "Backup")
    package static let meaning = """
        The scripts before and after jobs, with a section for each type of job: [Hooks Provisioning], \
        [Hooks Backup], [Hooks Admin].
        """
    package static let keys: [Setting<Self>] = [
        Setting(
            "ENABLED", \.hasHooks, .boolean,
            meaning: "Whether pre_script.sh runs before each job of this type and post_script.sh after it."),
        Setting(
            "DIRECTORY", \.directory, orEmpty: .path,
            meaning: "The directory of the two scripts. Must be set where they are enabled."),
        Setting(
            "SKIP_ON_PRE_FAILURE", \.skipsJob, .boolean,
            meaning: "Whether the job is left out when pre_script.sh fails or is missing."),
        Setting(
            "TIMEOUT", \.timeLimit, .duration(from: .seconds(1)), meaning: "How long each of the two may run."),
        Setting(
            "WINDOW", \.window, .window,
            meaning: "The time of day in which jobs of this type may begin; it may pass midnight, such as 22:00-06:00."
        ),
        Setting(
            "ALERT", \.alerts, .boolean,
            meaning: "Whether the failure of one of the two scripts is reported by mail, once after the last try."),
    ]
}

extension UserScript: SettingsSection {
    package static let section = SectionName("Job", label: "NAME", example: "server_backup")
    package static let meaning =
        "Scripts that are run as jobs; any number of sections. NAME: letters, digits, hyphens, dots and _."
    package static let keys: [Setting<Self>] = [
        Setting(
            "SCRIPT", \.script, orEmpty: .script, example: "/etc/Provisioning/Backup/server_backup.sh",
            meaning:
                "The script, which gets no arguments. Must be set; only its owner may be able to write to it and to every directory above it."
        ),
        Setting(
            "SCHEDULE", \.schedule, orEmpty: .schedule, example: "30 2 * * 1-5",
            meaning: """
                When it runs, as in crontab(5). Empty: only by hand, with jobs run NAME. While one waits or runs, no other is started.
                """),
        Setting("TIMEOUT", \.timeLimit, .duration(from: .seconds(1)), meaning: "How long it may run."),
        Setting(
            "EXIT_PROFILE", \.profileName, .text,
            meaning: """
                What its exit codes mean: posix, lightsout-server, lightsout-client, rsnapshot, provisioning, or the NAME of an \
                [Exit NAME].
                """),
        Setting(
            "PRIORITY", \.priority, .number(1...100),
            meaning: "Of the jobs that wait, the one with the lowest number begins first."),
        Setting("RUN_AS", \.user, orEmpty: .user, meaning: "The user as whom it runs. Empty: the daemon's own."),
        Setting(
            "ON_INTERRUPT", \.interruption, .choice(["repeat": .repeats, "fail": .fails]),
            meaning: """
                What happens to it when the daemon stops or crashes while it runs: repeat runs it again, fail ends it as failed.
                """),
    ]
}

/// `[Exit NAME]`.
package struct ExitSettings: SettingsSection {
    /// The meanings of the listed codes.
    private var meanings: [Int32: ExitProfile.Meaning] = [:]

    package init() {}

    /// The meaning of a code; unlisted codes mean failed.
    package subscript(code: Int32) -> ExitProfile.Meaning {
        get { meanings[code] ?? ExitProfile.Meaning(.failed) }
        set { meanings[code] = newValue }
    }

    package static let section = SectionName("Exit", label: "NAME", example: "mine")
    package static let meaning = """
        Exit profiles of your own, chosen by EXIT_PROFILE. A line for each exit code, such as 24 = warnings. Unless it \
        is listed, 75 asks for another try.
        """
    package static let keys: [Setting<Self>] = (0...255).map { code in
        Setting(
            "\(code)", row: code == 0 ? "a number from 0 to 255" : "", \.[code], .meaning,
            example: code == 0 ? "success" : nil,
            meaning: """
                What the exit code means. A code that is not listed means failed; retry is failed and worth another try.
                """)
    }

    /// A typing error would mean that the code fails.
    package static let unknownKey: SettingValueError? = SettingValueError(
        "this is no exit code", hint: "write a number from 0 to 255, without leading zeros")

    /// The profile of this section.
    package func profile(named name: String) -> ExitProfile { ExitProfile(name: name, meanings: meanings) }
}

/// `[History]`.
package struct HistorySettings: SettingsSection {
    /// `nil`: `history.sqlite` in the state directory.
    package var file: FilePath?
    package var keepDays = 90
    package var keepJobs = 100_000

    package init() {}

    package static let section = SectionName("History")
    package static let meaning = "How long ended jobs are kept."
    package static let keys: [Setting<Self>] = [
        Setting(
            "FILE", \.file, orEmpty: .path, note: "STATE_DIRECTORY/history.sqlite", restart: true,
            meaning:
                "The history's file. It may be deleted while the daemon is stopped; then only the past jobs are lost."),
        Setting(
            "KEEP_DAYS", \.keepDays, .number(1...36_525), restart: true,
            meaning: "How many days a job is kept after its end."),
        Setting(
            "KEEP_JOBS", \.keepJobs, .number(1...100_000_000), restart: true,
            meaning: "How many jobs are kept; the oldest go first."),
    ]

    package func file(in stateDirectory: FilePath) -> FilePath { file ?? stateDirectory.appending("history.sqlite") }

    package var retention: HistoryRetention {
        HistoryRetention(age: .seconds(keepDays * 86_400), jobs: keepJobs)
    }
}

// MARK: - Kinds of values

extension SettingKind where Value == CronSchedule {
    /// Cron notation.
    package static var schedule: Self {
        Self(form: "cron notation") { text throws(SettingValueError) in
            try CronSchedule(parsing: text)
        }
    }
}

extension SettingKind where Value == ExitProfile.Meaning {
    /// A result, or `retry` for a failure that is retried.
    fileprivate static var meaning: Self {
        named(
            JobResult.allCases.map { ($0.rawValue, Value($0)) } + [("retry", Value(.failed, failureClass: .retryable))])
    }
}

extension SettingKind where Value == TimeWindow? {
    /// `HH:MM-HH:MM`, or empty for any time.
    package static var window: Self {
        Self(form: "HH:MM-HH:MM, or empty for any time") { text throws(SettingValueError) in
            text.isEmpty ? nil : try TimeWindow(parsing: text)
        } render: {
            $0?.description ?? ""
        }
    }
}
