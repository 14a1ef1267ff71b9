package import LDAP
import Glibc
package import JobCore
package import Provisioning
import SystemPackage

/// The state of an account's backups by its entry, its configuration and the disk, for an operator.
package struct BackupInspection: Sendable {
    /// A level that the account keeps, or has snapshots of.
    package struct Level: Sendable {
        package var level: SnapshotLevel
        /// How many snapshots are kept, by the entry; 0: the level is not used.
        package var retain: Int
        /// On the disk, the newest first.
        package var snapshots: [Snapshot]
        /// When a job of the level last ended with a whole snapshot; nil: unknown.
        package var lastSuccess: Timestamp?
        /// When a job of the level last completed: also with a partial copy, or with nothing to do.
        package var lastCompletion: Timestamp?
    }

    /// The most frequent first.
    package fileprivate(set) var levels: [Level] = []
    /// When this host last made a copy, by the entry; nil: never.
    package fileprivate(set) var lastCopy: Timestamp?
    /// Bytes of all snapshots, by the entry.
    package fileprivate(set) var size: UInt64?
    /// Bytes of the newest snapshot without files shared with older ones, by the entry.
    package fileprivate(set) var increment: UInt64?
    /// Whether the state file could be read; if not, no success is known.
    package fileprivate(set) var isStateKnown = false
    /// Whether the account was added and is not deleted, by its entry; if not, it has no home that could be missed.
    package fileprivate(set) var isProvisioned = false
    /// The newest attempt of a job, by the state file.
    package fileprivate(set) var lastAttempt: SnapshotState.Attempt?
    /// What prevents a backup, one line each with the hint.
    package fileprivate(set) var obstacles: [String] = []
    /// How to fix the first of them that can be fixed; nil: there is none.
    package fileprivate(set) var hint: String?
    /// Differences from the settings that do not prevent a backup, one line each with the hint.
    package fileprivate(set) var notices: [String] = []
    /// What could not be examined, one line each with the reason.
    package fileprivate(set) var unknown: [String] = []
}

extension BackupJobs {
    /// The attributes that ``inspection(of:configuration:host:)`` reads, besides those of the protocol.
    package static let inspectedAttributes = BackupAttribute.all + BackupRecord.attributes

    /// The attribute that ``lastCopy(in:host:)`` reads.
    package static let lastCopyAttribute = BackupAttribute.lastSuccess

    /// When a host last made a copy for an account, by its entry; nil: never. Names of hosts are compared without regard to case (caseIgnoreMatch).
    package static func lastCopy(in entry: Entry, host: String) -> Timestamp? {
        let prefix = host.lowercased() + ":"
        return entry[BackupAttribute.lastSuccess].compactMap { value in
            guard let text = value.text, text.lowercased().hasPrefix(prefix) else { return nil }
            return Timestamp(text: String(text.dropFirst(prefix.count)))
        }.max()
    }

    /// Inspects an account's backups without changing anything. It reads the disk.
    /// - Parameters:
    ///   - account: with ``inspectedAttributes``.
    ///   - host: the name of this server in `sstBackupLastSuccessfulBackup`.
    package static func inspection(
        of account: Account, configuration: BackupConfiguration, host: String
    ) -> BackupInspection {
        var found = BackupInspection()
        found.lastCopy = lastCopy(in: account.entry, host: host)
        found.size = account.entry.text(BackupAttribute.size).flatMap(EntryReader.decimal)
        found.increment = account.entry.text(BackupAttribute.increment).flatMap(EntryReader.decimal)
        found.inspect(account, configuration)
        return found
    }

    /// Accepts that an account has far less data than before, or that not all of it can be copied: its newest copy becomes the one with which later
    /// ones are compared (``SnapshotTree/replaces(_:)``), and the last full snapshot is no longer kept beyond its level's number.
    /// - Parameter account: with ``inspectedAttributes``.
    /// - Returns: the contents of the newest copy; nil if it is the last full one.
    /// - Throws: `ProvisioningFailure`, retryable while a backup runs.
    package static func acceptNewestCopy(
        of account: Account, _ configuration: BackupConfiguration
    ) throws -> (files: UInt64, bytes: UInt64)? {
        func refusal(
            _ reason: String, _ hint: String, _ failureClass: FailureClass = .permanent
        ) -> ProvisioningFailure {
            ProvisioningFailure(.undefinedError, failureClass, reason: reason, hint: hint)
        }
        do {
            let described = try BackupAccount(reading: account.entry, for: .modify, places: configuration.places)
            let file = ConfigurationFile(of: described.uid, configuration)
            guard let snapshots = try SnapshotDirectory.open(for: described, configuration),
                let text = try file.trustedText()
            else {
                throw refusal(
                    "the account has no home with snapshots, or no \(file.path)", ConfiguredSnapshots.provisionAgain)
            }
            let lock = try ConfiguredSnapshots(parsing: text).lockFile.map { try AccountLock.take($0) }
            defer { withExtendedLifetime(lock) {} }
            var state = try snapshots.state()
            guard let copy = state.lastCopy, copy != state.fullCopy else { return nil }
            state.fullCopy = copy
            try snapshots.record(state)
            return (copy.files, copy.bytes)
        } catch var failure as ProvisioningFailure {
            failure.failureClass = .permanent
            throw failure
        } catch let held as JobOutcome {
            throw refusal("a backup of the account runs: \(held.message)", "wait for its end", .retryable)
        } catch let error as HeldDirectory.Failure {
            throw refusal(
                "\(error)", error.cause.isShortage ? "see the disk and the kernel's log" : "run this command as root")
        } catch {
            throw refusal("the state of the snapshots cannot be read: \(error)", "the next backup replaces it")
        }
    }
}

extension BackupInspection {
    fileprivate mutating func inspect(_ account: Account, _ configuration: BackupConfiguration) {
        let account = account.readProvisioned(configuration)
        let retained = Dictionary(
            uniqueKeysWithValues: SnapshotLevel.allCases.map { level in
                let number = account.entry.text(level.intervalAttribute).flatMap(EntryReader.decimal)
                return (level, number.flatMap { Int(exactly: $0) } ?? 0)
            })
        let first = SnapshotLevel.allCases.first { (retained[$0] ?? 0) > 0 } ?? .daily
        isProvisioned = SnapshotLevel.isProvisioned(account)
        if let refusal = first.refusal(of: account) {
            // The hint for an account without a home is that for its request.
            block(refusal.reason, isProvisioned ? refusal.hint : nil)
        }
        var snapshots: [Snapshot] = []
        var state: SnapshotState?
        attempt { found in
            let described = try BackupAccount(reading: account.entry, for: .modify, places: configuration.places)
            found.notices += ArchivePurge.removals(configuration.places).filter { $0.uid == described.uid }.map {
                "\($0.path) is left of a removal that has not ended, and the daemon keeps it while the account has a configuration; if it holds "
                    + "snapshots that are wanted, move it to the account's place; else: rm -rf \($0.path.shellWord)"
            }
            guard let home = try found.home(of: described, configuration) else { return }
            if found.isProvisioned {
                found.inspectConfiguration(
                    ConfigurationFile(of: described.uid, configuration), home,
                    levels: retained.filter { $0.value > 0 }.map(\.key))
            }
            found.attempt { $0.notices += try SnapshotStore(home).notices(configuration.snapshots) }
            guard let directory = try SnapshotDirectory.open(in: home) else { return }
            found.attempt { _ in snapshots = try directory.snapshots() }
            found.attempt {
                state = try directory.state()
                $0.isStateKnown = true
            }
        }
        lastAttempt = state?.lastAttempt
        levels = SnapshotLevel.allCases.compactMap { level in
            let own = snapshots.filter { $0.level == level }.sorted { $0.index < $1.index }
            let retain = retained[level] ?? 0
            guard retain > 0 || !own.isEmpty else { return nil }
            return BackupInspection.Level(
                level: level, retain: retain, snapshots: own, lastSuccess: state?.lastSuccess(of: level),
                lastCompletion: state?.lastCompletion(of: level))
        }
    }

    private mutating func home(
        of account: BackupAccount, _ configuration: BackupConfiguration
    ) throws -> HomePath? {
        let home = try configuration.places.home(of: account)
        let walk = try home.map { try HomeWalk(to: $0) }
        let isVacant = try walk?.isVacant() ?? true
        switch try isVacant ? .absent : walk?.condition(ownership: configuration.ownership) {
        case nil, .absent:
            let file = ConfigurationFile(of: account.uid, configuration)
            let missing = HomePath.missing(
                at: home.map { "\($0.path)" } ?? configuration.places.rootList,
                for: try isVacant && file.exists() ? file : nil)
            if isProvisioned { block(missing.reason, missing.hint) }
            return nil
        case .unfinished(let objection):
            if isProvisioned, let home {
                block("\(home.path) \(objection)", walk?.repair ?? ConfiguredSnapshots.provisionAgain)
            }
        case .whole: break
        }
        return home
    }

    private mutating func inspectConfiguration(_ file: ConfigurationFile, _ home: HomePath, levels: [SnapshotLevel]) {
        attempt { found in
            guard try file.exists() else {
                found.block("\(file.path) does not exist", ConfiguredSnapshots.provisionAgain)
                return
            }
            guard let text = try file.trustedText() else { return }
            let configured = ConfiguredSnapshots(parsing: text)
            try configured.demandSnapshots(in: HomeWalk(to: home), of: file)
            for level in levels { found.attempt { _ in try configured.demand(level, in: home, of: file) } }
            if let lock = configured.lockFile, let holder = AccountLock.holder(of: lock) {
                found.block("the account's lock \(lock) is held by \(holder)", "wait for its end")
            }
        }
    }

    /// Adds an obstacle.
    private mutating func block(_ reason: String, _ hint: String?) {
        obstacles.append(hint.map { "\(reason); \($0)" } ?? reason)
        self.hint = self.hint ?? hint
    }

    /// Runs a part of the inspection and reports its failure.
    private mutating func attempt(_ body: (inout BackupInspection) throws -> Void) {
        do {
            try body(&self)
        } catch let failure as ProvisioningFailure {
            // A failure of root's prevents a backup too; one of another user does not. Levels share the faults of their file.
            let text = "\(failure.reason); \(failure.hint)"
            if geteuid() == 0 {
                if !obstacles.contains(text) { block(failure.reason, failure.hint) }
            } else {
                let text = "\(text); or run this command as root"
                if !unknown.contains(text) { unknown.append(text) }
            }
        } catch let failure as HeldDirectory.Failure {
            let isRefused = failure.cause == .permissionDenied || failure.cause == .notPermitted
            unknown.append(
                "\(failure.path) cannot be read (\(failure.cause))"
                    + (isRefused ? "; only root can: run this command as root" : "; check the disk with dmesg and df"))
        } catch {
            unknown.append("the state file of the snapshots is damaged: \(error); the next backup replaces it")
        }
    }
}
