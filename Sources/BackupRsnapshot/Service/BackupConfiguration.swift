public import SystemPackage

/// Who owns the folders of a home (setting OWNERSHIP).
public enum Ownership: String, CaseIterable, Hashable, Sendable {
    /// The account owns what it may write, root the rest.
    case account
    /// Everything stays with whoever runs the daemon: for trying out without root.
    case none
}

/// How the limit of an account is set (setting QUOTA).
public enum QuotaBackend: String, CaseIterable, Hashable, Sendable {
    case none
    /// User quotas of ext4 and xfs.
    case setquota
    /// A qgroup limit on the account's subvolume.
    case btrfs
}

/// What a customer can do with its snapshots (setting SNAPSHOTS).
public enum SnapshotAccess: String, CaseIterable, Hashable, Sendable {
    /// They lie in the home, and what is in them belongs to the account: it can change them.
    case own
    /// They lie where only root can enter, and the home shows them by a read-only mount.
    case readonly
    /// They lie there too, and the home does not show them.
    case hidden
}

/// When rsnapshot itself is asked about a file before it is put in its place (setting RSNAPSHOT_CONFIGTEST).
public enum ConfigurationTest: String, CaseIterable, Hashable, Sendable {
    /// For the first file of each template with each rsnapshot.
    case template
    case always
    case never
}

/// What becomes of the home when an account is deleted (setting ON_DELETE).
public enum HomeDisposal: String, CaseIterable, Hashable, Sendable {
    case keep
    /// Renamed into `.deleted` of the same volume, and removed from there after some days.
    case archive
    case remove
}

/// The settings of `[Backup]` and of all pools, as values.
public struct BackupConfiguration: Hashable, Sendable {
    /// HOME_SCRIPT; nil: the daemon makes the plain home itself and starts no process.
    public var homeScript: FilePath?
    /// SCRIPT_TIMEOUT.
    public var scriptTimeout: Duration
    /// SCRIPT_GRACE.
    public var scriptGrace: Duration
    /// HOME_LAYOUT, HOME_ROOTS, and the VOLUMES of all pools.
    public var places: HomePlaces
    /// OWNERSHIP.
    public var ownership: Ownership
    /// QUOTA.
    public var quota: QuotaBackend
    /// QUOTA_FILES: inodes for each begun GiB of an account's quota, 0 to 1,000,000,000; 0: no limit.
    public var quotaFiles: Int
    /// SNAPSHOTS.
    public var snapshots: SnapshotAccess
    /// BACKUP_SANDBOX.
    public var confinement: CopyConfinement
    /// The helper that confines a copy: `prov-backup-confine`.
    public var confine: FilePath
    /// RSNAPSHOT.
    public var rsnapshot: FilePath
    /// One file `UID.conf` for each account.
    public var configurationDirectory: FilePath
    /// RSNAPSHOT_TEMPLATE.
    public var template: FilePath
    /// RSNAPSHOT_CONFIGTEST.
    public var configurationTest: ConfigurationTest
    /// ON_DELETE.
    public var onDelete: HomeDisposal
    /// Days that an archived home is kept, 0 or more.
    public var purgeAfterDays: Int
    /// TIMEOUT of `[Backup Jobs]`: how long one attempt may work on the files of an account.
    public var timeLimit: Duration
    /// REQUIRE_SYSTEM_USER.
    public var requireSystemUser: Bool
    /// Where rsnapshot keeps one lock file for each account: a folder that only root can write.
    public var lockDirectory: FilePath
    /// Handed to scripts as PROV_REPORT_SOCKET; empty where there is none.
    public var reportSocket: String
    /// Where rsync, setquota and btrfs are looked for, in this order; also the PATH of every program that is started.
    public var programDirectories: [FilePath]

    /// The defaults are those of the settings.
    /// - Parameter confine: nil: where it is installed, or next to this program.
    public init(
        homeScript: FilePath? = "/etc/Provisioning/Backup/create-chroot.sh", scriptTimeout: Duration = .seconds(300),
        scriptGrace: Duration = .seconds(10), places: HomePlaces = HomePlaces(roots: ["/var/backup"]),
        ownership: Ownership = .account, quota: QuotaBackend = .none, quotaFiles: Int = 100_000,
        snapshots: SnapshotAccess = .own, confinement: CopyConfinement = .on, confine: FilePath? = nil,
        rsnapshot: FilePath = "/usr/bin/rsnapshot",
        configurationDirectory: FilePath = "/etc/rsnapshot.d",
        template: FilePath = "/etc/Provisioning/Backup/rsnapshot-account.conf.template",
        configurationTest: ConfigurationTest = .template, onDelete: HomeDisposal = .keep, purgeAfterDays: Int = 30,
        timeLimit: Duration = .seconds(12 * 3600), requireSystemUser: Bool = false,
        lockDirectory: FilePath = "/run/prov-backup-rsnapshot", reportSocket: String = "",
        programDirectories: [FilePath] = [
            "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
        ]
    ) {
        self.homeScript = homeScript
        self.scriptTimeout = scriptTimeout
        self.scriptGrace = scriptGrace
        self.places = places
        self.ownership = ownership
        self.quota = quota
        self.quotaFiles = quotaFiles
        self.snapshots = snapshots
        self.confinement = confinement
        self.confine = confine ?? CopySandbox.installedHelper
        self.rsnapshot = rsnapshot
        self.configurationDirectory = configurationDirectory
        self.template = template
        self.configurationTest = configurationTest
        self.onDelete = onDelete
        self.purgeAfterDays = purgeAfterDays
        self.timeLimit = timeLimit
        self.requireSystemUser = requireSystemUser
        self.lockDirectory = lockDirectory
        self.reportSocket = reportSocket
        self.programDirectories = programDirectories
    }

    /// What every program gets, besides what it is told on purpose: nothing is inherited.
    public var baseEnvironment: [String: String] {
        ["PATH": programDirectories.map(\.string).joined(separator: ":"), "LANG": "C", "LC_ALL": "C"]
    }
}
