import BackupRsnapshot
import DaemonKit
import DirectoryClient
import DirectoryModel
import JobCore
import Provisioning

/// Everything that the settings say, checked as far as can be done without asking the directory or starting anything.
///
/// Made by `load` alone, so that whoever holds one needs no further checks. What each value means stands with its
/// declaration.
struct DaemonSettings: Sendable {
    /// As they stand in files and environment, to tell what others change.
    var raw: Settings
    /// `[Global]`, `[Operation Mode]`.
    var log: LogSwitches
    /// What this installation is called.
    var environment: String
    /// At start.
    var start: Reconnecting
    /// In operation.
    var operation: Reconnecting
    var mail: Mail
    var directory: Directory
    var attributes: AttributeNames
    var service: Service
    var backup: Backup
    /// In the order of the file.
    var pools: [Pool]
    var scripts: Scripts
    /// The types whose scripts are enabled.
    var hooks: [JobType: Hooks]
    /// When jobs of a type may begin; types that may at any time are left out.
    var windows: [JobType: TimeWindow]
    /// In the order of the file.
    var jobs: [ScriptJob]
    /// The built-in ones, then those of the file.
    var exitProfiles: [ExitProfile]
    var backupJobs: BackupJobs
    var history: History
    /// In use with `TYPE = Script`.
    var script: Script

    /// How the directory is sought while it is away.
    struct Reconnecting: Hashable, Sendable {
        /// At start the first wait, in operation the longest.
        var sleep: Duration
        /// After so many failed tries it becomes an error in the log.
        var attempts: Int
    }

    /// `[Mail]`.
    struct Mail: Hashable, Sendable {
        var recipients: [MailAddress]
        var senderName: String
        var sendmail: String
    }

    /// `[Database]`.
    struct Directory: Hashable, Sendable {
        /// At least one, in the order of preference.
        var servers: [ServerAddress]
        var bind: Bind
        /// Where the password stands, for messages.
        var password: String
        var tls: TLSOptions
        /// Never the root.
        var subtree: DN
        var condition: Filter?
        var detection: Detection
        var pollInterval: Duration
        var relistInterval: Duration
        var connectTimeout: Duration
        var operationTimeout: Duration
    }

    /// As whom the daemon binds.
    enum Bind: Hashable, Sendable {
        case anonymous
        case simple(DN, SecretText)
        case external
    }

    /// `[Service]`.
    struct Service: Hashable, Sendable {
        /// Such as `Backup`.
        var name: String
        var type: ServiceSection.ServiceType
        /// The name in the system's log.
        var syslog: String
        var hosts: HostSelection
        var slots: Int
        var overdue: ServiceSection.Overdue
        /// A name of the system's time zone database; `nil` for the system's own zone.
        var timeZone: String?
        var requireInactiveForDelete: Bool
        /// 0: no limit.
        var maxDeletesPerHour: Int
        var maxAttempts: Int
        var retryDelay: Duration
        var retryMaxDelay: Duration
        var stopGrace: Duration
        var stateDirectory: String
        var runtimeDirectory: String
    }

    /// `[Backup]`.
    struct Backup: Hashable, Sendable {
        /// `nil`: the daemon makes the plain home itself.
        var homeScript: String?
        var scriptTimeout: Duration
        var scriptGrace: Duration
        /// At least one; none is `/`.
        var homeRoots: [String]
        var homeLayout: HomeLayout
        var ownership: Ownership
        var quota: QuotaBackend
        /// For each GiB of an account's quota; 0: no limit.
        var quotaFiles: Int
        var snapshots: SnapshotAccess
        var confinement: CopyConfinement
        var rsnapshot: String
        var rsnapshotConfigDirectory: String
        var rsnapshotTemplate: String
        var rsnapshotConfigTest: ConfigurationTest
        var onDelete: HomeDisposal
        var purgeAfterDays: Int
        var requireSystemUser: Bool
    }

    /// `[Pool NAME]`.
    struct Pool: Hashable, Sendable {
        var name: String
        /// At least one, each a home root or below one.
        var volumes: [String]
    }
}
