import BackupRsnapshot
import DaemonKit
import DirectoryModel
import JobCore
import Provisioning

extension DaemonSettings {
    /// `[Scripts]`.
    struct Scripts: Hashable, Sendable {
        var eventsDirectory: String
        var eventTimeout: Duration
        /// Over all types; `nil` for no limit.
        var maxJobs: Int?
    }

    /// `[Hooks TYPE]`, where it is enabled.
    struct Hooks: Hashable, Sendable {
        var directory: String
        var skipOnPreFailure: Bool
        var timeout: Duration
        var alert: Bool
    }

    /// `[Job NAME]`.
    struct ScriptJob: Hashable, Sendable {
        var name: String
        var script: String
        /// `nil`: only by hand.
        var schedule: CronSchedule?
        var timeout: Duration
        var exitProfile: ExitProfile
        /// 1 to 100.
        var priority: Int
        /// `nil`: the daemon's own user.
        var runAs: String?
        var onInterrupt: OnInterrupt
    }

    /// `[Backup Jobs]`.
    struct BackupJobs: Hashable, Sendable {
        var slots: Int
        var timeout: Duration
        /// Of each process; 0: no limit.
        var memory: UInt64
        /// `nil`: at any time.
        var window: TimeWindow?
        /// Only levels that are scheduled.
        var schedules: [SnapshotLevel: CronSchedule]
        var writesBackupSize: Bool
        var writesIncrementSize: Bool
        var writesLastSuccess: Bool
    }

    /// `[History]`.
    struct History: Hashable, Sendable {
        var file: String
        var keepDays: Int
        var keepJobs: Int
    }

    /// `[Script]`.
    struct Script: Hashable, Sendable {
        /// `nil`: nothing to do for that wish; the same for the others.
        var add: String?
        var modify: String?
        var delete: String?
        var attributes: [AttributeName]
        var timeout: Duration
        var grace: Duration
        var exitProfile: ExitProfile
        /// `nil`: the daemon's own user.
        var runAs: String?
    }
}

extension DaemonSettings.Scripts {
    init(_ raw: Settings) {
        self.init(
            eventsDirectory: raw[ScriptsSection.eventsDirectory], eventTimeout: raw[ScriptsSection.eventTimeout],
            maxJobs: raw[ScriptsSection.maxJobs])
    }
}

extension DaemonSettings.Hooks {
    /// Every type whose scripts are enabled, and the windows of all that have one.
    static func all(
        checking raw: inout Settings
    ) -> (hooks: [JobType: DaemonSettings.Hooks], windows: [JobType: TimeWindow]) {
        var hooks: [JobType: DaemonSettings.Hooks] = [:]
        var windows: [JobType: TimeWindow] = [:]
        for label in raw.labels(of: HooksSection.name) {
            guard let type = HooksSection.types.first(where: { $0.rawValue.lowercased() == label.lowercased() }) else {
                let names = HooksSection.types.map { "[Hooks \($0.rawValue)]" }.joined(separator: ", ")
                raw.refuse(
                    HooksSection.name, label: label, "there is no such type of jobs", cure: "write one of \(names)")
                continue
            }
            windows[type] = raw[HooksSection.window, label]
            if type == .backup, windows[type] != nil, raw[BackupJobsSection.window] != nil {
                raw.refuse(
                    HooksSection.window, label: label, "[Backup Jobs] sets the window of backups as well",
                    cure: "leave one of the two")
            }
            guard raw[HooksSection.enabled, label] else { continue }
            guard let directory = raw[HooksSection.directory, label] else {
                raw.refuse(
                    HooksSection.directory, label: label, "the scripts are enabled and no folder is named",
                    cure: "set DIRECTORY to the folder of pre_script.sh and post_script.sh, or write ENABLED = no")
                continue
            }
            hooks[type] = Self(
                directory: directory, skipOnPreFailure: raw[HooksSection.skipOnPreFailure, label],
                timeout: raw[HooksSection.timeout, label], alert: raw[HooksSection.alert, label])
        }
        return (hooks, windows)
    }
}

extension ExitProfile {
    /// The built-in profiles and those of the settings, for settings that choose by name.
    static func all(checking raw: inout Settings) -> [ExitProfile] {
        let builtIn = builtIn + [.provisioning]
        return builtIn
            + raw.labels(of: ExitSection.name).map { label in
                if builtIn.contains(where: { $0.name == label.lowercased() }) {
                    raw.refuse(
                        ExitSection.name, label: label, "this profile is built in and stays as it is",
                        cure: "choose another name")
                }
                return ExitProfile(label, checking: &raw)
            }
    }

    private init(_ label: String, checking raw: inout Settings) {
        let listed = ExitSection.codes.filter { raw.isSet(ExitSection.code($0), label) }
        if listed.isEmpty {
            raw.refuse(
                ExitSection.name, label: label, "the profile lists no exit code",
                cure: "write a line for each, such as 0 = success")
        }
        var meanings: [Int32: Meaning] = [:]
        var retryable: Set<Int32> = listed.contains(Self.temporaryFailure) ? [] : [Self.temporaryFailure]
        for code in listed {
            let meaning = raw[ExitSection.code(code), label]
            meanings[code] = Meaning(meaning.result)
            guard meaning == .retry else { continue }
            retryable.insert(code)
            if code == 0 {
                raw.refuse(
                    ExitSection.code(0), label: label, "0 is what every program ends with when all is well",
                    cure: "write 0 = success, and have the script end with another code")
            }
        }
        self.init(name: label, meanings: meanings, retryable: retryable)
    }

    /// The profile that a setting names.
    fileprivate static func named(
        by key: SettingKey<String>, label: String? = nil, among profiles: [ExitProfile], checking raw: inout Settings
    ) -> ExitProfile {
        let name = raw[key, label]
        if let profile = profiles.first(where: { $0.name.lowercased() == name.lowercased() }) { return profile }
        raw.refuse(
            key, label: label, "there is no such exit profile",
            cure: "write \(profiles.map(\.name).joined(separator: ", ")), or add a section [Exit \(name)]")
        return .posix
    }
}

extension DaemonSettings.ScriptJob {
    static func all(checking raw: inout Settings, profiles: [ExitProfile]) -> [Self] {
        raw.labels(of: JobSection.name).compactMap { name in
            guard name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "_.-".contains($0)) }) else {
                raw.refuse(
                    JobSection.name, label: name, "this cannot be the name of a job",
                    cure: "use letters, digits, hyphens, dots and _")
                return nil
            }
            let profile = ExitProfile.named(
                by: JobSection.exitProfile, label: name, among: profiles, checking: &raw)
            guard let script = raw[JobSection.script, name] else {
                raw.refuse(
                    JobSection.script, label: name, "it is not said what is run", cure: "set SCRIPT to an absolute path"
                )
                return nil
            }
            return Self(
                name: name, script: script, schedule: raw[JobSection.schedule, name],
                timeout: raw[JobSection.timeout, name], exitProfile: profile, priority: raw[JobSection.priority, name],
                runAs: raw[JobSection.runAs, name], onInterrupt: raw[JobSection.onInterrupt, name])
        }
    }
}

extension DaemonSettings.BackupJobs {
    init(_ raw: Settings) {
        let scheduled = zip(SnapshotLevel.allCases, BackupJobsSection.schedules).compactMap { level, key in
            raw[key].map { (level, $0) }
        }
        let writes = raw[BackupJobsSection.writeSizes]
        self.init(
            slots: raw[BackupJobsSection.slots], timeout: raw[BackupJobsSection.timeout],
            memory: UInt64(raw[BackupJobsSection.memory].bytes), window: raw[BackupJobsSection.window],
            schedules: Dictionary(scheduled, uniquingKeysWith: { $1 }),
            writesBackupSize: writes && raw[BackupJobsSection.writeBackupSize],
            writesIncrementSize: writes && raw[BackupJobsSection.writeIncrementSize],
            writesLastSuccess: writes && raw[BackupJobsSection.writeLastSuccess])
    }
}

extension DaemonSettings.History {
    init(_ raw: Settings) {
        self.init(
            file: raw[HistorySection.file] ?? Self.file(in: raw[ServiceSection.stateDirectory]),
            keepDays: raw[HistorySection.keepDays], keepJobs: raw[HistorySection.keepJobs])
    }

    /// Where FILE is not set.
    static func file(in stateDirectory: String) -> String { "\(stateDirectory)/history.sqlite" }
}

extension DaemonSettings.Script {
    init(checking raw: inout Settings, profiles: [ExitProfile]) {
        let isService = raw[ServiceSection.type] == .script
        let scripts = [ScriptSection.add, ScriptSection.modify, ScriptSection.delete].map { raw[$0] }
        if isService, scripts.allSatisfy({ $0 == nil }) {
            raw.warn(
                ScriptSection.add, "with TYPE = Script nothing is done for any wish",
                cure: "set ADD, MODIFY or DELETE in [Script]")
        }
        self.init(
            add: scripts[0], modify: scripts[1], delete: scripts[2], attributes: raw[ScriptSection.attributes],
            timeout: raw[ScriptSection.timeout], grace: raw[ScriptSection.grace],
            exitProfile: ExitProfile.named(by: ScriptSection.exitProfile, among: profiles, checking: &raw),
            runAs: raw[ScriptSection.runAs])
    }
}
