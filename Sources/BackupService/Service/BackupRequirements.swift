import LDAP
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// One thing that the service needs from the machine, and whether it is there.
package struct Requirement: Hashable, Sendable {
    /// What it is about: a setting, a program, a directory.
    package var subject: String
    /// What was found.
    package var finding: String
    /// The command or setting that fixes it; nil when nothing is wrong.
    package var hint: String?
    /// Neither right nor wrong: it is not known, or it is worth knowing.
    package var isNote = false
    /// Better otherwise, and nothing fails because of it.
    package var isWarning = false

    static func met(_ subject: String, _ finding: String) -> Self {
        Self(subject: subject, finding: finding, hint: nil)
    }
    static func note(_ subject: String, _ finding: String) -> Self {
        Self(subject: subject, finding: finding, hint: nil, isNote: true)
    }
    static func warning(_ subject: String, _ finding: String, hint: String) -> Self {
        Self(subject: subject, finding: finding, hint: hint, isWarning: true)
    }
    static func unmet(_ subject: String, _ finding: String, hint: String) -> Self {
        Self(subject: subject, finding: finding, hint: hint)
    }
    static func unmet(_ subject: String, _ failure: ProvisioningFailure) -> Self {
        unmet(subject, failure.reason, hint: failure.hint)
    }
}

/// Looks whether the machine has what the settings ask for. Changes nothing, and starts rsnapshot and rsync once to learn their
/// versions.
package struct BackupRequirements: Sendable {
    let configuration: BackupConfiguration

    /// The oldest rsnapshot whose configurations know `retain`.
    static let oldestRsnapshot = (major: 1, minor: 3)
    /// The oldest rsync whose receiver is known not to follow a link that comes into a directory's place while it writes: an account owns the
    /// directories of its snapshots, and could lead an older one, which runs as root, anywhere.
    static let oldestRsync = (major: 3, minor: 5)

    /// - Parameter configuration: the settings.
    package init(_ configuration: BackupConfiguration) { self.configuration = configuration }

    /// Everything that is needed, met or not, in the order in which an operator would fix it.
    package func findings() async -> [Requirement] {
        var findings = configuration.places.problems.map {
            Requirement.unmet("home places", $0.reason, hint: $0.hint)
        }
        for place in configuration.places.roots { findings.append(directory(place, subject: "HOME_ROOTS")) }
        for place in configuration.places.volumes where !configuration.places.roots.contains(place) {
            findings.append(directory(place, subject: "VOLUMES"))
        }
        for volume in configuration.places.volumes { findings += await mount(of: volume) }
        if configuration.snapshots != .own { findings.append(snapshotStore()) }
        findings.append(homeScript())
        findings += await programs()
        findings.append(await rsnapshot())
        findings += [await sandbox()].compactMap(\.self)
        findings.append(template())
        findings.append(directory(configuration.configurationDirectory, subject: "RSNAPSHOT_CONFIG_DIRECTORY"))
        return findings
    }

    /// Whose it must be is for ``BackupConfiguration/trusted``.
    private func directory(_ path: FilePath, subject: String) -> Requirement {
        do throws(HeldDirectory.Failure) {
            let directory = try HeldDirectory(configured: path)
            // Any name will do: the question is whether the kernel has openat2.
            _ = try directory.directory(ArchiveName.directory)
            if try directory.bequeathsRights() {
                return .warning(
                    subject,
                    "\(path) is set-group-ID or has a default ACL: what is made in it gets that group or these rights",
                    hint: "chmod g-s \(path.shellWord); setfacl -k \(path.shellWord)")
            }
        } catch {
            if error.cause == .noSuchFileOrDirectory {
                return .unmet(subject, "\(path) does not exist", hint: "install -d -m 0755 \(path.shellWord)")
            }
            return .unmet(subject, HomeWalk.explain(error, root: path))
        }
        guard access(path.string, W_OK) == 0 else {
            return .unmet(subject, "\(path) cannot be written", hint: "run the daemon as root, or mount it for writing")
        }
        return .met(subject, "\(path)")
    }

    /// What is to be said of the mount that holds a volume: whether QUOTA can work there, and which rights files have there.
    private func mount(of volume: FilePath) async -> [Requirement] {
        let mount: MountTable.Mount?
        do {
            mount = try MountTable.current().mount(holding: HeldDirectory(configured: volume))
        } catch {
            guard configuration.quota != .none else { return [] }
            return [
                .unmet(
                    "QUOTA", "the mount of \(volume) could not be found: \(error)",
                    hint: "see what check says about this directory")
            ]
        }
        guard let mount else { return [] }
        let hasScript = configuration.homeScript != nil
        let rights =
            configuration.ownership == .account
            ? [Self.restriction(of: mount, mayHoldDevices: hasScript)].compactMap(\.self) : []
        switch configuration.quota {
        case .none: return rights
        case .setquota: return [Self.enforcement(on: mount)] + rights
        case .btrfs: return [await btrfsQuota(of: volume, on: mount)] + rights
        }
    }

    /// What customers store is never to be run with others' rights or opened as a device here.
    /// - Parameter mayHoldDevices: chroots may be there, and jailkit makes device nodes such as /dev/null in them, which nodev would disable.
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
        do {
            let program = try Program.btrfs.find(configuration)
            let result = try await ScriptRunner().run(
                ScriptInvocation(
                    executable: program, arguments: ["qgroup", "show", volume.string],
                    environment: configuration.baseEnvironment, timeLimit: .seconds(30), grace: .seconds(5)))
            if let complaint = result.complaint {
                return .unmet(
                    "QUOTA", "\(program) qgroup show \(volume) \(complaint): \(result.outputTail)", hint: hint)
            }
            return .met("QUOTA", "\(mount.point) counts by btrfs qgroups")
        } catch let failure as ProvisioningFailure {
            return .unmet("QUOTA", failure)
        } catch {
            return .unmet("QUOTA", "\(error)", hint: hint)
        }
    }

    /// ext4 with the feature `quota` counts without any option, and limits only when it is mounted with one: setquota would succeed and
    /// nobody would be limited.
    static func enforcement(on mount: MountTable.Mount) -> Requirement {
        let limits = mount.options.contains {
            ["usrquota", "quota", "uquota"].contains($0) || $0.hasPrefix("usrjquota=")
        }
        return limits
            ? .met("QUOTA", "\(mount.point) limits users")
            : .unmet(
                "QUOTA",
                "\(mount.point) (\(mount.type)) is mounted without usrquota: limits could be set and would not be held",
                hint: "write usrquota into the options of \(mount.point) in /etc/fstab and mount it anew")
    }

    private func homeScript() -> Requirement {
        let subject = "HOME_SCRIPT"
        guard let script = configuration.homeScript else {
            if configuration.quota == .btrfs { return .unmet(subject, BackupRsnapshotService.noSubvolumes) }
            return .met(subject, "empty: the daemon makes plain homes itself")
        }
        do {
            try HomeScriptStep.checkPermissions(script)
            return .met(subject, "\(script)")
        } catch {
            return .unmet(subject, error)
        }
    }

    private func programs() async -> [Requirement] {
        var findings: [Requirement] = []
        for program in Program.needed(configuration) {
            do throws(ProvisioningFailure) {
                let path = try program.find(configuration)
                findings.append(
                    program == .rsync
                        ? await version(
                            of: path, subject: program.rawValue, oldest: Self.oldestRsync,
                            lack:
                                "follows links that a customer puts in a directory's place when rsnapshot runs by hand as root",
                            hint: "apt install rsync from the distribution's security updates",
                            // In the sandbox it writes as the account.
                            isRequired: configuration.confinement != .on)
                        : .met(program.rawValue, "\(path)"))
            } catch {
                findings.append(.unmet(program.rawValue, error))
            }
        }
        return findings
    }

    /// Runs `true` in the sandbox in which copies are made.
    /// - Returns: nil where a program is missing that has a finding of its own.
    private func sandbox() async -> Requirement? {
        let subject = "BACKUP_SANDBOX"
        guard Program.isExecutable(configuration.confine) else {
            return .unmet(
                subject, "\(configuration.confine) is not there",
                hint: "install it with the daemon: prov-backup-rsnapshot(8), FILES")
        }
        do {
            let home = configuration.places.volumes.first ?? "/var/backup"
            let number = UInt32(BackupAccount.uidRange.lowerBound)
            let sandbox = CopySandbox(
                confinement: configuration.confinement,
                account: configuration.ownership == .account ? .init(uid: number, gid: number) : nil, home: home,
                snapshots: home, programs: try CopySandbox.Programs(configuration), memory: 0)
            let result = try await ScriptRunner().run(sandbox.trial)
            let reports = CopyReports(result.reports)
            if reports.hasEntered, reports.faults.isEmpty, result.complaint == nil {
                let isConfined = CopySandbox.isConfined(configuration.confinement)
                let finding = isConfined ? "the sandbox works" : "copies run without a sandbox"
                return .met(subject, "\(configuration.confinement): \(finding)")
            }
            let reason =
                reports.faults.first ?? result.complaint.map { "\($0): \(result.outputTail)" } ?? "it said nothing"
            return .unmet(
                subject, "the sandbox in which copies are made cannot be built: \(reason)",
                hint:
                    "allow user and mount namespaces (sysctl user.max_user_namespaces, the unit's RestrictNamespaces and "
                    + "CapabilityBoundingSet), or write BACKUP_SANDBOX = off")
        } catch is ProvisioningFailure {
            return nil
        } catch {
            return .unmet(subject, "\(error)", hint: "apt install bubblewrap")
        }
    }

    private func rsnapshot() async -> Requirement {
        let path = configuration.rsnapshot
        let hint = "apt install rsnapshot, or correct RSNAPSHOT"
        guard Program.isExecutable(path) else { return .unmet("RSNAPSHOT", "\(path) is not there", hint: hint) }
        return await version(
            of: path, subject: "RSNAPSHOT", oldest: Self.oldestRsnapshot, lack: "does not know retain", hint: hint)
    }

    /// Asks a program for its version.
    /// - Parameter lack: why an older one will not do.
    private func version(
        of path: FilePath, subject: String, oldest: (major: Int, minor: Int), lack: String, hint: String,
        isRequired: Bool = true
    ) async -> Requirement {
        do {
            let result = try await ScriptRunner().run(
                ScriptInvocation(
                    executable: path, arguments: ["--version"], environment: configuration.baseEnvironment,
                    timeLimit: .seconds(30), grace: .seconds(5)))
            if let complaint = result.complaint {
                return .unmet(subject, "\(path) --version \(complaint): \(result.outputTail)", hint: hint)
            }
            let output = String(decoding: result.output.head, as: UTF8.self)
            guard let version = Self.version(in: output) else {
                return .unmet(subject, "\(path) says no version: \(result.outputTail)", hint: hint)
            }
            let text = "\(path) \(version.major).\(version.minor)"
            if version >= oldest { return .met(subject, text) }
            let finding = "\(text) is older than \(oldest.major).\(oldest.minor) and \(lack)"
            return isRequired ? .unmet(subject, finding, hint: hint) : .note(subject, "\(finding); \(hint)")
        } catch {
            return .unmet(subject, "\(error)", hint: hint)
        }
    }

    /// The first `N.N` in what a program says of its version.
    static func version(in text: String) -> (major: Int, minor: Int)? {
        for word in text.split(whereSeparator: { !$0.isNumber && $0 != "." }) {
            let numbers = word.split(separator: ".").map { Int($0) }
            if numbers.count >= 2, let major = numbers[0], let minor = numbers[1] { return (major, minor) }
        }
        return nil
    }

    /// Renders the template for an account that only looks like one.
    private func template() -> Requirement {
        let subject = "RSNAPSHOT_TEMPLATE"
        do throws(ProvisioningFailure) {
            let uid = "3723707"
            var entry = Entry(dn: DN.root.appending(BackupAttribute.uid, uid))
            let home = configuration.places.hashedHome(
                uid: uid, volume: configuration.places.volumes.first ?? "/var/backup")
            for name in [BackupAttribute.uid, BackupAttribute.uidNumber, BackupAttribute.gidNumber] {
                entry[name] = [AttributeValue(uid)]
            }
            entry[BackupAttribute.homeDirectory] = [AttributeValue(home.text)]
            for level in SnapshotLevel.allCases { entry[BackupAttribute.interval(level)] = ["7"] }
            _ = try RsnapshotRendering(
                TemplateFile(configuration.template).template(),
                account: BackupAccount(reading: entry, for: .add, places: configuration.places), home: home,
                rsync: "/usr/bin/rsync", configuration: configuration)
            return .met(subject, "\(configuration.template)")
        } catch {
            return .unmet(subject, error)
        }
    }
}
