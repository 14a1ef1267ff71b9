import BackupService
import Daemon
import JobCore
import Provisioning
import ScriptService
import SystemPackage

// Checks of sections across keys. Each adds its errors to the settings.

extension BackupConfiguration {
    func check(_ settings: inout Settings, service: ServiceSettings.ServiceType) {
        if places.roots.isEmpty {
            settings.refuse(
                \Self.places.roots, "no directory is named", hint: "write at least one, such as /var/backup")
        }
        if places.roots.contains(where: { $0.lexicallyNormalized() == "/" }) {
            settings.refuse(
                \Self.places.roots, "the whole file system cannot be a home root",
                hint: "write the directory that holds the homes, such as /var/backup")
        }
        if snapshots != .own, service == .rsnapshot { checkSnapshots(&settings) }
    }

    /// Read-only snapshots need root, a sandbox, and quotas that include them.
    private func checkSnapshots(_ settings: inout Settings) {
        func refuse(_ reason: String, _ hint: String) {
            settings.refuse(\Self.snapshots, "\(snapshots.rawValue) \(reason)", hint: "write own, or \(hint)")
        }
        if ownership == .none {
            refuse("needs files that belong to the accounts", "OWNERSHIP = account and run the daemon as root")
        }
        if quota == .btrfs {
            refuse("moves snapshots out of the subvolume that QUOTA = btrfs limits", "another QUOTA")
        }
        if confinement == .off {
            refuse("stores snapshots where a copy without a sandbox cannot reach them", "BACKUP_SANDBOX = on")
        }
    }
}

extension Pool {
    /// All pools, in the order of the file.
    static func all(_ settings: inout Settings, below roots: [FilePath]) -> [Pool] {
        let roots = roots.map { $0.lexicallyNormalized() }
        return settings.labels(of: Self.self).map { name in
            var pool = settings[Self.self, label: name]
            pool.name = name
            if pool.volumes.isEmpty {
                settings.refuse(
                    \Self.volumes, label: name, "the pool has no volumes", hint: "name at least one directory")
            }
            for volume in pool.volumes
            where !roots.contains(where: { volume.lexicallyNormalized().starts(with: $0) }) {
                settings.refuse(
                    \Self.volumes, label: name, "\(volume) is below none of HOME_ROOTS",
                    hint: "add it to HOME_ROOTS in [Backup], or choose a directory below one of them")
            }
            return pool
        }
    }
}

extension JobPolicy {
    /// - Parameter backupWindow: of `[Backup Jobs]`.
    static func all(_ settings: inout Settings, backupWindow: TimeWindow?) -> [JobType: JobPolicy] {
        var all = Dictionary(uniqueKeysWithValues: types.map { ($0, JobPolicy()) })
        for label in settings.labels(of: Self.self) {
            guard let type = types.first(where: { $0.rawValue.lowercased() == label.lowercased() }) else {
                let names = types.map { "[Hooks \($0.rawValue)]" }.joined(separator: ", ")
                settings.refuse(
                    Self.self, label: label, "there is no such type of jobs", hint: "write one of \(names)")
                continue
            }
            let policy = settings[Self.self, label: label]
            all[type] = policy
            if type == .backup, policy.window != nil, backupWindow != nil {
                settings.refuse(
                    \Self.window, label: label, "[Backup Jobs] sets the window of backups as well",
                    hint: "keep one of the two")
            }
            if policy.hasHooks, policy.directory == nil {
                settings.refuse(
                    \Self.directory, label: label, "the scripts are enabled and no directory is named",
                    hint: "set DIRECTORY to the directory of pre_script.sh and post_script.sh, or write ENABLED = no")
            }
        }
        for type in types { all[type]?.inhibitsSleep = type != .provisioning }
        if let backupWindow { all[.backup]?.window = backupWindow }
        // The larger level takes over the snapshot that the smaller one would remove.
        all[.backup]?.levels = SnapshotLevel.allCases.reversed().map(\.rawValue)
        return all
    }
}

extension ExitProfile {
    /// The built-in profiles and those of the settings, for settings that choose by name.
    static func all(_ settings: inout Settings) -> [ExitProfile] {
        let builtIn = builtIn + [.provisioning]
        return builtIn
            + settings.labels(of: ExitSettings.self).map { label in
                if builtIn.contains(where: { $0.name == label.lowercased() }) {
                    settings.refuse(
                        ExitSettings.self, label: label, "this profile is built in and cannot be changed",
                        hint: "choose another name")
                }
                if !settings.isSet(ExitSettings.self, label: label) {
                    settings.refuse(
                        ExitSettings.self, label: label, "the profile lists no exit code",
                        hint: "write a line for each, such as 0 = success")
                }
                let codes = settings[ExitSettings.self, label: label]
                if codes[0].failureClass == .retryable {
                    settings.refuse(
                        \ExitSettings.[0], label: label, "0 means success for every program",
                        hint: "write 0 = success, and let the script end with another code")
                }
                return codes.profile(named: label)
            }
    }

    /// The profile that a setting names.
    fileprivate static func named<Section: SettingsSection>(
        _ name: String, by property: PartialKeyPath<Section>, label: String? = nil, among profiles: [ExitProfile],
        _ settings: inout Settings
    ) -> ExitProfile {
        if let profile = profiles.first(where: { $0.name.lowercased() == name.lowercased() }) { return profile }
        settings.refuse(
            property, label: label, "there is no such exit profile",
            hint: "write \(profiles.map(\.name).joined(separator: ", ")), or add a section [Exit \(name)]")
        return .posix
    }
}

extension UserScript {
    /// The valid jobs, in the order of the file.
    static func all(
        _ settings: inout Settings, _ profiles: [ExitProfile], environment: [String: String], retry: RetryPolicy
    ) -> [UserScript] {
        settings.labels(of: Self.self).compactMap { name in
            guard name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "_.-".contains($0)) }) else {
                settings.refuse(
                    Self.self, label: name, "this cannot be the name of a job",
                    hint: "use letters, digits, hyphens, dots and _")
                return nil
            }
            var script = settings[Self.self, label: name]
            script.profile = .named(
                script.profileName, by: \Self.profileName, label: name, among: profiles, &settings)
            guard let path = script.script else {
                settings.refuse(
                    \Self.script, label: name, "no script is set", hint: "set SCRIPT to an absolute path")
                return nil
            }
            (script.name, script.path, script.environment, script.retry) = (name, path, environment, retry)
            return script
        }
    }
}

extension ScriptServiceConfiguration {
    mutating func check(
        _ settings: inout Settings, _ profiles: [ExitProfile], service: ServiceSettings.ServiceType
    ) {
        if service == .script, add == nil, modify == nil, delete == nil {
            settings.warn(
                \Self.add, "with TYPE = Script, no request does anything",
                hint: "set ADD, MODIFY or DELETE in [Script]")
        }
        exitProfile = .named(exitProfileName, by: \Self.exitProfileName, among: profiles, &settings)
    }
}
