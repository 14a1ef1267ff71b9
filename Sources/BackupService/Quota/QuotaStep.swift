import EventLoop
import JobCore
import Provisioning
import SystemPackage

/// Gives the account the disk limit that its entry says.
///
/// Diagnostics: code 6 with the program's output; code 3 where the program is missing.
struct QuotaStep: ProvisioningStep {
    let account: BackupAccount
    let home: HomePath
    let program: FilePath
    let configuration: BackupConfiguration
    let preview: String

    var name: String { "quota" }

    /// - Throws: code 6 when the place of the home is on no mount that is known.
    /// - Parameter walk: to the home, as it is when the plan is made.
    init(account: BackupAccount, walk: HomeWalk, program: FilePath, configuration: BackupConfiguration)
        throws(ProvisioningFailure)
    {
        self.account = account
        home = walk.home
        self.program = program
        self.configuration = configuration
        let arguments = try Self.arguments(account: account, walk, configuration)
        preview = "\(CommandText([program.string] + arguments, environment: configuration.baseEnvironment))"
    }

    func perform(in attempt: RunningAttempt) async throws {
        let (account, home, configuration) = (account, home, configuration)
        let arguments = try await BlockingWork.run { _ in
            do {
                let walk = try HomeWalk(to: home)
                if configuration.quota == .btrfs { try Self.demandSubvolume(walk) }
                return try Self.arguments(account: account, walk, configuration)
            } catch let failure as HeldDirectory.Failure {
                throw HomeWalk.explain(failure, root: home.root)
            }
        }
        let invocation = ScriptInvocation(
            executable: program, arguments: arguments, environment: configuration.baseEnvironment,
            timeLimit: .seconds(60), grace: configuration.scriptGrace)
        let result = try await attempt.run(invocation, code: .cannotSetQuota, hint: "look at \(program)")
        guard let complaint = result.complaint else { return }
        throw ProvisioningFailure(
            .cannotSetQuota, result.cause == .timeLimit ? .retryable : .permanent,
            reason: "\(([program.string] + arguments).map(\.shellWord).joined(separator: " ")) \(complaint)",
            hint: configuration.quota == .setquota
                ? "mount the file system with quotas (usrquota, or tune2fs -O quota) and switch them on (quotaon), or set QUOTA = none"
                : "switch quotas on (btrfs quota enable), or set QUOTA = none",
            output: result.outputTail)
    }

    /// setquota counts in blocks of 1024 bytes and in inodes; soft and hard limit are the same, so that there is no period of grace.
    private static func arguments(
        account: BackupAccount, _ walk: HomeWalk, _ configuration: BackupConfiguration
    ) throws(ProvisioningFailure) -> [String] {
        switch configuration.quota {
        case .none: return []
        case .btrfs:
            return ["qgroup", "limit", account.quota.map(\.description) ?? "none", walk.home.accountDirectory.string]
        case .setquota:
            let blocks = String(account.quota?.kibibytesRoundedUp ?? 0)
            let files = String((account.quota?.gibibytesRoundedUp ?? 0) * UInt64(configuration.quotaFiles))
            return ["-u", String(account.uidNumber), blocks, blocks, files, files, try mountPoint(walk).string]
        }
    }

    /// Where the home is not there yet, that of the deepest directory on the way to it.
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
                    ? error.cause.shortageHint(at: "/proc") : "let the daemon see /proc/self/mountinfo")
        }
        throw ProvisioningFailure(
            .cannotSetQuota, reason: "\(home.path) lies on no mount that /proc/self/mountinfo lists",
            hint: "let the daemon see the mounts of the machine, or set QUOTA = none")
    }

    /// A limit can be set on a subvolume only: its top has the inode number 256.
    private static func demandSubvolume(_ walk: HomeWalk) throws {
        guard let account = walk.account else { return }
        let mount = try MountTable.current(near: account.realPath()).mount(holding: account)
        guard mount?.type == "btrfs", try account.status().st_ino == 256 else {
            throw ProvisioningFailure(
                .cannotSetQuota, reason: "\(walk.home.accountDirectory) is not a btrfs subvolume",
                hint: "let HOME_SCRIPT make it with btrfs subvolume create, as the shipped script does on btrfs")
        }
    }
}
