import BackupRsnapshot
import DaemonKit

/// `[Backup]`: what is made on this server for an account.
enum BackupSection {
    static let name = SectionName("Backup")

    static let homeScript = SettingKey(
        name, "HOME_SCRIPT", SettingKind<String>.path.orEmpty, default: "/etc/Provisioning/Backup/create-chroot.sh",
        meaning: """
            The program that makes and changes homes: SCRIPT UID HOME UIDNUMBER GIDNUMBER, with more in the environment. \
            Empty: the daemon makes the plain home itself and starts no process.
            """)
    static let scriptTimeout = SettingKey(
        name, "SCRIPT_TIMEOUT", .duration(.seconds(1)...Quantity.longest), default: .seconds(300),
        meaning: "How long the program may run.")
    static let scriptGrace = SettingKey(
        name, "SCRIPT_GRACE", .duration(), default: .seconds(10),
        meaning: "How long it may take to end when it is asked to, before it is killed.")
    static let homeRoots = SettingKey(
        name, "HOME_ROOTS", .paths, default: ["/var/backup"],
        meaning: "The only directories below which homes may lie, split by blanks. Nothing outside is ever touched.")
    static let homeLayout = SettingKey(
        name, "HOME_LAYOUT", .choice(HomeLayout.self), default: .attribute,
        meaning:
            "attribute takes homeDirectory as it stands in the entry; hashed makes the path from the last digits of uid."
    )
    static let ownership = SettingKey(
        name, "OWNERSHIP", .choice(Ownership.self), default: .account,
        meaning:
            "account gives files to the account; none leaves them to the daemon's user, for trying out without root.")
    static let quota = SettingKey(
        name, "QUOTA", .choice(QuotaBackend.self), default: .none,
        meaning: "How sstQuota is put into force: none, setquota (ext4, xfs) or btrfs.")
    static let quotaFiles = SettingKey(
        name, "QUOTA_FILES", .number(0...1_000_000_000), default: 100_000,
        meaning: """
            With QUOTA = setquota: how many files and directories an account may have for each GiB of sstQuota, a begun one counted \
            whole; those of its snapshots count. 0: any number. btrfs has no such limit.
            """)
    static let backupSandbox = SettingKey(
        name, "BACKUP_SANDBOX", .choice(CopyConfinement.self), default: .on,
        meaning: """
            How a copy is confined: on as the account in a sandbox, root as root in a sandbox for uploads with files of other \
            owners (quotas do not bind it), off as the account without a sandbox (files of mode 000 are not copied).
            """)
    static let snapshots = SettingKey(
        name, "SNAPSHOTS", .choice(SnapshotAccess.self), default: .own, example: "readonly",
        meaning: """
            What a customer can do with its snapshots: own lets it change them, readonly shows them by a read-only mount at \
            .snapshots, hidden does not show them. Existing accounts follow with their next modify. readonly and hidden need \
            root and a sandbox, and are not for btrfs.
            """)
    static let rsnapshot = SettingKey(
        name, "RSNAPSHOT", .path, default: "/usr/bin/rsnapshot", meaning: "The rsnapshot program.")
    static let rsnapshotConfigDirectory = SettingKey(
        name, "RSNAPSHOT_CONFIG_DIRECTORY", .path, default: "/etc/rsnapshot.d",
        meaning: "Where each account's rsnapshot configuration is written, as UID.conf.")
    static let rsnapshotTemplate = SettingKey(
        name, "RSNAPSHOT_TEMPLATE", .path, default: "/etc/Provisioning/Backup/rsnapshot-account.conf.template",
        meaning: "What these files are made from.")
    static let rsnapshotConfigTest = SettingKey(
        name, "RSNAPSHOT_CONFIGTEST", .choice(ConfigurationTest.self), default: .template,
        meaning: """
            When rsnapshot checks a file: template the first from each template and rsnapshot version, always every file, \
            never none.
            """)
    static let onDelete = SettingKey(
        name, "ON_DELETE", .choice(HomeDisposal.self), default: .keep,
        meaning: "What becomes of the home of a deleted account: keep it, archive it below .deleted, or remove it.")
    static let purgeAfterDays = SettingKey(
        name, "PURGE_AFTER_DAYS", .number(0...36_525), default: 30,
        meaning: "How many days an archived home is kept.")
    static let requireSystemUser = SettingKey(
        name, "REQUIRE_SYSTEM_USER", .boolean, default: false,
        meaning: "Whether an account must also be known to this server's user database.")

    static let section = SettingsSection(
        name, meaning: "What is made on this server for an account.",
        keys: [
            homeScript.declaration, scriptTimeout.declaration, scriptGrace.declaration, homeRoots.declaration,
            homeLayout.declaration, ownership.declaration, quota.declaration, quotaFiles.declaration,
            snapshots.declaration, backupSandbox.declaration, rsnapshot.declaration,
            rsnapshotConfigDirectory.declaration,
            rsnapshotTemplate.declaration, rsnapshotConfigTest.declaration,
            onDelete.declaration, purgeAfterDays.declaration, requireSystemUser.declaration,
        ])
}
