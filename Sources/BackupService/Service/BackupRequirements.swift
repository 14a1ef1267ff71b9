import EventLoop
import LDAP
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// Something that the daemon needs, and whether it was found.
package struct Requirement: Hashable, Sendable {
    package enum Result: String, Sendable {
        case met = "ok"
        case unmet = "NOT"
        /// Unusual, but nothing fails because of it.
        case warning
        /// Neither right nor wrong, or unknown.
        case note
    }

    /// A setting, a program, a directory.
    package var subject: String
    package var result: Result
    package var finding: String
    /// The command or setting that fixes it; nil: nothing is wrong, or the finding says it.
    package var hint: String?

    package init(_ subject: String, _ result: Result, _ finding: String, hint: String? = nil) {
        (self.subject, self.result, self.finding, self.hint) = (subject, result, finding, hint)
    }

    static func met(_ subject: String, _ finding: String) -> Self { Self(subject, .met, finding) }
    static func note(_ subject: String, _ finding: String) -> Self { Self(subject, .note, finding) }
    static func warning(_ subject: String, _ finding: String, hint: String) -> Self {
        Self(subject, .warning, finding, hint: hint)
    }
    static func unmet(_ subject: String, _ finding: String, hint: String) -> Self {
        Self(subject, .unmet, finding, hint: hint)
    }
    static func unmet(_ subject: String, _ failure: ProvisioningFailure) -> Self {
        unmet(subject, failure.reason, hint: failure.hint)
    }
}

/// What these settings need from the machine. Changes nothing; runs rsnapshot, rsync and the sandbox once each.
extension BackupConfiguration {
    private static let configurationSubject = "RSNAPSHOT_CONFIG_DIRECTORY"
    /// The oldest rsnapshot whose configurations know `retain`.
    private static let oldestRsnapshot = (major: 1, minor: 3)
    /// The oldest rsync whose receiver does not follow a link that replaces a directory while it writes. An account owns the directories of its
    /// snapshots and could redirect an older rsync that runs as root.
    private static let oldestRsync = (major: 3, minor: 5)

    /// All requirements, met or not, in the order in which an operator would fix them.
    package func requirements() async -> [Requirement] {
        var findings = places.problems.map {
            Requirement.unmet("home places", $0.reason, hint: $0.hint)
        }
        if places.layout == .hashed, let (first, second) = places.twins {
            findings.append(
                .unmet("home places", "\(first) and \(second) are the same directory", hint: HomePlaces.twinHint))
        }
        for place in places.roots { findings.append(requirement(of: place, subject: "HOME_ROOTS")) }
        for place in places.volumes where !places.roots.contains(place) {
            findings.append(requirement(of: place, subject: "VOLUMES"))
        }
        for volume in places.volumes { findings += await mountRequirements(of: volume) }
        if snapshots != .own { findings.append(storeRequirement()) }
        findings.append(await homeScriptRequirement())
        findings += await programRequirements()
        findings.append(await rsnapshotRequirement())
        findings += [await sandboxRequirement()].compactMap(\.self)
        findings.append(await templateRequirement())
        findings.append(requirement(of: configurationDirectory, subject: Self.configurationSubject))
        return findings
    }

    /// The owner is checked by ``BackupConfiguration/trusted``.
    private func requirement(of path: FilePath, subject: String) -> Requirement {
        do throws(HeldDirectory.Failure) {
            let directory = try HeldDirectory(configured: path)
            // With any name, to see whether the kernel has openat2.
            _ = try directory.directory(ArchiveName.directory)
            if try directory.bequeathsRights() {
                return .warning(
                    subject,
                    "\(path) is set-group-ID or has a default ACL: what is made in it gets that group or these rights",
                    hint: "chmod g-s \(path.shellWord); setfacl -k \(path.shellWord)")
            }
        } catch {
            if error.cause == .noSuchFileOrDirectory {
                // A directory made in place of an unmounted volume would be on the root file system.
                let mount = subject == Self.configurationSubject ? "" : "if it is a volume, mount it; otherwise: "
                return .unmet(subject, "\(path) does not exist", hint: "\(mount)install -d -m 0755 \(path.shellWord)")
            }
            return .unmet(subject, HomeWalk.explain(error, root: path))
        }
        guard access(path.string, W_OK) == 0 else {
            return .unmet(subject, "\(path) cannot be written", hint: "run the daemon as root, or mount it for writing")
        }
        return .met(subject, "\(path)")
    }

    /// Whether QUOTA can work on the mount of a volume, and whether its options are safe.
    private func mountRequirements(of volume: FilePath) async -> [Requirement] {
        let mount: MountTable.Mount?
        var isEnforced: Bool?
        do {
            let directory = try HeldDirectory(configured: volume)
            mount = try MountTable.current().mount(holding: directory)
            isEnforced = directory.enforcesUserQuota
        } catch {
            guard quota != .none else { return [] }
            return [
                .unmet(
                    "QUOTA", "the mount of \(volume) could not be found: \(error)",
                    hint: "see the result of check for this directory")
            ]
        }
        guard let mount else { return [] }
        let hasScript = homeScript != nil
        let rights =
            ownership == .account
            ? [Self.restriction(of: mount, mayHoldDevices: hasScript)].compactMap(\.self) : []
        switch quota {
        case .none: return rights
        case .setquota: return [Self.enforcement(on: mount, isEnforced: isEnforced)] + rights
        case .btrfs: return [await btrfsQuota(of: volume, on: mount)] + rights
        }
    }

    /// Customers' files must not be run setuid or opened as devices.
    /// - Parameter mayHoldDevices: whether there may be chroots, in which jailkit makes device nodes such as /dev/null, which nodev would disable.
    static func restriction(of mount: MountTable.Mount, mayHoldDevices: Bool) -> Requirement? {
        let subject = "mount options"
        let missing = ["nosuid", "nodev"].filter { !mount.options.contains($0) }
        guard !missing.isEmpty else { return nil }
        let finding = "\(mount.point) is mounted without \(missing.joined(separator: " and "))"
        let exception =
            mayHoldDevices ? "; nodev only where no chroot needs a device node, such as jailkit's /dev/null" : ""
        guard missing.contains("nosuid") || !mayHoldDevices else { return .note(subject, finding + exception) }
        let options = mayHoldDevices ? "nosuid" : missing.joined(separator: ",")
        let point = mount.point.shellWord
        return .warning(
            subject, "\(finding), which customers' files never need\(exception)",
            // The system's own programs need both.
            hint: mount.point == "/"
                ? "let the homes lie on a file system of their own, mounted with \(options)"
                : "write \(options) into the options of \(point) in /etc/fstab, then: mount -o remount,\(options) \(point)"
        )
    }

    private func btrfsQuota(of volume: FilePath, on mount: MountTable.Mount) async -> Requirement {
        guard mount.type == "btrfs" else {
            return .unmet(
                "QUOTA", "\(volume) lies on \(mount.point), which is \(mount.type) and not btrfs",
                hint: mount.type == "ext4" || mount.type == "xfs"
                    ? "write QUOTA = setquota, or QUOTA = none" : "write QUOTA = none, or let the homes lie on btrfs")
        }
        let hint = "switch quotas on: btrfs quota enable \(volume.shellWord)"
        return await requirement("QUOTA", hint: hint) {
            _ = try await run(Program.btrfs.find(self), ["qgroup", "show", volume.string], hint: hint)
            return .met("QUOTA", "\(mount.point) counts by btrfs qgroups")
        }
    }

    /// Runs a program that must succeed.
    private func run(_ program: FilePath, _ arguments: [String], hint: String) async throws -> ScriptResult {
        let result = try await ScriptRunner().run(
            ScriptInvocation(
                executable: program, arguments: arguments, environment: baseEnvironment, timeLimit: .seconds(30),
                grace: .seconds(5)))
        if let complaint = result.complaint {
            let command = ([program.string] + arguments).joined(separator: " ")
            throw ProvisioningFailure(
                .undefinedError, reason: "\(command) \(complaint): \(result.outputTail)", hint: hint)
        }
        return result
    }

    /// The finding of a body, or its error.
    /// - Parameter hint: for errors other than `ProvisioningFailure`.
    private func requirement(
        _ subject: String, hint: String = "report this as a bug, with the log", _ body: () async throws -> Requirement
    ) async -> Requirement {
        do {
            return try await body()
        } catch let failure as ProvisioningFailure {
            return .unmet(subject, failure)
        } catch {
            return .unmet(subject, "\(error)", hint: hint)
        }
    }

    /// ext4 with the feature `quota` counts without a mount option, but enforces limits only with one, and not when that was added by a remount
    /// alone: setquota would succeed without effect.
    /// - Parameter isEnforced: what the kernel says; nil: unknown, and the options decide.
    static func enforcement(on mount: MountTable.Mount, isEnforced: Bool?) -> Requirement {
        let hasOption = mount.options.contains {
            ["usrquota", "quota", "uquota"].contains($0) || $0.hasPrefix("usrjquota=")
        }
        guard !(isEnforced ?? hasOption) else { return .met("QUOTA", "\(mount.point) limits users") }
        guard mount.type == "xfs" || mount.type.hasPrefix("ext") else {
            return .unmet(
                "QUOTA", "\(mount.point) is \(mount.type), on which setquota limits no users",
                hint: mount.type == "btrfs"
                    ? "write QUOTA = btrfs, or QUOTA = none" : "let the homes lie on ext4 or xfs, or write QUOTA = none"
            )
        }
        let point = mount.point.shellWord
        let commands =
            mount.type == "xfs"
            ? "umount \(point) && mount \(point), since a remount does not switch it on"
            : "mount -o remount,usrquota \(point) && quotaon -u \(point); "
                + "on ext4 without the feature quota, quotacheck -cum \(point) before quotaon"
        return .unmet(
            "QUOTA",
            "\(mount.point) (\(mount.type)) "
                + (hasOption ? "has quotas that are not switched on" : "is mounted without usrquota")
                + ": limits could be set and would not be held",
            hint: "write usrquota into the options of \(point) in /etc/fstab, then: \(commands)")
    }

    private func homeScriptRequirement() async -> Requirement {
        await requirement("HOME_SCRIPT") {
            guard let homeScript else {
                if quota == .btrfs { throw BackupRsnapshotService.noSubvolumes }
                return .met("HOME_SCRIPT", "empty: the daemon makes plain homes itself")
            }
            try HomeScriptStep.checkPermissions(homeScript)
            return .met("HOME_SCRIPT", "\(homeScript)")
        }
    }

    private func programRequirements() async -> [Requirement] {
        var findings: [Requirement] = []
        for program in Program.needed(self) {
            let finding = await requirement(program.rawValue) {
                let path = try program.find(self)
                guard program == .rsync else { return .met(program.rawValue, "\(path)") }
                return await version(
                    of: path, subject: program.rawValue, oldest: Self.oldestRsync,
                    lack:
                        "follows links that a customer puts in a directory's place when rsnapshot runs by hand as root",
                    hint: "apt install rsync from the distribution's security updates",
                    // In the sandbox it writes as the account.
                    isRequired: confinement != .on)
            }
            findings.append(finding)
        }
        return findings
    }

    /// Runs `true` in the sandbox in which copies are made.
    /// - Returns: nil if a program or the volume is missing, which has its own finding.
    private func sandboxRequirement() async -> Requirement? {
        let subject = "BACKUP_SANDBOX"
        guard Program.isExecutable(confine) else {
            return .unmet(
                subject, "\(confine) is not there",
                hint: "install it with the daemon: prov-backup-rsnapshot(8), FILES")
        }
        let home = places.volumes.first ?? "/var/backup"
        guard access(home.string, F_OK) == 0 else { return nil }
        do {
            let number = UInt32(BackupAccount.uidRange.lowerBound)
            let sandbox = try CopySandbox(self, account: (number, number), home: home, snapshots: home)
            let result = try await ScriptRunner().run(sandbox.trial)
            let reports = CopyReports(result.reports)
            if reports.hasEntered, reports.faults.isEmpty, result.complaint == nil {
                let isConfined = CopySandbox.isConfined(confinement)
                let finding = isConfined ? "the sandbox works" : "copies run without a sandbox"
                return .met(subject, "\(confinement): \(finding)")
            }
            let reason =
                reports.faults.first
                ?? result.complaint.map { "\($0): \(result.outputTail.split(separator: "\n").joined(separator: "; "))" }
                ?? "there was no output"
            return .unmet(
                subject, "the sandbox in which copies are made cannot be built: \(reason)",
                hint:
                    "allow user and mount namespaces (sysctl user.max_user_namespaces, RestrictNamespaces and "
                    + "CapabilityBoundingSet of the unit), or write BACKUP_SANDBOX = off")
        } catch is ProvisioningFailure {
            return nil
        } catch {
            return .unmet(subject, "\(error)", hint: "apt install bubblewrap")
        }
    }

    private func rsnapshotRequirement() async -> Requirement {
        let path = rsnapshot
        let hint = "apt install rsnapshot, or correct RSNAPSHOT"
        guard Program.isExecutable(path) else { return .unmet("RSNAPSHOT", "\(path) is not there", hint: hint) }
        return await version(
            of: path, subject: "RSNAPSHOT", oldest: Self.oldestRsnapshot, lack: "does not know retain", hint: hint)
    }

    /// Checks the version of a program.
    /// - Parameter lack: the fault of an older one.
    private func version(
        of path: FilePath, subject: String, oldest: (major: Int, minor: Int), lack: String, hint: String,
        isRequired: Bool = true
    ) async -> Requirement {
        await requirement(subject, hint: hint) {
            let result = try await run(path, ["--version"], hint: hint)
            guard let version = Self.version(in: String(decoding: result.output.head, as: UTF8.self)) else {
                return .unmet(subject, "\(path) says no version: \(result.outputTail)", hint: hint)
            }
            let text = "\(path) \(version.major).\(version.minor)"
            if version >= oldest { return .met(subject, text) }
            let finding = "\(text) is older than \(oldest.major).\(oldest.minor) and \(lack)"
            return isRequired ? .unmet(subject, finding, hint: hint) : .note(subject, "\(finding); \(hint)")
        }
    }

    /// The first `N.N` in the output of `--version`.
    static func version(in text: String) -> (major: Int, minor: Int)? {
        for word in text.split(whereSeparator: { !$0.isNumber && $0 != "." }) {
            let numbers = word.split(separator: ".").map { Int($0) }
            if numbers.count >= 2, let major = numbers[0], let minor = numbers[1] { return (major, minor) }
        }
        return nil
    }

    /// Renders the template for an example account.
    private func templateRequirement() async -> Requirement {
        await requirement("RSNAPSHOT_TEMPLATE") {
            let uid = "3723707"
            var entry = Entry(dn: DN.root.appending(BackupAttribute.uid, uid))
            let home = places.hashedHome(uid: uid, volume: places.volumes.first ?? "/var/backup")
            for name in [BackupAttribute.uid, BackupAttribute.uidNumber, BackupAttribute.gidNumber] {
                entry[name] = [AttributeValue(uid)]
            }
            entry[BackupAttribute.homeDirectory] = [AttributeValue(home.text)]
            for level in SnapshotLevel.allCases { entry[level.intervalAttribute] = ["7"] }
            _ = try TemplateFile(template).template().render(
                for: BackupAccount(reading: entry, for: .add, places: places), home: home,
                rsync: "/usr/bin/rsync", configuration: self)
            return .met("RSNAPSHOT_TEMPLATE", "\(template)")
        }
    }
}

// MARK: - Snapshots that customers cannot change (setting SNAPSHOTS)

extension BackupConfiguration {
    private static let subject = "SNAPSHOTS"

    /// Whether snapshots can be kept in the store of each volume.
    func storeRequirement() -> Requirement {
        let value = snapshots.rawValue
        func unmet(_ reason: String, _ hint: String) -> Requirement {
            .unmet(Self.subject, "\(value) \(reason)", hint: "\(hint), or write SNAPSHOTS = own")
        }
        if ownership == .none || geteuid() != 0 {
            return unmet("needs root, and files that belong to the accounts", "run the daemon as root")
        }
        if confinement == .off {
            return unmet("keeps snapshots where no copy without a sandbox reaches them", "write BACKUP_SANDBOX = on")
        }
        if snapshots == .readonly, Self.hasOwnMounts {
            return unmet(
                "needs the system's mount namespace: this process has one of its own (PrivateMounts, "
                    + "ProtectSystem, PrivateTmp and the like)", "take that out of the unit")
        }
        let onBtrfs = places.volumes.filter(Self.isBtrfs).map(\.string)
        guard onBtrfs.isEmpty else {
            return unmet(
                "is not for \(onBtrfs.joined(separator: ", ")), which is btrfs: an account is a subvolume, which snapshots "
                    + "cannot leave in one rename, and whose limit would not count them outside",
                "let the homes lie on ext4 or xfs")
        }
        return .met(Self.subject, value)
    }

    /// Whether mounts of this process are invisible to process 1, and so to the services by which customers log in.
    ///
    /// The links in /proc/1/ns need the right to trace process 1, which the shipped unit does not have; its list of mounts does not.
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
            return false  // Reported for the directory itself.
        }
    }

    /// Whether the homes show their snapshots as SNAPSHOTS says, and whether a removal that has not ended may hold snapshots of a provisioned
    /// account. It examines the mounts of all accounts.
    /// - Returns: empty if no account's snapshots are in a store or in such a removal.
    /// - Throws: `CancellationError`.
    package func snapshotRequirements() async throws -> [Requirement] {
        let report = try await SnapshotViews.look(self)
        var findings = report.problems.map { Requirement.note(Self.subject, $0) }
        let homes = "\(report.accounts) \(report.accounts == 1 ? "home" : "homes")"
        if !report.changed.isEmpty {
            findings.append(
                .unmet(
                    Self.subject,
                    "snapshots are not mounted as SNAPSHOTS says in \(report.changed.count) of \(homes): "
                        + Self.list(report.changed),
                    hint: "let the daemon do it at its start: systemctl restart prov-backup-rsnapshot"))
        } else if report.accounts > 0, report.occupied.isEmpty {
            findings.append(.met(Self.subject, "in effect for \(homes)"))
        }
        if report.accounts > SnapshotViews.manyAccounts, snapshots != .hidden {
            let reason = "\(report.accounts) mounts slow down what reads their list; consider hidden"
            findings.append(.note(Self.subject, reason))
        }
        if !report.occupied.isEmpty {
            findings.append(
                .unmet(
                    Self.subject,
                    "files lie at .snapshots of homes whose snapshots are elsewhere: " + Self.list(report.occupied),
                    hint: "do for each account what prov-backup-rsnapshot accounts explain UID says"))
        }
        if !report.misplaced.isEmpty {
            findings.append(
                .unmet(
                    Self.subject,
                    "snapshots lie where they are not looked for, as after a change of the volumes: "
                        + Self.list(report.misplaced),
                    hint:
                        "do for each account what prov-backup-rsnapshot accounts explain UID says; only if nothing prevents its "
                        + "backups, newer ones are in their place: then move these away once they are no longer needed")
            )
        }
        if !report.unassigned.isEmpty {
            let reason = "snapshots of accounts without a configuration, such as deleted ones that are kept: "
            findings.append(.note(Self.subject, reason + Self.list(report.unassigned)))
        }
        let kept = await BlockingWork.run(on: .walks) {
            ArchivePurge.removals(places).filter {
                (try? ConfigurationFile(of: $0.uid, self).exists()) == true
            }.map(\.path)
        }
        if !kept.isEmpty {
            findings.append(
                .unmet(
                    "ON_DELETE", "removals of provisioned accounts have not ended: " + Self.list(kept),
                    hint: "do for each account what prov-backup-rsnapshot accounts explain UID says"))
        }
        return findings
    }

    private static func list(_ items: [some CustomStringConvertible]) -> String {
        items.prefix(5).map(\.description).joined(separator: ", ") + (items.count > 5 ? ", …" : "")
    }
}
