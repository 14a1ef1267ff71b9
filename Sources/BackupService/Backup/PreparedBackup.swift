import EventLoop
import JobCore
import LDAP
import Provisioning
import SystemPackage

/// What a backup job needs, after all checks.
struct PreparedBackup: Sendable {
    let account: BackupAccount
    let home: HomePath
    var work: SnapshotWork
    /// The deadline of all work on the account's files but the rotation.
    let deadline: Deadline
    var warnings: [String]
    /// Another entry with the same uid, whose job makes the snapshot of their home; nil: there is none.
    var copiedBy: DN?

    /// Checks the home and the configuration of an account. It blocks.
    /// - Throws: `ProvisioningFailure`.
    init(
        _ account: BackupAccount, _ level: SnapshotLevel, _ configuration: BackupConfiguration,
        _ jobs: BackupJobsConfiguration, clock: any WallClock, steadyClock: any SteadyClock
    ) throws {
        try Program.demandRsnapshot(configuration)
        let file = ConfigurationFile(of: account.uid, configuration)
        let made = try file.exists() ? file : nil
        switch try configuration.places.place(of: account) {
        case .given(let place): home = place
        case .new(let pool):
            throw HomePath.missing(at: pool.volumes.map { "\($0)" }.joined(separator: " or "), for: made)
        }
        let walk = try HomeWalk(to: home)
        if try walk.isVacant() { throw HomePath.missing(at: "\(home.path)", for: made) }
        switch try walk.condition(ownership: configuration.ownership) {
        case .whole: break
        case .absent: throw HomePath.missing(at: "\(home.path)")
        case .unfinished(let objection):
            throw ProvisioningFailure(
                .cannotCheckHomeDirPresence, reason: "\(home.path) \(objection)", hint: walk.repair)
        }
        guard let text = try file.trustedText() else {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, reason: "\(file.path) does not exist",
                hint: ConfiguredSnapshots.provisionAgain)
        }
        let configured = ConfiguredSnapshots(parsing: text)
        try configured.demandSnapshots(in: walk, of: file)
        try configured.demand(level, in: home, of: file)
        guard let snapshots = try walk.snapshots().map(SnapshotDirectory.init) else {
            throw HomePath.missing(at: "\(home.snapshots)")
        }
        let sandbox = try CopySandbox(
            configuration, account: account, home: home, snapshots: snapshots.path, configured: configured,
            memory: jobs.memory)
        self.account = account
        work = SnapshotWork(snapshots: snapshots, configured: configured, sandbox: sandbox, clock: clock)
        deadline = Deadline(in: jobs.timeLimit, by: steadyClock)
        warnings = []
        if configuration.snapshots == .own, try walk.store() == nil { return }
        // A wrong mount does not prevent a snapshot.
        do throws(ProvisioningFailure) {
            try SnapshotStore(home).show(configuration.snapshots)
        } catch {
            warnings = ["the snapshots are not mounted as SNAPSHOTS says: \(error.reason); \(error.hint)"]
        }
    }

    /// Takes the account's lock. It blocks.
    /// - Returns: nil if the configuration has no lock file.
    /// - Throws: a retryable `JobOutcome` while another process works on the snapshots.
    func lock(isCancelled: @escaping @Sendable () -> Bool) throws -> AccountLock? {
        guard let file = work.configured.lockFile else { return nil }
        do {
            do {
                return try AccountLock.take(file)
            } catch Errno.noSpace where AccountLock.holder(of: file) == nil {
                // No other process can take it now, and this account's old snapshots may fill the disk.
                try work.makeRoom(isCancelled: isCancelled)
                return try AccountLock.take(file)
            }
        } catch var held as JobOutcome {
            held.message = "rsnapshot already runs for the account: \(held.message); wait for its end"
            throw held
        } catch let error as Errno {
            let directory = file.removingLastComponent()
            let hint =
                switch error {
                case _ where error.isShortage: error.shortageHint(at: directory)
                case .noSuchFileOrDirectory: "make its directory: install -d -m 0700 \(directory.shellWord)"
                default: "check its directory"
                }
            throw JobOutcome(
                .failed, failureClass: error.isShortage ? .shortage : .permanent,
                message: "the lock file \(file) could not be made: \(error); \(hint)")
        }
    }

    /// Whether there are files to copy.
    func hasUploads() throws -> Bool {
        try HomeWalk(to: home).directory?.directory(HomePath.incomingName)?.isEmpty() == false
    }
}
