import Glibc
import JobCore
import Provisioning
import SystemPackage

/// How a copy is confined (setting BACKUP_SANDBOX).
package enum CopyConfinement: String, CaseIterable, Hashable, Sendable {
    /// As the account, in a sandbox with nothing but its home and /usr.
    case on
    /// As root with the capabilities for copying, in such a sandbox: for uploads with files of other owners.
    case root
    /// As the account, without a sandbox: files that the account may not read are not copied.
    case off
}

/// The command that copies an account's uploads with rsnapshot in a sandbox (specification: snapshots.md#the-sandbox): root must not write where
/// a customer can rename, so rsnapshot, rsync and rm run as the account and see nothing but its files.
struct CopySandbox: Sendable {
    var confinement: CopyConfinement
    /// The user of the copy; nil: the daemon's own (OWNERSHIP = none).
    var account: (uid: UInt32, gid: UInt32)?
    var home: FilePath
    /// The directory of the snapshots, in the home or outside.
    var snapshots: FilePath
    /// nil: there is no sandbox.
    var bubblewrap: FilePath?
    var confine: FilePath
    var rsnapshot: FilePath
    /// Run by `prov-backup-confine`.
    var rsync: FilePath
    /// The most address space of each process, in bytes; 0: no limit.
    var memory: UInt64
    /// Other files that rsync reads.
    var files: [FilePath] = []

    static let helper = "prov-backup-confine"

    /// Where the helper is installed; in a build directory it is next to the program.
    static var installedHelper: FilePath {
        let installed = FilePath("/usr/lib/prov-backup-rsnapshot").appending(helper)
        var room = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        guard readlink("/proc/self/exe", &room, room.count - 1) > 0 else { return installed }
        let built = FilePath(platformString: room).removingLastComponent().appending(helper)
        return Program.isExecutable(built) ? built : installed
    }

    /// The priority of the copy, 0 to 19; if not 0, it also gets the lowest I/O priority.
    private static let nice = 10
    /// The path of `prov-backup-confine` in the sandbox.
    private static let confineInside: FilePath = "/run/prov-backup-confine"
    private static let environment = ["PATH": "/usr/bin:/bin", "LC_ALL": "C"]

    /// Whether copies are sandboxed; only root can do that.
    static func isConfined(_ confinement: CopyConfinement) -> Bool { confinement != .off && geteuid() == 0 }

    /// The program that rsnapshot runs as rsync.
    var rsyncOfRsnapshot: FilePath { bubblewrap != nil ? Self.confineInside : confine }

    /// Runs `rsnapshot sync`.
    /// - Parameter configuration: the configuration of the run, in the directory of the snapshots.
    func invocation(copyingBy configuration: FilePath, timeLimit: Duration, grace: Duration) -> ScriptInvocation {
        invocation(
            of: [rsnapshot.string, "-c", configuration.string, "sync"], timeLimit: timeLimit, grace: grace)
    }

    /// Runs `true`, to test the sandbox on this machine.
    var trial: ScriptInvocation { invocation(of: ["/usr/bin/true"], timeLimit: .seconds(30), grace: .seconds(1)) }

    private func invocation(of command: [String], timeLimit: Duration, grace: Duration) -> ScriptInvocation {
        var environment = Self.environment
        environment["PROV_RSYNC"] = rsync.string
        let ids = confinement == .on && bubblewrap != nil ? account ?? (0, 0) : nil
        let limits = [ids.map { "\($0.uid)" } ?? "-", ids.map { "\($0.gid)" } ?? "-", "\(memory)", "\(Self.nice)"]
        var invocation = ScriptInvocation(
            executable: confine, arguments: limits + command, environment: environment, timeLimit: timeLimit,
            grace: grace, hasReports: true)
        if let bubblewrap {
            invocation.executable = bubblewrap
            invocation.arguments =
                namespaces + files(environment) + ["--", Self.confineInside.string] + limits + command
            // --die-with-parent refers to the thread that starts bubblewrap.
            invocation.isTiedToProcess = true
        } else if let account, geteuid() == 0 {
            // Only rsync runs as the account, since rsnapshot requires a snapshot_root that it may write.
            invocation.environment["PROV_UID"] = "\(account.uid)"
            invocation.environment["PROV_GID"] = "\(account.gid)"
        }
        return invocation
    }

    private var namespaces: [String] {
        let capabilities =
            confinement == .root
            ? ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID"] : ["CAP_SETUID", "CAP_SETGID"]
        return [
            "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
            "--die-with-parent", "--new-session", "--json-status-fd", "3", "--cap-drop", "ALL",
        ] + capabilities.flatMap { ["--cap-add", $0] }
    }

    private func files(_ environment: [String: String]) -> [String] {
        func show(_ path: FilePath, as inside: FilePath? = nil) -> [String] {
            // Parents that bubblewrap makes itself are accessible to root only; those of --dir to all.
            let inside = inside ?? path
            return ["--dir", inside.removingLastComponent().string, "--ro-bind", path.string, inside.string]
        }
        var arguments = ["--clearenv"]
        for (name, value) in environment.sorted(by: { $0.key < $1.key }) { arguments += ["--setenv", name, value] }
        arguments += ["--ro-bind", "/usr", "/usr"]
        for name in ["bin", "lib", "lib64", "sbin"] { arguments += ["--symlink", "usr/\(name)", "/\(name)"] }
        arguments += ["--dev", "/dev", "--proc", "/proc", "--perms", "1777", "--tmpfs", "/run"]
        for path in [home] + (snapshots.starts(with: home) ? [] : [snapshots]) {
            arguments += ["--dir", path.string, "--bind", path.string, path.string]
        }
        arguments += show(confine, as: Self.confineInside)
        for path in [rsnapshot, rsync] + files where !path.starts(with: "/usr") {
            arguments += show(path)
        }
        return arguments + ["--remount-ro", "/", "--chdir", "/"]
    }
}

extension CopySandbox {
    /// The sandbox of a copy.
    /// - Throws: code 3 if a program is missing, if others could change it or a file that rsync reads, or if the copy cannot reach the snapshots.
    init(
        _ configuration: BackupConfiguration, account: BackupAccount, home: HomePath, snapshots: FilePath,
        configured: ConfiguredSnapshots, memory: UInt64
    ) throws(ProvisioningFailure) {
        guard CopySandbox.isConfined(configuration.confinement) || snapshots.starts(with: home.path) else {
            throw ProvisioningFailure(
                .runtimeRequirementNotSatisfied, .configuration,
                reason: "the snapshots lie in \(snapshots), where without a sandbox the account cannot copy to",
                hint: "write BACKUP_SANDBOX = on; or SNAPSHOTS = own, and then " + ConfiguredSnapshots.provisionAgain)
        }
        for file in configured.patternFiles {
            try FileTrust.demand(
                file, as: .file, setting: TrustedPath.patternFile, code: .runtimeRequirementNotSatisfied)
        }
        try self.init(
            configuration, account: (account.uidNumber, account.gidNumber), home: home.path, snapshots: snapshots,
            rsync: configured.rsync, memory: memory, files: configured.patternFiles)
    }

    /// - Parameter rsync: of the account's configuration; nil: the first of the directories of the settings.
    /// - Throws: code 3 if a program is missing, or if others could change it.
    init(
        _ configuration: BackupConfiguration, account: (uid: UInt32, gid: UInt32), home: FilePath, snapshots: FilePath,
        rsync: FilePath? = nil, memory: UInt64 = 0, files: [FilePath] = []
    ) throws(ProvisioningFailure) {
        guard Program.isExecutable(configuration.confine) else {
            throw ProvisioningFailure(
                .runtimeRequirementNotSatisfied, .configuration, reason: "\(configuration.confine) is not there",
                hint: "install it with the daemon: prov-backup-rsnapshot(8), FILES")
        }
        try FileTrust.demand(configuration.confine, setting: CopySandbox.helper, code: .runtimeRequirementNotSatisfied)
        let found = if let rsync { rsync } else { try Program.rsync.find(configuration) }
        try FileTrust.demand(found, setting: TrustedPath.configuredRsync, code: .runtimeRequirementNotSatisfied)
        self.init(
            confinement: configuration.confinement,
            account: configuration.ownership == .account ? account : nil, home: home, snapshots: snapshots,
            bubblewrap: CopySandbox.isConfined(configuration.confinement)
                ? try Program.bwrap.find(configuration) : nil,
            confine: configuration.confine, rsnapshot: configuration.rsnapshot, rsync: found, memory: memory,
            files: files)
    }
}
