import EventLoop
import JobCore
import Provisioning
import SystemPackage

/// Sets the account's disk quota to that of its entry.
///
/// Errors: code 6 with the program's output; code 3 if the program is missing.
struct QuotaStep: ProvisioningStep {
    let account: BackupAccount
    let home: HomePath
    let program: FilePath
    let configuration: BackupConfiguration
    let name: String
    private let lifts: Bool
    /// Bytes; nil: no limit.
    private let limit: UInt64?
    /// The arguments that the plan determined.
    private let arguments: [String]

    /// - Parameters:
    ///   - walk: to the home, as of the plan.
    ///   - lifts: whether the limit is removed, for steps that follow and that it would bind.
    /// - Throws: code 6 if the place of the home is on no known mount.
    init(
        account: BackupAccount, walk: HomeWalk, program: FilePath, configuration: BackupConfiguration,
        lifts: Bool = false
    ) throws(ProvisioningFailure) {
        self.account = account
        self.lifts = lifts
        (name, limit) = lifts ? ("lift quota", nil) : ("quota", account.quota)
        home = walk.home
        self.program = program
        self.configuration = configuration
        arguments = try Self.arguments(account, limit, walk, configuration)
    }

    var preview: String {
        ([program.string] + arguments).commandText(environment: configuration.baseEnvironment)
    }

    func perform(in attempt: RunningAttempt) async throws {
        let (account, limit, home, configuration, lifts) = (account, limit, home, configuration, lifts)
        let arguments = try await BlockingWork.run { _ in
            // The limit is lifted before a home is taken over.
            let walk = try HomeWalk(to: home, isTakenOver: lifts)
            if configuration.quota == .btrfs {
                try HomeWalk.explained(below: home.root) { try Self.demandSubvolume(walk) }
            }
            return try Self.arguments(account, limit, walk, configuration)
        }
        let invocation = ScriptInvocation(
            executable: program, arguments: arguments, environment: configuration.baseEnvironment,
            timeLimit: .seconds(60), grace: configuration.scriptGrace)
        let result = try await attempt.run(invocation, code: .cannotSetQuota, hint: "run it by hand: \(program)")
        guard let complaint = result.complaint else { return }
        throw ProvisioningFailure(
            .cannotSetQuota, result.cause == .timeLimit ? .retryable : .permanent,
            reason: "\(([program.string] + arguments).map(\.shellWord).joined(separator: " ")) \(complaint)",
            hint: configuration.quota == .setquota
                ? "mount the file system with quotas (usrquota, or tune2fs -O quota) and switch them on (quotaon), or set QUOTA = none"
                : "switch quotas on (btrfs quota enable), or set QUOTA = none",
            output: result.outputTail)
    }

    /// setquota takes blocks of 1024 bytes and inodes, rounded up here; the soft limit is the hard limit, so that no grace time applies.
    private static func arguments(
        _ account: BackupAccount, _ limit: UInt64?, _ walk: HomeWalk, _ configuration: BackupConfiguration
    ) throws(ProvisioningFailure) -> [String] {
        switch configuration.quota {
        case .none: return []
        case .btrfs:
            let (value, directory) = (limit.map(\.description) ?? "none", walk.home.accountDirectory)
            let isMount = try HomeWalk.explained(below: walk.home.root) {
                try walk.account != nil && walk.accountParent?.hasMount(at: walk.home.accountName) == true
            }
            // By number from outside: inside the kernel refuses also this change once the limit is reached. The number of a mount's top means
            // another subvolume outside.
            let number = isMount ? nil : try walk.subvolume()
            let place = number.map { ["0/\($0)", directory.removingLastComponent().string] } ?? [directory.string]
            return ["qgroup", "limit", value] + place
        case .setquota:
            let bytes = limit ?? 0
            let blocks = "\((bytes + 1023) / 1024)"
            let files = "\(((bytes + (1 << 30) - 1) >> 30) * UInt64(configuration.quotaFiles))"
            return ["-u", String(account.uidNumber), blocks, blocks, files, files, try mountPoint(walk).string]
        }
    }

    /// The mount point of the home, or of the deepest directory above it that exists.
    private static func mountPoint(_ walk: HomeWalk) throws(ProvisioningFailure) -> FilePath {
        let home = walk.home
        do throws(HeldDirectory.Failure) {
            if let directory = walk.deepest,
                let mount = try MountTable.current(near: directory.realPath()).mount(holding: directory)
            {
                return mount.point
            }
        } catch {
            let failureClass = FailureClass(error.cause) ?? .retryable
            throw ProvisioningFailure(
                .cannotSetQuota, failureClass, reason: "the mount of \(home.path) could not be found: \(error)",
                hint: failureClass == .shortage
                    ? error.cause.shortageHint(at: "/proc") : "let the daemon read /proc/self/mountinfo")
        }
        throw ProvisioningFailure(
            .cannotSetQuota, reason: "\(home.path) lies on no mount that /proc/self/mountinfo lists",
            hint: "let the daemon see the mounts of the machine, or set QUOTA = none")
    }

    /// btrfs limits only subvolumes.
    private static func demandSubvolume(_ walk: HomeWalk) throws {
        guard walk.account != nil, try walk.subvolume() == nil else { return }
        throw ProvisioningFailure(
            .cannotSetQuota, reason: "\(walk.home.accountDirectory) is not a btrfs subvolume",
            hint: "let HOME_SCRIPT make it with btrfs subvolume create, as the shipped script does on btrfs")
    }
}

/// A step for which the quota was lifted. If it fails, the quota is set again.
struct LiftedStep: ProvisioningStep {
    let step: any ProvisioningStep
    let quota: QuotaStep

    var name: String { step.name }
    var preview: String { step.preview }

    func perform(in attempt: RunningAttempt) async throws {
        do {
            try await step.perform(in: attempt)
        } catch {
            // This task may be cancelled.
            let restored = await Task { try await quota.perform(in: attempt) }.result
            if case .failure(let error) = restored { attempt.write("the quota was not set again: \(error)") }
            throw error
        }
    }
}
