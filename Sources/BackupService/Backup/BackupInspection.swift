package import LDAP
import Glibc
package import JobCore
package import Provisioning
import SystemPackage

/// How an account's backups are, as its entry, its configuration and the disk tell: for people. It reads and changes nothing.
package struct BackupInspection: Sendable {
    /// One level that the account has, or has snapshots of.
    package struct Level: Sendable {
        /// The level.
        package var level: SnapshotLevel
        /// How many snapshots are to be kept, by the entry; 0: the level is not used.
        package var retain: Int
        /// Those on the disk, the newest first.
        package var snapshots: [Snapshot]
        /// When a job of the level last ended with a whole snapshot; nil: never, or not known.
        package var lastSuccess: Timestamp?
        /// When a job of the level last came to an orderly end: also with a partial copy, and where there was nothing to do.
        package var lastCompletion: Timestamp?
    }

    /// The most frequent first.
    package internal(set) var levels: [Level] = []
    /// When this host last made a copy, by the entry; nil: never.
    package internal(set) var lastCopy: Timestamp?
    /// Bytes that all snapshots take, by the entry.
    package internal(set) var size: UInt64?
    /// Bytes that the newest snapshot takes besides what it shares with older ones, by the entry.
    package internal(set) var increment: UInt64?
    /// Whether what is recorded beside the snapshots could be read; without it no success is known.
    package internal(set) var isStateKnown = false
    /// The newest attempt of a job, by what is recorded beside the snapshots.
    package internal(set) var lastAttempt: SnapshotState.Attempt?
    /// What keeps a backup from being made, with the hint; one line each.
    package internal(set) var obstacles: [String] = []
    /// What is not as the settings say and keeps no backup from being made, with the hint; one line each.
    package internal(set) var notices: [String] = []
    /// What could not be found out, and why; one line each.
    package internal(set) var unknown: [String] = []
}

extension BackupJobs {
    /// The attributes that ``inspection(of:configuration:host:)`` reads, besides those of the protocol.
    package static let inspectedAttributes = BackupAttribute.all + BackupRecord.attributes

    /// The attribute that ``lastCopy(in:host:)`` reads.
    package static let lastCopyAttribute = BackupAttribute.lastSuccess

    /// When a host last made a copy for an account, as its entry says; nil: never.
    package static func lastCopy(in entry: Entry, host: String) -> Timestamp? {
        BackupRecord.lastSuccess(in: entry, host: host)
    }

    /// Looks at an account's backups. It looks at the disk.
    /// - Parameters:
    ///   - account: with ``inspectedAttributes``.
    ///   - host: as which this server writes `sstBackupLastSuccessfulBackup`.
    package static func inspection(
        of account: Account, configuration: BackupConfiguration, host: String
    ) -> BackupInspection {
        let inspector = BackupInspector(account: account, configuration: configuration)
        inspector.found.lastCopy = lastCopy(in: account.entry, host: host)
        inspector.found.size = account.entry.text(BackupAttribute.size).flatMap(EntryReader.decimal)
        inspector.found.increment = account.entry.text(BackupAttribute.increment).flatMap(EntryReader.decimal)
        inspector.look()
        return inspector.found
    }
}

/// Collects what there is to be seen; one thing that cannot be seen does not hide the others.
private final class BackupInspector {
    let account: Account
    let configuration: BackupConfiguration
    var found = BackupInspection()

    init(account: Account, configuration: BackupConfiguration) {
        self.account = account
        self.configuration = configuration
    }

    func look() {
        let retained = Dictionary(
            uniqueKeysWithValues: SnapshotLevel.allCases.map { level in
                let number = account.entry.text(BackupAttribute.interval(level)).flatMap(EntryReader.decimal)
                return (level, number.flatMap { Int(exactly: $0) } ?? 0)
            })
        let first = SnapshotLevel.allCases.first { (retained[$0] ?? 0) > 0 } ?? .daily
        if let refusal = BackupQualification(level: first).objection(to: account) {
            found.obstacles.append("\(refusal.reason); \(refusal.hint)")
        }
        var snapshots: [Snapshot] = []
        var state: SnapshotState?
        attempt {
            let described = try BackupAccount(reading: account.entry, for: .modify, places: configuration.places)
            guard let home = try home(of: described) else { return }
            try lookAtConfiguration(of: described, home, levels: retained.filter { $0.value > 0 }.map(\.key))
            attempt { found.notices += try SnapshotStore(home).notices(configuration.snapshots) }
            guard let directory = try SnapshotDirectory.open(in: home) else { return }
            attempt { snapshots = try directory.snapshots() }
            attempt {
                state = try directory.state()
                found.isStateKnown = true
            }
        }
        found.lastAttempt = state?.lastAttempt
        found.levels = SnapshotLevel.allCases.compactMap { level in
            let own = snapshots.filter { $0.level == level }.sorted { $0.index < $1.index }
            let retain = retained[level] ?? 0
            guard retain > 0 || !own.isEmpty else { return nil }
            return BackupInspection.Level(
                level: level, retain: retain, snapshots: own, lastSuccess: state?.lastSuccess(of: level),
                lastCompletion: state?.lastCompletion(of: level))
        }
    }

    private func home(of account: BackupAccount) throws -> HomePath? {
        guard case .given(let home) = try HomeChoice(configuration: configuration).place(of: account) else {
            found.obstacles.append("there is no home yet; \(ConfiguredSnapshots.provisionAgain)")
            return nil
        }
        switch try HomeWalk(to: home).condition(ownership: configuration.ownership) {
        case .whole: break
        case .absent:
            found.obstacles.append(
                "there is no home at \(home.path); mount its volume if it is not mounted; else "
                    + ConfiguredSnapshots.provisionAgain)
            return nil
        case .unfinished(let objection):
            found.obstacles.append("\(home.path) \(objection); \(ConfiguredSnapshots.provisionAgain)")
        }
        return home
    }

    private func lookAtConfiguration(
        of account: BackupAccount, _ home: HomePath, levels: [SnapshotLevel]
    ) throws {
        let file = ConfigurationFile(
            directory: configuration.configurationDirectory, uid: account.uid, ownership: configuration.ownership)
        attempt {
            guard try file.exists() else {
                found.obstacles.append("\(file.path) does not exist; \(ConfiguredSnapshots.provisionAgain)")
                return
            }
            guard let text = try file.trustedText() else { return }
            let configured = ConfiguredSnapshots(parsing: text)
            for level in levels { attempt { try configured.demand(level, in: home, of: file) } }
            if let lock = configured.lockFile, let holder = AccountLock.holder(of: lock) {
                found.obstacles.append("the account's lock \(lock) is held by \(holder); wait for its end")
            }
        }
    }

    /// A failure to look is reported, and the rest is looked at.
    private func attempt(_ body: () throws -> Void) {
        do {
            try body()
        } catch let failure as ProvisioningFailure {
            // What is refused to root is in the way of a backup too; what is refused to another user is not.
            let text = "\(failure.reason); \(failure.hint)"
            // Levels share what is wrong with their file.
            if geteuid() == 0 {
                if !found.obstacles.contains(text) { found.obstacles.append(text) }
            } else {
                let text = "\(text); or run this command as root"
                if !found.unknown.contains(text) { found.unknown.append(text) }
            }
        } catch let failure as HeldDirectory.Failure {
            let isRefused = failure.cause == .permissionDenied || failure.cause == .notPermitted
            found.unknown.append(
                "\(failure.path) cannot be read (\(failure.cause))"
                    + (isRefused ? "; only root can: run this command as root" : "; check the disk with dmesg and df"))
        } catch {
            found.unknown.append("what is recorded of the snapshots is damaged: \(error); the next backup replaces it")
        }
    }
}
