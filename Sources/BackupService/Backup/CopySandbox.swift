import Glibc
import JobCore
import Provisioning
import SystemPackage

/// How a copy is confined (setting BACKUP_SANDBOX).
package enum CopyConfinement: String, CaseIterable, Hashable, Sendable {
    /// As the account, in a sandbox that holds nothing but its home and /usr.
    case on
    /// As root with the rights that copying takes, in such a sandbox: for uploads that rightly hold files of other owners.
    case root
    /// As the account, without a sandbox: files that the account itself may not read are not copied.
    case off
}

/// One copy of an account's uploads: the command that makes it with rsnapshot, confined.
///
/// Root must not write where a customer can rename, so rsnapshot, rsync and rm run as the account. bubblewrap, started as root, builds a
/// view of the file system that holds /usr, the home and the snapshots; inside, `prov-backup-confine` makes a user namespace in which 0 is the account
/// and nothing else exists. There the account's own files can all be read and written, whatever their modes, and nothing else can.
/// Specification: snapshots.md#the-sandbox.
struct CopySandbox: Hashable, Sendable {
    var confinement: CopyConfinement
    /// As whom the copy runs; nil: as the daemon's own user (OWNERSHIP = none).
    var account: Account?
    /// The account's home; its uploads lie in it.
    var home: FilePath
    /// The directory that holds its snapshots, in the home or outside.
    var snapshots: FilePath
    /// The programs.
    var programs: Programs
    /// The most address space of each process, in bytes; 0: no limit.
    var memory: UInt64
    /// Further files that rsync reads, by path.
    var files: [FilePath] = []

    struct Account: Hashable, Sendable {
        var uid: UInt32
        var gid: UInt32
    }

    struct Programs: Hashable, Sendable {
        /// nil: there is no sandbox.
        var bubblewrap: FilePath?
        var confine: FilePath
        var rsnapshot: FilePath
        var rsync: FilePath
    }

    static let helper = "prov-backup-confine"

    /// Where the helper is installed; in a build directory it lies next to the program itself.
    static var installedHelper: FilePath {
        let installed = FilePath("/usr/lib/prov-backup-rsnapshot").appending(helper)
        var room = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        guard readlink("/proc/self/exe", &room, room.count - 1) > 0 else { return installed }
        let built = FilePath(platformString: room).removingLastComponent().appending(helper)
        return Program.isExecutable(built) ? built : installed
    }

    /// How much the copy yields to other processes, 0 to 19; with any but 0 also by the lowest class of I/O.
    static let nice = 10
    /// Where the sandbox holds `prov-backup-confine`.
    private static let confineInside: FilePath = "/run/prov-backup-confine"
    private static let environment = ["PATH": "/usr/bin:/bin", "LC_ALL": "C"]

    /// Whether there is a sandbox at all: only root can build it.
    static func isConfined(_ confinement: CopyConfinement) -> Bool { confinement != .off && geteuid() == 0 }

    /// What rsnapshot runs in place of rsync.
    var rsync: FilePath { programs.bubblewrap != nil ? Self.confineInside : programs.confine }

    /// The run of `rsnapshot sync`.
    /// - Parameters:
    ///   - configuration: the run configuration, which lies beside the snapshots.
    ///   - timeLimit: after which it is ended.
    func invocation(copyingBy configuration: FilePath, timeLimit: Duration, grace: Duration) -> ScriptInvocation {
        invocation(
            of: [programs.rsnapshot.string, "-c", configuration.string, "sync"], timeLimit: timeLimit, grace: grace)
    }

    /// The same sandbox around `true`: whether it works on this machine.
    var trial: ScriptInvocation { invocation(of: ["/usr/bin/true"], timeLimit: .seconds(30), grace: .seconds(1)) }

    private func invocation(of command: [String], timeLimit: Duration, grace: Duration) -> ScriptInvocation {
        var environment = Self.environment
        environment["PROV_RSYNC"] = programs.rsync.string
        let ids = confinement == .on && programs.bubblewrap != nil ? account ?? Account(uid: 0, gid: 0) : nil
        let confine = [ids.map { "\($0.uid)" } ?? "-", ids.map { "\($0.gid)" } ?? "-", "\(memory)", "\(Self.nice)"]
        var invocation = ScriptInvocation(
            executable: programs.confine, arguments: confine + command, environment: environment, timeLimit: timeLimit,
            grace: grace, hasReports: true)
        if let bubblewrap = programs.bubblewrap {
            invocation.executable = bubblewrap
            invocation.arguments =
                namespaces + files(environment) + ["--", Self.confineInside.string] + confine + command
            // bubblewrap's --die-with-parent means the thread that started it.
            invocation.isTiedToProcess = true
        } else if let account, geteuid() == 0 {
            // rsnapshot itself insists on a snapshot_root that it may write.
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
            // bubblewrap makes missing parents only root may pass; those of --dir everybody may.
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
        arguments += show(programs.confine, as: Self.confineInside)
        for path in [programs.rsnapshot, programs.rsync] + files where !path.starts(with: "/usr") {
            arguments += show(path)
        }
        return arguments + ["--remount-ro", "/", "--chdir", "/"]
    }
}

/// What the sandbox and the helper in it reported of a run.
struct CopyReports: Hashable, Sendable {
    /// How rsync itself ended.
    enum RsyncEnd: Hashable, Sendable {
        case exited(Int32)
        case killed(signal: Int32)
    }

    /// Whether the program was started; what it said counts only then.
    private(set) var hasEntered = false
    /// Of several runs the one that ended worst; nil: rsync did not run, or was cut off together with what waited for it.
    private(set) var rsync: RsyncEnd?
    /// Why the helper could not do its work.
    private(set) var faults: [String] = []

    /// - Parameter bytes: what was written to the descriptors of reports; lines of others (bubblewrap's own) are passed over.
    init(_ bytes: [UInt8]) {
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            switch (words.first, words.count) {
            case ("entered", 1): hasEntered = true
            case ("fault", 2...): faults.append(words.dropFirst().joined(separator: " "))
            case ("rsync", 3):
                guard let number = Int32(words[2]) else { continue }
                switch (words[1], rsync) {
                case ("killed", _): rsync = .killed(signal: number)
                case ("exited", nil), ("exited", .exited(0)): rsync = .exited(number)
                default: break
                }
            default: break
            }
        }
    }
}
