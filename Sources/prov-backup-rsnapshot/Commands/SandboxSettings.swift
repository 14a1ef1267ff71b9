import BackupService
import Sandbox
import FoundationEssentials
import Glibc
import Provisioning
import SystemPackage

/// Settings for a daemon on a sandbox, and the places they name, all within one directory.
struct SandboxSettings {
    private let directory: FilePath
    private let sandbox: LDAPSandbox

    /// - Parameter directory: holds the server's own directory and everything named here.
    init(_ sandbox: LDAPSandbox, in directory: FilePath) {
        self.sandbox = sandbox
        self.directory = directory
    }

    /// The server's own directory within the sandbox's.
    static func server(in directory: FilePath) -> FilePath { directory.appending("slapd") }

    private static let file = "Rsnapshot.conf"
    private static let proposal = "Rsnapshot.conf.new"

    /// Settings that are there and say something else are somebody's work: they stay, and these are written beside them.
    /// - Returns: the settings' path, and that of those beside them.
    func write() throws -> (settings: FilePath, proposal: FilePath?) {
        let path = directory.appending(Self.file)
        for name in ["homes", "rsnapshot.d"] {
            guard mkdir(directory.appending(name).string, 0o755) == 0 || errno == EEXIST else {
                throw CommandFailure(
                    "\(directory.appending(name)) cannot be made: \(Errno(rawValue: errno))",
                    hint: "choose another --directory")
            }
        }
        let text = try text()
        let isChanged =
            FileManager.default.fileExists(atPath: path.string)
            && FileManager.default.contents(atPath: path.string) != Data(text.utf8)
        let target = isChanged ? directory.appending(Self.proposal) : path
        try TextFiles.write(text, to: target.string, mode: [.ownerReadWrite])
        return (path, isChanged ? target : nil)
    }

    /// Removes the homes, which accounts may still change.
    static func removeHomes(from directory: FilePath) throws {
        do {
            try TreeRemoval.remove(directory.appending("homes"))
        } catch let failure as ProvisioningFailure {
            throw CommandFailure(failure.reason, hint: failure.hint)
        }
    }

    /// Removes what else `write` and a daemon with these settings have made.
    static func remove(from directory: FilePath) throws {
        for name in [file, proposal, "rsnapshot.d", "state", "run"] {
            let path = directory.appending(name).string
            guard FileManager.default.fileExists(atPath: path) else { continue }
            do {
                try FileManager.default.removeItem(atPath: path)
            } catch {
                throw CommandFailure(
                    "\(path) cannot be removed: \(error)", hint: "remove it as the user who ran the daemon")
            }
        }
        rmdir(directory.string)
    }

    /// Where the home script and the template lie: in a checkout beside the directory's pieces, else where they are
    /// installed.
    static func shipped(beside pieces: FilePath) -> FilePath {
        let beside = pieces.removingLastComponent().appending("Provisioning").appending("Backup")
        let isThere = access(beside.appending("create-chroot.sh").string, F_OK) == 0
        return isThere ? beside : "/etc/Provisioning/Backup"
    }

    private func text() throws -> String {
        let pieces = try CommandFailure.translatingSandbox { try SandboxPieces() }
        let shipped = Self.shipped(beside: pieces.directory)
        return """
            # Written by `prov-backup-rsnapshot sandbox start`; goes with the sandbox.
            [Database]
            SERVER = \(sandbox.uri)
            ADMIN_USER = \(sandbox.daemonDN)
            ADMIN_PASSWORD_FILE = \(sandbox.daemonPasswordFile)
            SERVICE_SUBTREE = \(SandboxTree.accountsDN)
            POLL_INTERVAL = 1s

            [Service]
            STATE_DIRECTORY = \(directory.appending("state"))
            RUNTIME_DIRECTORY = \(directory.appending("run"))

            [Backup]
            HOME_ROOTS = \(directory.appending("homes"))
            HOME_SCRIPT = \(shipped.appending("create-chroot.sh"))
            OWNERSHIP = \(geteuid() == 0 ? "account" : "none")
            RSNAPSHOT_CONFIG_DIRECTORY = \(directory.appending("rsnapshot.d"))
            RSNAPSHOT_TEMPLATE = \(shipped.appending("rsnapshot-account.conf.template"))

            """
    }
}
