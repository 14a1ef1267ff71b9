package import LDAP
import EventLoop
import Glibc
package import JobCore
package import Provisioning
package import SystemPackage

/// Provisions backup accounts: home and chroot, disk quota, rsnapshot configuration (specification: protocol.md#the-work).
///
/// A plan validates the entry and examines the disk; its steps do only what is missing, so that a plan made after a crash brings the account
/// to the same state. If the home is already complete and the account has its rsnapshot configuration, `add` runs no script in the first attempt;
/// a later attempt does, since the one before may have interrupted it. Without the configuration it runs: a deletion removes that first, and then
/// lets the script undo what it made besides the home.
package struct BackupRsnapshotService: ProvisioningService {
    package let configuration: BackupConfiguration
    private let clock: any WallClock
    /// In layout `hashed`, chooses the volume of a new home (event NewVolume, specification: rows.md B2). nil or another directory: the
    /// first volume, which has the most free space.
    package var chooseVolume: @MainActor (_ job: JobID, _ pool: Pool) async -> FilePath? = { _, _ in nil }
    /// Until when the clock, from which the age of an archived home counts, may be wrong; nil: it is trusted.
    package var clockDoubtedUntil: @Sendable () -> Timestamp? = { nil }
    private let template: TemplateFile
    /// The first problem of the settings; no plan can be made then.
    private let settingsProblem: ProvisioningFailure?

    /// - Parameter clock: for the names of archived homes.
    package init(configuration: BackupConfiguration, clock: any WallClock = SystemWallClock()) {
        self.configuration = configuration
        self.clock = clock
        template = TemplateFile(configuration.template)
        settingsProblem = configuration.places.problems.first.map { problem in
            ProvisioningFailure(
                .cannotCheckHomeDirPresence, .configuration, reason: problem.reason, hint: problem.hint)
        }
    }

    /// The uid names the home, the quota and the rsnapshot configuration.
    package var uniqueAttribute: AttributeName? { BackupAttribute.uid }
    /// The uid. Also the group, in both directions, since files are accessible to it: no account may have the uid of another one as its group. A
    /// deletion makes no files.
    package func uniqueValues(of entry: Entry, for operation: Operation) -> [AttributeName: [AttributeValue]] {
        let uid = entry[BackupAttribute.uid]
        guard operation != .delete else { return [BackupAttribute.uid: uid] }
        func isUID(_ value: AttributeValue) -> Bool { value.text.map(BackupAccount.isUID) == true }
        let group = entry[BackupAttribute.gidNumber].filter { !uid.contains($0) && isUID($0) }
        return [BackupAttribute.uid: uid + group, BackupAttribute.gidNumber: uid.filter(isUID)]
    }
    package var requestedAttributes: [AttributeName] { BackupAttribute.all }

    /// If the entry is wrong or its home cannot be trusted there is nothing to lock; the plan reports it.
    package func lock(_ entry: Entry) async throws(ProvisioningFailure) -> (any Sendable)? {
        let account: BackupAccount
        do throws(ProvisioningFailure) {
            account = try BackupAccount(reading: entry, for: .delete, places: configuration.places)
        } catch {
            return ()
        }
        do throws(ProvisioningFailure) {
            return try await BlockingWork.run { () throws(ProvisioningFailure) in try HomeLock(of: account) }
        } catch {
            guard error.failureClass == .permanent else { throw error }
            return ()
        }
    }

    /// - Throws: `ProvisioningFailure`: 1 and 4 to 7 for the entry's problems, 2 for an account that the system does not know, 3 for
    ///   programs that are missing, 4 for a home whose place cannot be examined or trusted.
    package func plan(_ request: ProvisioningRequest) async throws(ProvisioningFailure) -> [any ProvisioningStep] {
        if let settingsProblem { throw settingsProblem }
        let account = try BackupAccount(
            reading: request.entry, for: request.operation, places: configuration.places)
        let home = try await home(of: account, request)
        return try await BlockingWork.run { () throws(ProvisioningFailure) in
            request.operation == .delete
                ? try deletion(of: account, home: home, request) : try provision(account, home: home, request)
        }
    }

    /// The home that the account has, or is to get.
    private func home(
        of account: BackupAccount, _ request: ProvisioningRequest
    ) async throws(ProvisioningFailure) -> HomePath {
        let places = configuration.places
        // Without a visit to the disk.
        if let home = places.fixedHome(of: account) { return home }
        let place = try await BlockingWork.run { () throws(ProvisioningFailure) in try places.place(of: account) }
        switch place {
        case .given(let home): return home
        case .new(let pool):
            if request.operation == .delete, let home = try await unfinishedRemoval(of: account) { return home }
            let chosen = request.operation == .delete ? nil : await chooseVolume(request.job, pool)
            let volume = chosen.flatMap { pool.volumes.contains($0) ? $0 : nil } ?? pool.volumes[0]
            return places.hashedHome(uid: account.uid, volume: volume)
        }
    }

    /// The place at which a removal has begun, which has left no home on any volume.
    private func unfinishedRemoval(of account: BackupAccount) async throws(ProvisioningFailure) -> HomePath? {
        guard configuration.onDelete == .remove else { return nil }
        return try await BlockingWork.run { () throws(ProvisioningFailure) in
            for home in account.homes where try HomeDisposalStep.isUnfinished(at: HomeWalk(to: home)) { return home }
            return nil
        }
    }

    private func provision(
        _ account: BackupAccount, home: HomePath, _ request: ProvisioningRequest
    ) throws(ProvisioningFailure) -> [any ProvisioningStep] {
        let rsync = try Program.rsync.find(configuration)
        try Program.demandRsnapshot(configuration)
        if configuration.requireSystemUser { try account.requireSystemUser() }

        let checksOwners = configuration.ownership == .account
        // Without a step all directories down to the home are root's.
        let walk = try HomeWalk(to: home, isTakenOver: checksOwners)
        let file = ConfigurationFile(of: account.uid, configuration)
        let configured = try configured(file)
        try demandHome(of: account, walk, file, configured)
        try configured?.demandSnapshots(in: walk, of: file, retry: Self.retry(account))
        let takeOver = checksOwners ? try HomeTakeOverStep(of: account, walk) : nil
        let condition = try walk.condition(ownership: configuration.ownership)
        var steps: [any ProvisioningStep] = []
        // Both before the script, which works by name, and may change the group of a directory but not of the files in it.
        if let takeOver { steps.append(takeOver) }
        if checksOwners,
            let step = try GroupStep(
                account: account, walk: walk, confinement: configuration.confinement,
                timeLimit: configuration.timeLimit)
        {
            steps.append(step)
        }
        func plainHome(makesHome: Bool) -> PlainHomeStep {
            PlainHomeStep(account: account, home: home, ownership: configuration.ownership, makesHome: makesHome)
        }
        if let script = configuration.homeScript {
            let occasion = Self.occasion(
                request, home, condition, isTakenOver: takeOver != nil, lacks: configured == nil ? file : nil)
            if let occasion {
                try HomeScriptStep.checkPermissions(script)
                steps.append(
                    HomeScriptStep(
                        script: script, account: account, home: home, request: request, configuration: configuration,
                        occasion: occasion, isFirst: steps.isEmpty))
                steps.append(plainHome(makesHome: false))
            }
        } else if condition != .whole {
            if configuration.quota == .btrfs { throw Self.noSubvolumes }
            steps.append(plainHome(makesHome: true))
        }
        let changesHome = steps.contains { $0 is HomeTakeOverStep || $0 is HomeScriptStep || $0 is PlainHomeStep }
        if let step = try snapshots(of: home, walk, afterHome: changesHome) { steps.append(step) }
        if let program = configuration.quota.program {
            let program = try program.find(configuration)
            func quota(lifts: Bool) throws(ProvisioningFailure) -> QuotaStep {
                try QuotaStep(
                    account: account, walk: walk, program: program, configuration: configuration, lifts: lifts)
            }
            let usual = try quota(lifts: false)
            // A limit of btrfs binds root too, which the steps before could exceed.
            if configuration.quota == .btrfs, !steps.isEmpty, try walk.subvolume() != nil {
                steps = [try quota(lifts: true)] + steps.map { LiftedStep(step: $0, quota: usual) }
            }
            steps.append(usual)
        }
        let current = try template.template()
        steps.append(
            try ConfigurationStep(
                file: file,
                text: try current.render(for: account, home: home, rsync: rsync, configuration: configuration),
                template: current, of: template, configuration: configuration, isFirst: steps.isEmpty))
        return steps
    }

    /// Refuses to make a home that was made elsewhere, or that its volume may hold. A home script may be there to mount a disk at an empty
    /// directory.
    private func demandHome(
        of account: BackupAccount, _ walk: HomeWalk, _ file: ConfigurationFile, _ configured: ConfiguredSnapshots?
    ) throws(ProvisioningFailure) {
        guard try !walk.hasUploads() else { return }
        guard let made = try unmovedHome(of: account, file, configured, at: walk.home), try walk.isVacant(),
            configuration.homeScript == nil || walk.account == nil
        else { return }
        throw HomePath.missing(at: "\(made)", for: file, retry: Self.retry(account))
    }

    /// - Returns: the home that was made according to the configuration; nil: none was.
    /// - Throws: code 4 if the account has no home there now.
    private func unmovedHome(
        of account: BackupAccount, _ file: ConfigurationFile, _ configured: ConfiguredSnapshots?, at home: HomePath
    ) throws(ProvisioningFailure) -> FilePath? {
        guard let made = configured?.home else { return nil }
        guard !account.homes.contains(where: { $0.path == made }) else { return made }
        throw ProvisioningFailure(
            .cannotCheckHomeDirPresence,
            reason: "there is no home at \(home.path), and \(file.path) names \(made)",
            hint: """
                move the home there, or correct homeDirectory or HOME_LAYOUT; to leave it where it is and begin with an empty one, \
                rm \(file.path.shellWord); then run: \(Self.retry(account))
                """)
    }

    private func configured(_ file: ConfigurationFile) throws(ProvisioningFailure) -> ConfiguredSnapshots? {
        try file.current().map(ConfiguredSnapshots.init(parsing:))
    }

    private static func retry(_ account: BackupAccount) -> String {
        "prov-backup-rsnapshot accounts retry \(account.uid)"
    }

    /// - Parameter afterHome: whether earlier steps may change the home.
    private func snapshots(
        of home: HomePath, _ walk: HomeWalk, afterHome: Bool
    ) throws(ProvisioningFailure) -> BlockingStep? {
        let (store, access) = (SnapshotStore(home), configuration.snapshots)
        if access == .own, try walk.store() == nil { return nil }
        // Earlier steps report what is wrong with the home.
        let condition = afterHome ? try? store.condition(walk) : try store.condition(walk)
        let calls = SnapshotStore.calls(
            from: condition ?? .init(isInStore: false, point: .absent), to: access, moves: true)
        guard afterHome || !calls.isEmpty else { return nil }
        let text = { @Sendable () -> String in
            calls.isEmpty ? "as SNAPSHOTS says" : calls.map(store.text).joined(separator: "\n")
        }
        return BlockingStep(name: "snapshots", text: text) { try store.settle(access) }
    }

    private func deletion(
        of account: BackupAccount, home: HomePath, _ request: ProvisioningRequest
    ) throws(ProvisioningFailure) -> [any ProvisioningStep] {
        let walk = try HomeWalk(to: home)
        var steps: [any ProvisioningStep] = []
        let file = ConfigurationFile(of: account.uid, configuration)
        if try file.exists() {
            if configuration.onDelete == .keep {
                try configured(file)?.demandUnmounted(walk, retry: Self.retry(account))
            } else {
                try demandWhole(account, walk, file)
            }
            steps.append(
                BlockingStep(name: "rsnapshot configuration", text: { "remove \(file.path)" }, work: file.remove))
        }
        if let script = configuration.homeScript {
            try HomeScriptStep.checkPermissions(script)
            steps.append(
                HomeScriptStep(
                    script: script, account: account, home: home, request: request, configuration: configuration,
                    occasion: "the account is deleted", isFirst: false))
        }
        if try hasSomething(walk) {
            if configuration.onDelete == .archive, let until = clockDoubtedUntil() {
                throw ProvisioningFailure(
                    .undefinedError, .shortage,
                    reason: "the machine's clock may be wrong, and the age of archived homes would count from it",
                    hint:
                        "synchronize the clock (timedatectl); deletes continue by themselves, at the latest at \(until.text)"
                )
            }
            steps.append(
                HomeDisposalStep(
                    account: account, home: home, disposal: configuration.onDelete,
                    timeLimit: configuration.timeLimit, clock: clock,
                    demandUnique: request.demandUnique))
        }
        return steps
    }

    /// Whether there is something to be kept, archived or removed.
    private func hasSomething(_ walk: HomeWalk) throws(ProvisioningFailure) -> Bool {
        if try walk.store() != nil { return true }
        switch configuration.onDelete {
        case .keep: return false
        case .archive: return walk.account != nil
        case .remove: return try walk.account != nil ? true : HomeDisposalStep.isUnfinished(at: walk)
        }
    }

    /// Refuses to archive or remove less than what the account has.
    private func demandWhole(
        _ account: BackupAccount, _ walk: HomeWalk, _ file: ConfigurationFile
    ) throws(ProvisioningFailure) {
        let (retry, configured) = (Self.retry(account), try configured(file))
        if try !walk.hasUploads() {
            let made = try unmovedHome(of: account, file, configured, at: walk.home)
            if try walk.isVacant() { throw HomePath.missing(at: "\(made ?? walk.home.path)", for: file, retry: retry) }
        }
        try configured?.demandSnapshots(in: walk, of: file, retry: retry)
    }

    /// Why the home script runs; nil: it does not.
    /// - Parameter file: the rsnapshot configuration, if it is missing.
    private static func occasion(
        _ request: ProvisioningRequest, _ home: HomePath, _ condition: HomeCondition, isTakenOver: Bool,
        lacks file: ConfigurationFile?
    ) -> String? {
        switch condition {
        case .absent: "\(home.path) does not exist"
        case .unfinished(let objection): "\(home.path) \(objection)"
        case .whole where isTakenOver: "\(home.path) was not safe from the account"
        case .whole where request.operation == .modify: "the account is modified"
        case .whole where request.attempt > 1: "an attempt before may have been cut off"
        case .whole: file.map { "\($0.path) does not exist, as after a delete, which undoes what the script made" }
        }
    }

    static let noSubvolumes = ProvisioningFailure(
        .cannotSetQuota, .configuration,
        reason: "QUOTA is btrfs and HOME_SCRIPT is empty, so nothing makes a subvolume",
        hint: "set HOME_SCRIPT to a script that makes one, such as the shipped create-chroot.sh")
}

/// A step that runs no program.
private struct BlockingStep: ProvisioningStep {
    let name: String
    let text: @Sendable () -> String
    let work: @Sendable () throws -> Void

    var preview: String { text() }

    func perform(in attempt: RunningAttempt) async throws {
        let work = work
        try await BlockingWork.run { _ in try work() }
    }
}
