package import LDAP
import EventLoop
import Glibc
package import JobCore
package import Provisioning
package import SystemPackage

/// Provisions backup accounts: home and chroot, disk quota, rsnapshot configuration (specification: protocol.md#the-work).
///
/// A plan validates the entry and looks at the disk; its steps then do only what is missing, so that a plan made again after a crash
/// brings the account to where an undisturbed run would have. Where the home already stands whole, `add` runs no script in the first
/// attempt; a later attempt does, for the one before may have been cut off in the middle of it.
package struct BackupRsnapshotService: ProvisioningService {
    /// The settings.
    package let configuration: BackupConfiguration
    private let clock: any WallClock
    private let newVolume: @MainActor (_ job: JobID, _ choice: VolumeChoice) async -> FilePath?
    private let template: TemplateFile
    private let tester = ConfigurationTester()
    /// Why nothing can be done with these settings.
    private let misplaced: ProvisioningFailure?

    /// - Parameters:
    ///   - configuration: the settings.
    ///   - clock: from which archived homes get their names.
    ///   - newVolume: is asked, in layout `hashed`, to which of the volumes a new home goes (event NewVolume, specification: rows.md B2). nil, or a directory that
    ///     is none of them, means the first, which has the most free space.
    package init(
        configuration: BackupConfiguration, clock: any WallClock = SystemWallClock(),
        newVolume: @escaping @MainActor (_ job: JobID, _ choice: VolumeChoice) async -> FilePath? = { _, _ in nil }
    ) {
        self.configuration = configuration
        self.clock = clock
        self.newVolume = newVolume
        template = TemplateFile(configuration.template)
        misplaced = configuration.places.problems.first.map { problem in
            ProvisioningFailure(
                .cannotCheckHomeDirPresence, .configuration, reason: problem.reason, hint: problem.hint)
        }
    }

    /// The uid names the home, the quota and the rsnapshot configuration.
    package var uniqueAttribute: AttributeName? { BackupAttribute.uid }
    /// Also the group, where it could be that of another account: its files would be open to this one.
    package func uniqueValues(of entry: Entry) -> [AttributeValue] {
        let group = entry[BackupAttribute.gidNumber].filter { value in
            !entry[BackupAttribute.uid].contains(value) && value.text.map(BackupAccount.isUID) == true
        }
        return entry[BackupAttribute.uid] + group
    }
    /// What a plan reads of an entry.
    package var requestedAttributes: [AttributeName] { BackupAttribute.all }

    /// Where the entry is wrong, or the way to its home cannot be trusted, the plan says so, and there is nothing to lock.
    package func lock(_ entry: Entry) async throws(ProvisioningFailure) -> (any Sendable)? {
        let account: BackupAccount
        do throws(ProvisioningFailure) {
            account = try BackupAccount(reading: entry, for: .delete, places: configuration.places)
        } catch {
            return ()
        }
        do throws(ProvisioningFailure) {
            return try await examine { () throws(ProvisioningFailure) in try HomeLock(of: account) }
        } catch {
            guard error.failureClass == .permanent else { throw error }
            return ()
        }
    }

    /// - Throws: `ProvisioningFailure`: 1 and 4 to 7 for the entry's problems, 2 for an account that the system does not know, 3 for
    ///   programs that are missing, 4 for a home whose place cannot be examined or trusted.
    package func plan(_ request: ProvisioningRequest) async throws(ProvisioningFailure) -> [any ProvisioningStep] {
        if let misplaced { throw misplaced }
        let account = try BackupAccount(
            reading: request.entry, for: request.operation, places: configuration.places)
        // All that is looked at, in one stay on a thread that may block; in a second one only where a handler is asked between.
        switch try await examine({ () throws(ProvisioningFailure) in try draft(of: account, request) }) {
        case .whole(let steps): return steps
        case .asks(let choice):
            let wish = await newVolume(request.job, choice)
            let home = home(of: account, wish: wish, among: choice)
            return try await examine { () throws(ProvisioningFailure) in try provision(account, home: home, request) }
        }
    }

    private enum Draft {
        case whole([any ProvisioningStep])
        /// A handler says first where the new home lies.
        case asks(VolumeChoice)
    }

    private func draft(
        of account: BackupAccount, _ request: ProvisioningRequest
    ) throws(ProvisioningFailure) -> Draft {
        switch (try HomeChoice(configuration: configuration).place(of: account), request.operation) {
        case (.given(let home), .delete): .whole(try deletion(of: account, home: home, request))
        case (.given(let home), _): .whole(try provision(account, home: home, request))
        case (.new(let choice), .delete):
            .whole(try deletion(of: account, home: home(of: account, wish: nil, among: choice), request))
        case (.new(let choice), _): .asks(choice)
        }
    }

    private func home(of account: BackupAccount, wish: FilePath?, among choice: VolumeChoice) -> HomePath {
        let volume = wish.flatMap { choice.volumes.contains($0) ? $0 : nil } ?? choice.volumes[0]
        return configuration.places.hashedHome(uid: account.uid, volume: volume)
    }

    /// Looks at the disk, away from the threads that all tasks share.
    private func examine<Value: Sendable>(
        _ body: @escaping @Sendable () throws(ProvisioningFailure) -> Value
    ) async throws(ProvisioningFailure) -> Value {
        try await BlockingWork.run { Result { () throws(ProvisioningFailure) in try body() } }.get()
    }

    private func provision(
        _ account: BackupAccount, home: HomePath, _ request: ProvisioningRequest
    ) throws(ProvisioningFailure) -> [any ProvisioningStep] {
        let rsync = try Program.rsync.find(configuration)
        try Program.demand(configuration.rsnapshot, setting: "RSNAPSHOT", package: "rsnapshot")
        if configuration.requireSystemUser { try SystemUser.demand(account) }

        let takeOver = configuration.ownership == .account ? try HomeTakeOver(of: account, home: home) : nil
        let walk = try HomeWalk(to: home, isTakenOver: takeOver != nil)
        let condition = try walk.condition(ownership: configuration.ownership)
        var steps: [any ProvisioningStep] = []
        // Before the script, which works by name.
        if let takeOver { steps.append(HomeTakeOverStep(takeOver: takeOver)) }
        // Before the script, which may set the group of a directory and not of what is in it.
        if configuration.ownership == .account,
            let change = try GroupChange(of: account, home: home, walk, confinement: configuration.confinement)
        {
            steps.append(GroupStep(change: change, timeLimit: configuration.timeLimit))
        }
        let plain = PlainHome(account: account, home: home, ownership: configuration.ownership)
        if let script = configuration.homeScript {
            if let occasion = Self.occasion(request, home, condition, takeOver) {
                try HomeScriptStep.checkPermissions(script)
                steps.append(
                    HomeScriptStep(
                        script: script, account: account, home: home, request: request, configuration: configuration,
                        occasion: occasion))
                steps.append(try PlainHomeStep(home: plain, walk: walk, makesHome: false))
            }
        } else if condition != .whole {
            if configuration.quota == .btrfs { throw Self.noSubvolumes }
            steps.append(try PlainHomeStep(home: plain, walk: walk, makesHome: true))
        }
        let changesHome = steps.contains { $0 is HomeTakeOverStep || $0 is HomeScriptStep || $0 is PlainHomeStep }
        if let step = try snapshots(of: home, walk, afterHome: changesHome) { steps.append(step) }
        if let program = configuration.quota.program {
            steps.append(
                try QuotaStep(
                    account: account, walk: walk, program: try program.find(configuration), configuration: configuration
                ))
        }
        steps.append(
            try ConfigurationStep(
                file: file(of: account),
                rendering: try RsnapshotRendering(
                    template.template(), account: account, home: home, rsync: rsync, configuration: configuration),
                configuration: configuration, tester: tester, isFirst: steps.isEmpty))
        return steps
    }

    /// - Parameter afterHome: whether steps before it may change the home.
    private func snapshots(
        of home: HomePath, _ walk: HomeWalk, afterHome: Bool
    ) throws(ProvisioningFailure) -> SnapshotStoreStep? {
        let (store, access) = (SnapshotStore(home), configuration.snapshots)
        if access == .own, try walk.store() == nil { return nil }
        // What the steps before do not leave in order is for them to say.
        let condition = afterHome ? try? store.condition() : try store.condition()
        let step = SnapshotStoreStep(store: store, access: access, condition: condition)
        return afterHome || !step.calls.isEmpty ? step : nil
    }

    private func deletion(
        of account: BackupAccount, home: HomePath, _ request: ProvisioningRequest
    ) throws(ProvisioningFailure) -> [any ProvisioningStep] {
        let walk = try HomeWalk(to: home)
        var steps: [any ProvisioningStep] = []
        let file = file(of: account)
        if try file.exists() { steps.append(ConfigurationRemovalStep(file: file)) }
        if let script = configuration.homeScript {
            try HomeScriptStep.checkPermissions(script)
            steps.append(
                HomeScriptStep(
                    script: script, account: account, home: home, request: request, configuration: configuration,
                    occasion: "the account is deleted"))
        }
        let hasStore = try walk.store() != nil
        if hasStore || configuration.onDelete != .keep && walk.account != nil {
            steps.append(
                HomeDisposalStep(
                    account: account, home: home, disposal: configuration.onDelete,
                    timeLimit: configuration.timeLimit, clock: clock,
                    demandUnique: request.demandUnique))
        }
        return steps
    }

    private func file(of account: BackupAccount) -> ConfigurationFile {
        ConfigurationFile(
            directory: configuration.configurationDirectory, uid: account.uid, ownership: configuration.ownership)
    }

    /// Why the home script is to run, or nil when it is not.
    private static func occasion(
        _ request: ProvisioningRequest, _ home: HomePath, _ condition: HomeCondition, _ takeOver: HomeTakeOver?
    ) -> String? {
        switch condition {
        case .absent: "\(home.path) does not exist"
        case .unfinished(let objection): "\(home.path) \(objection)"
        case .whole where takeOver != nil: "\(home.path) was not safe from the account"
        case .whole where request.operation == .modify: "the account is modified"
        case .whole where request.attempt > 1: "an attempt before may have been cut off"
        case .whole: nil
        }
    }

    static let noSubvolumes = ProvisioningFailure(
        .cannotSetQuota, .configuration,
        reason: "QUOTA is btrfs and HOME_SCRIPT is empty, so nothing makes a subvolume",
        hint: "set HOME_SCRIPT to a script that makes one, such as the shipped create-chroot.sh")
}

extension QuotaBackend {
    var program: Program? {
        switch self {
        case .none: nil
        case .setquota: .setquota
        case .btrfs: .btrfs
        }
    }
}
