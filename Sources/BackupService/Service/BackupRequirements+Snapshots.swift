import Glibc
import SystemPackage

/// What snapshots need that customers cannot change (setting SNAPSHOTS).
extension BackupRequirements {
    private static let subject = "SNAPSHOTS"

    /// Whether they can be kept in the store of each volume.
    func snapshotStore() -> Requirement {
        let value = configuration.snapshots.rawValue
        func unmet(_ reason: String, _ hint: String) -> Requirement {
            .unmet(Self.subject, "\(value) \(reason)", hint: "\(hint), or write SNAPSHOTS = own")
        }
        if configuration.ownership == .none || geteuid() != 0 {
            return unmet("needs root, and files that belong to the accounts", "run the daemon as root")
        }
        if configuration.confinement == .off {
            return unmet("keeps snapshots where no copy without a sandbox reaches them", "write BACKUP_SANDBOX = on")
        }
        if configuration.snapshots == .readonly, Self.hasOwnMounts {
            return unmet(
                "needs the system's mount namespace: this process has one of its own (PrivateMounts, "
                    + "ProtectSystem, PrivateTmp and the like)", "take that out of the unit")
        }
        let onBtrfs = configuration.places.volumes.filter(Self.isBtrfs).map(\.string)
        guard onBtrfs.isEmpty else {
            return unmet(
                "is not for \(onBtrfs.joined(separator: ", ")), which is btrfs: an account is a subvolume, which snapshots "
                    + "cannot leave in one rename, and whose limit would not count them outside",
                "let the homes lie on ext4 or xfs")
        }
        return .met(Self.subject, value)
    }

    /// Whether mounts of this process stay unknown to the system's first one, and so to those by which customers come in.
    ///
    /// The links in /proc/1/ns are only for those who may trace process 1, which the shipped unit does not allow; its mounts all may read.
    private static var hasOwnMounts: Bool {
        let numbers = ["self", "1"].map { process in
            (try? MountTable.current(list: FilePath("/proc/\(process)/mountinfo"))).map { Set($0.mounts.map(\.number)) }
        }
        guard let own = numbers[0], let system = numbers[1], !own.isEmpty, !system.isEmpty else { return false }
        return own.isDisjoint(with: system)
    }

    private static func isBtrfs(_ volume: FilePath) -> Bool {
        do {
            return try MountTable.current().mount(holding: HeldDirectory(configured: volume))?.type == "btrfs"
        } catch {
            return false  // What is wrong with the directory is said of it.
        }
    }

    /// Whether the homes show their snapshots as SNAPSHOTS says. It looks at the mounts of all accounts.
    /// - Returns: nothing where no account's snapshots lie in a store.
    /// - Throws: `CancellationError`.
    package func snapshotViews() async throws -> [Requirement] {
        let report = try await SnapshotViews(configuration).look()
        var findings = report.problems.map { Requirement.note(Self.subject, $0) }
        let homes = "\(report.accounts) \(report.accounts == 1 ? "home" : "homes")"
        if !report.changed.isEmpty {
            findings.append(
                .unmet(
                    Self.subject,
                    "snapshots are not mounted as SNAPSHOTS says in \(report.changed.count) of \(homes): "
                        + Self.list(report.changed),
                    hint: "let the daemon do it at its start: systemctl restart prov-backup-rsnapshot"))
        } else if report.accounts > 0 {
            findings.append(.met(Self.subject, "in effect for \(homes)"))
        }
        if report.accounts > SnapshotViews.Report.manyAccounts, configuration.snapshots != .hidden {
            let reason = "\(report.accounts) mounts slow down what reads their list; consider hidden"
            findings.append(.note(Self.subject, reason))
        }
        if !report.unassigned.isEmpty {
            let reason = "snapshots of accounts without a configuration, such as deleted ones that are kept: "
            findings.append(.note(Self.subject, reason + Self.list(report.unassigned)))
        }
        return findings
    }

    private static func list(_ paths: [FilePath]) -> String {
        paths.prefix(5).map(\.string).joined(separator: ", ") + (paths.count > 5 ? ", …" : "")
    }
}
