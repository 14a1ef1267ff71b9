package import LDAP
package import JobCore
package import SystemPackage

/// Who owns the directories of a home (setting OWNERSHIP).
package enum Ownership: String, CaseIterable, Hashable, Sendable {
    /// The account owns what it may write, root everything else.
    case account
    /// The daemon's user owns everything: for trying out without root.
    case none
}

/// How disk quotas are set (setting QUOTA).
package enum QuotaBackend: String, CaseIterable, Hashable, Sendable {
    case none
    /// User quotas of ext4 and xfs.
    case setquota
    /// A qgroup limit on the account's subvolume.
    case btrfs
}

/// What a customer can do with its snapshots (setting SNAPSHOTS).
package enum SnapshotAccess: String, CaseIterable, Hashable, Sendable {
    /// They are in the home and belong to the account, which can change them.
    case own
    /// They are where only root can enter, and the home shows them by a read-only mount.
    case readonly
    /// The same, but the home does not show them.
    case hidden
}

/// When `rsnapshot configtest` checks a new file (setting RSNAPSHOT_CONFIGTEST).
package enum ConfigurationTest: String, CaseIterable, Hashable, Sendable {
    /// The first file of each template with each rsnapshot.
    case template
    case always
    case never
}

/// What happens to the home of a deleted account (setting ON_DELETE).
package enum HomeDisposal: String, CaseIterable, Hashable, Sendable {
    case keep
    /// Renamed into `.deleted` of its volume, and removed after some days.
    case archive
    case remove
}

/// The section `[Backup]`.
package struct BackupConfiguration: Hashable, Sendable {
    /// nil: the daemon makes a plain home itself.
    package var homeScript: FilePath? = "/etc/Provisioning/Backup/create-chroot.sh"
    package var scriptTimeout = Duration.seconds(300)
    /// Between SIGTERM and SIGKILL.
    package var scriptGrace = Duration.seconds(10)
    package var places = HomePlaces()
    package var ownership = Ownership.account
    package var quota = QuotaBackend.none
    package var quotaFiles = 100_000
    package var snapshots = SnapshotAccess.own
    package var confinement = CopyConfinement.on
    package var rsnapshot: FilePath = "/usr/bin/rsnapshot"
    package var configurationDirectory: FilePath = "/etc/rsnapshot.d"
    package var template: FilePath = "/etc/Provisioning/Backup/rsnapshot-account.conf.template"
    package var configurationTest = ConfigurationTest.template
    package var onDelete = HomeDisposal.keep
    package var purgeAfterDays = 30
    package var requireSystemUser = false

    // Not settings of this section:

    /// TIMEOUT of `[Backup Jobs]`.
    package var timeLimit = BackupJobsConfiguration().timeLimit
    /// The path of `prov-backup-confine`.
    package var confine: FilePath = CopySandbox.installedHelper
    /// The directory of rsnapshot's lock files, one for each account; only root can write there.
    package var lockDirectory: FilePath = "/run/prov-backup-rsnapshot"
    /// PROV_REPORT_SOCKET of scripts; empty: none.
    package var reportSocket = ""
    /// Where programs are searched for; also their PATH.
    package var programDirectories: [FilePath] = [
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
    ]

    package init() {}

    /// The environment of every program; nothing is inherited.
    package var baseEnvironment: [String: String] {
        ["PATH": programDirectories.map(\.string).joined(separator: ":"), "LANG": "C", "LC_ALL": "C"]
    }
}

extension BackupConfiguration: SettingsSection {
    package static let section = SectionName("Backup")
    package static let meaning = "What is made on this server for an account."
    package static let keys: [Setting<Self>] = [
        Setting(
            "HOME_SCRIPT", \.homeScript, orEmpty: .path,
            meaning: """
                The program that makes and changes homes: SCRIPT UID HOME UIDNUMBER GIDNUMBER, with more in the environment. \
                Empty: the daemon makes the plain home itself and starts no process.
                """),
        Setting(
            "SCRIPT_TIMEOUT", \.scriptTimeout, .duration(from: .seconds(1)), meaning: "How long the program may run."),
        Setting(
            "SCRIPT_GRACE", \.scriptGrace, .duration(),
            meaning: "How long it may take to end after SIGTERM before it is killed."),
        Setting(
            "HOME_ROOTS", \.places.roots, .paths,
            meaning:
                "The only directories below which homes may lie, separated by blanks. Nothing outside is ever touched."
        ),
        Setting(
            "HOME_LAYOUT", \.places.layout, .choice,
            meaning:
                "attribute takes homeDirectory as it is in the entry; hashed makes the path from the last digits of uid."
        ),
        Setting(
            "OWNERSHIP", \.ownership, .choice,
            meaning:
                "account gives files to the account; none leaves them to the daemon's user, for trying out without root."
        ),
        Setting(
            "QUOTA", \.quota, .choice, meaning: "How sstQuota is enforced: none, setquota (ext4, xfs) or btrfs."),
        Setting(
            "QUOTA_FILES", \.quotaFiles, .number(0...1_000_000_000),
            meaning: """
                With QUOTA = setquota: how many files and directories an account may have for each GiB of sstQuota, rounded up; \
                those of its snapshots count. 0: any number. btrfs has no such limit.
                """),
        Setting(
            "SNAPSHOTS", \.snapshots, .choice, example: "readonly",
            meaning: """
                What a customer can do with its snapshots: own lets it change them, readonly shows them by a read-only mount at \
                .snapshots, hidden does not show them. Existing accounts follow with their next modify. readonly and hidden need \
                root and a sandbox, and are not for btrfs.
                """),
        Setting(
            "BACKUP_SANDBOX", \.confinement, .choice,
            meaning: """
                How a copy is confined: on as the account in a sandbox, root as root in a sandbox for uploads with files of other \
                owners (quotas do not bind it), off as the account without a sandbox (files of mode 000 are not copied).
                """),
        Setting("RSNAPSHOT", \.rsnapshot, .path, meaning: "The rsnapshot program."),
        Setting(
            "RSNAPSHOT_CONFIG_DIRECTORY", \.configurationDirectory, .path,
            meaning: "Where each account's rsnapshot configuration is written, as UID.conf."),
        Setting("RSNAPSHOT_TEMPLATE", \.template, .path, meaning: "The template of these files."),
        Setting(
            "RSNAPSHOT_CONFIGTEST", \.configurationTest, .choice,
            meaning: """
                When rsnapshot checks a file: template the first from each template and rsnapshot version, always every file, \
                never none.
                """),
        Setting(
            "ON_DELETE", \.onDelete, .choice,
            meaning: "What happens to the home of a deleted account: keep it, archive it below .deleted, or remove it."),
        Setting(
            "PURGE_AFTER_DAYS", \.purgeAfterDays, .number(0...36_525),
            meaning: "How many days an archived home is kept."),
        Setting(
            "REQUIRE_SYSTEM_USER", \.requireSystemUser, .boolean,
            meaning: "Whether an account must also be known to this server's user database."),
    ]
}

// MARK: - Pools

extension Pool: SettingsSection {
    package static let section = SectionName("Pool", label: "NAME")
    package static let meaning = """
        Volumes over which homes are spread; there may be several pools. In the environment a pool's name is in \
        the middle: PROV_POOL_NAME_VOLUMES, with _ for everything but letters and digits.
        """
    package static let keys: [Setting<Self>] = [
        Setting(
            "VOLUMES", \.volumes, .paths, example: "/var/backup/volume1 /var/backup/volume2",
            meaning: "Directories separated by blanks, each one of HOME_ROOTS or below one.")
    ]
}

// MARK: - Backup jobs

/// The section `[Backup Jobs]`.
package struct BackupJobsConfiguration: Hashable, Sendable {
    package var slots = 2
    /// The limit of one attempt's work on the files of an account, the copy included.
    package var timeLimit = Duration.seconds(12 * 3600)
    package var memory: UInt64 = 2 << 30
    package var window: TimeWindow?
    /// The schedule of each level; a missing level has none.
    package var schedules: [SnapshotLevel: CronSchedule] = [:]
    package var writesAny = true
    package var writesBackupSize = true
    package var writesIncrementSize = true
    package var writesBackupTime = true

    // Not settings of this section:

    /// Between SIGTERM and SIGKILL for rsnapshot.
    package var grace = Duration.seconds(30)
    /// How a retryable failure is repeated, such as a lock that another rsnapshot holds.
    package var retry = RetryPolicy(maximumAttempts: 5, delay: .seconds(60), maximumDelay: .seconds(3600))
    /// The name of this server in `sstBackupLastSuccessfulBackup`; without a colon.
    package var host = ""

    package init() {}

    package var writesSize: Bool { writesAny && writesBackupSize }
    package var writesIncrement: Bool { writesAny && writesIncrementSize }
    package var writesLastSuccess: Bool { writesAny && writesBackupTime }

    /// The attributes of an account's entry that its backup reads.
    package var readAttributes: [AttributeName] { BackupAttribute.all }

    /// The attributes by which entries are searched, besides those of the protocol.
    package var searchedAttributes: [AttributeName] { [BackupAttribute.uid, BackupAttribute.gidNumber] }

    /// The attributes of an account's entry that its backup writes.
    package var writtenAttributes: [AttributeName] {
        [
            (BackupAttribute.size, writesSize), (BackupAttribute.increment, writesIncrement),
            (BackupAttribute.lastSuccess, writesLastSuccess),
        ].filter(\.1).map(\.0)
    }
}

extension BackupConfiguration {
    /// The attributes without which an account can be neither provisioned nor backed up, besides those of the protocol.
    package var requiredAttributes: [AttributeName] {
        [BackupAttribute.uid, BackupAttribute.uidNumber, BackupAttribute.gidNumber]
            + (places.layout == .attribute ? [BackupAttribute.homeDirectory] : [])
            + SnapshotLevel.allCases.map(\.intervalAttribute)
    }
}

extension BackupJobsConfiguration: SettingsSection {
    package static let section = SectionName("Backup Jobs")
    package static let meaning = """
        When and how the daemon runs rsnapshot for the accounts. Of levels that are due together the larger one goes first.
        """
    package static let keys: [Setting<Self>] =
        [
            Setting("SLOTS", \.slots, .number(1...1_024), meaning: "How many accounts are backed up at the same time."),
            Setting(
                "TIMEOUT", \.timeLimit, .duration(from: .seconds(1)),
                meaning: """
                    How long the backup of one account may take, from making room to measuring; also how long one attempt may take to \
                    remove a home or an archived home, or to change a group. The next run or attempt continues interrupted work.
                    """),
            Setting(
                "MEMORY", \.memory, .size,
                meaning: """
                    The most memory of each process of a copy; 0: no limit. rsync needs about 1G for ten million files.
                    """),
            Setting(
                "WINDOW", \.window, .window,
                meaning:
                    "The time of day in which backups may begin; it may pass midnight, such as 22:00-06:00."),
        ]
        + SnapshotLevel.allCases.map { level in
            Setting(
                level.rawValue.uppercased(), \.schedules[level], orEmpty: .schedule,
                meaning: """
                    When \(level.rawValue) snapshots are made, as in crontab(5). Empty: only by hand. An account whose last one still \
                    waits or runs is skipped.
                    """)
        } + [
            Setting(
                "WRITE_SIZES", \.writesAny, .boolean,
                meaning: """
                    Whether backups write into the account's entry; no switches the next three off.
                    """),
            Setting("WRITE_BACKUP_SIZE", \.writesBackupSize, .boolean, meaning: "Whether sstBackupSize is written."),
            Setting(
                "WRITE_INCREMENT_SIZE", \.writesIncrementSize, .boolean,
                meaning: "Whether sstIncrementSize is written."),
            Setting(
                "WRITE_LAST_SUCCESS", \.writesBackupTime, .boolean,
                meaning: "Whether sstBackupLastSuccessfulBackup is written."),
        ]
}

extension BackupConfiguration {
    /// The paths of `[Backup]` and the pools that root runs or trusts.
    package var trusted: [TrustedPath] {
        var list = [
            TrustedPath("RSNAPSHOT", rsnapshot, .program), TrustedPath(CopySandbox.helper, confine, .program),
            TrustedPath("RSNAPSHOT_TEMPLATE", template, .file),
            TrustedPath("RSNAPSHOT_CONFIG_DIRECTORY", configurationDirectory, .directory),
        ]
        if let homeScript { list.append(TrustedPath("HOME_SCRIPT", homeScript, .program)) }
        list += Program.needed(self).compactMap { program in
            program.path(self).map { TrustedPath(program.rawValue, $0, .program) }
        }
        list += trustedOfTemplate
        list += places.roots.map { TrustedPath("HOME_ROOTS", $0, .directory) }
        list += places.volumes.filter { !places.roots.contains($0) }.map { TrustedPath("VOLUMES", $0, .directory) }
        return list
    }

    /// The paths that the template names: rsync, unless it is a placeholder, and files with patterns.
    private var trustedOfTemplate: [TrustedPath] {
        // Other faults of the template are reported elsewhere.
        guard TrustedPath("RSNAPSHOT_TEMPLATE", template, .file).fault == nil,
            let text = try? FileDescriptor.text(at: template)
        else { return [] }
        let configured = ConfiguredSnapshots(parsing: text)
        let rsync = [configured.rsync].compactMap(\.self).filter(\.isAbsolute)
        return rsync.map { TrustedPath(TrustedPath.configuredRsync, $0, .program) }
            + configured.patternFiles.map { TrustedPath(TrustedPath.patternFile, $0, .file) }
    }

    /// The directories of PATH.
    package var trustedProgramDirectories: [TrustedPath] {
        programDirectories.map { TrustedPath("PATH", $0, .directory) }
    }
}

extension TrustedPath {
    /// The directive that names rsync.
    static let configuredRsync = "cmd_rsync"
    /// The directives that name files with patterns for rsync.
    static let patternFile = "include_file or exclude_file"
}
