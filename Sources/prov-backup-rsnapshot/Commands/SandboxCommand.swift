import ArgumentParser
import BackupService
import Daemon
import FoundationEssentials
import Glibc
import JobCore
import Provisioning
import Sandbox
import SystemPackage

struct SandboxCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sandbox", abstract: "A private OpenLDAP server with matching settings, for tests.",
        subcommands: [Start.self, Stop.self, Status.self])

    struct Directory: ParsableArguments {
        @Option(name: .customLong("directory"), help: "The sandbox's directory.", completion: .directory)
        var path = "sandbox"

        /// Absolute, because the server and the settings are used after this command.
        func resolve() throws -> FilePath {
            guard let path = FilePath(path).absolute else {
                throw CommandFailure("the working directory no longer exists", hint: "change to another one")
            }
            return path.lexicallyNormalized()
        }
    }

    struct Start: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Start a server with the example tree, and write settings for the daemon.")

        @OptionGroup var directory: Directory
        @Option(help: "Also listen on this port of 127.0.0.1.") var port: Int?
        @Flag(inversion: .prefixedNo, help: "Content Sync; without it the daemon must poll.") var sync = true

        func run() async throws {
            var options = SandboxOptions()
            options.loopbackPort = port
            options.contentSync = sync
            let directory = try directory.resolve()
            try RuntimeDirectory.prepare(directory, mode: 0o700)
            let sandbox = try await LDAPSandbox.start(in: SandboxSettings.server(in: directory), options: options)
            let (settings, proposal) = try SandboxSettings(sandbox, in: directory).write()
            print(
                """
                LDAP       \(sandbox.uri)\(sandbox.loopbackURI.map { " \($0)" } ?? "")
                settings   \(settings)
                run        prov-backup-rsnapshot run -d -c \(settings.shellWord)
                load       prov-backup-rsnapshot ldif load --sandbox \(directory.shellWord) FILE…
                """)
            if let proposal {
                printError("\(settings) was changed and is kept; the new settings are in \(proposal)")
            }
        }
    }

    struct Stop: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Stop the server, and remove its data, the settings and the homes.")

        @OptionGroup var directory: Directory
        @Flag(help: "Stop the server only.") var keepData = false

        func run() async throws {
            let directory = try directory.resolve()
            let server = SandboxSettings.server(in: directory)
            let status = try SandboxStatus.of(server)
            guard status != .absent else {
                throw CommandFailure(
                    "there is no sandbox in \(directory)", hint: "name the directory of one with --directory")
            }
            let isStopped = status == .stopped && !keepData
            let sandbox = isStopped ? nil : try LDAPSandbox.running(in: server)
            // Before the server's data, so that the command can be repeated if this fails.
            if !keepData { try SandboxSettings.removeHomes(from: directory) }
            try await sandbox?.stop(keepingData: keepData)
            if isStopped { try LDAPSandbox.remove(stoppedIn: server) }
            if !keepData { try SandboxSettings.remove(from: directory) }
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show whether the server runs.")

        @OptionGroup var directory: Directory

        func run() async throws {
            let directory = try directory.resolve()
            switch try SandboxStatus.of(SandboxSettings.server(in: directory)) {
            case .absent: print("there is no sandbox in \(directory)")
            case .stopped: print("stopped; its data is kept")
            case .running(let process, let isPaused, let uris):
                print("runs: process \(process)\(isPaused ? ", paused" : ""), \(uris.joined(separator: " "))")
            }
        }
    }
}

/// Settings for a daemon with a sandbox, and their directories, all in one directory.
struct SandboxSettings {
    private let directory: FilePath
    private let sandbox: LDAPSandbox

    /// - Parameter directory: the parent of the server's directory and of all others.
    init(_ sandbox: LDAPSandbox, in directory: FilePath) {
        self.sandbox = sandbox
        self.directory = directory
    }

    /// The server's directory in the sandbox's directory.
    static func server(in directory: FilePath) -> FilePath { directory.appending("slapd") }

    private static let file = "Rsnapshot.conf"
    private static let proposal = "Rsnapshot.conf.new"

    /// Writes the settings. Changed settings are kept, and the new ones are written to another file.
    /// - Returns: the settings, and the other file if it was written.
    func write() throws -> (settings: FilePath, proposal: FilePath?) {
        let path = directory.appending(Self.file)
        for name in ["homes", "rsnapshot.d"] {
            try TextFiles.makeDirectory(directory.appending(name).string, mode: 0o755, option: "--directory")
        }
        let text = try text()
        let isChanged =
            FileManager.default.fileExists(atPath: path.string)
            && FileManager.default.contents(atPath: path.string) != Data(text.utf8)
        let target = isChanged ? directory.appending(Self.proposal) : path
        try TextFiles.write(text, to: target.string, mode: [.ownerReadWrite])
        return (path, isChanged ? target : nil)
    }

    /// Removes the homes; accounts may change them at the same time.
    static func removeHomes(from directory: FilePath) throws {
        do {
            try TreeRemoval.remove(directory.appending("homes"))
        } catch let failure as ProvisioningFailure {
            throw CommandFailure(failure.reason, hint: failure.hint)
        }
    }

    /// Removes the other files of `write` and of a daemon with these settings.
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

    /// The directory of the home script and the template: in a checkout or installed.
    /// - Parameter pieces: the directory of the sandbox's files.
    static func shipped(with pieces: FilePath) -> FilePath {
        let checkout = pieces.removingLastComponent().appending("Provisioning").appending("Backup")
        let isThere = access(checkout.appending("create-chroot.sh").string, F_OK) == 0
        return isThere ? checkout : "/etc/Provisioning/Backup"
    }

    /// The global file of this machine counts for a daemon with these settings too. So they name each key by which that could run the site's
    /// scripts, write mails, or change anything outside the directory; only a `[Job NAME]` cannot be taken back.
    private func text() throws -> String {
        let shipped = Self.shipped(with: try SandboxPieces().directory)
        return """
            # Written by `prov-backup-rsnapshot sandbox start`, for the sandbox in this directory.
            [Database]
            SERVER = \(sandbox.uri)
            ADMIN_USER = \(sandbox.daemonDN)
            ADMIN_PASSWORD_FILE = \(sandbox.daemonPasswordFile)
            SERVICE_SUBTREE = \(SandboxTree.accountsDN)
            POLL_INTERVAL = 1s

            [Service]
            TYPE = Rsnapshot
            STATE_DIRECTORY = \(directory.appending("state"))
            RUNTIME_DIRECTORY = \(directory.appending("run"))

            [Backup]
            HOME_ROOTS = \(directory.appending("homes"))
            HOME_SCRIPT = \(shipped.appending("create-chroot.sh"))
            OWNERSHIP = \(geteuid() == 0 ? "account" : "none")
            QUOTA = none
            RSNAPSHOT_CONFIG_DIRECTORY = \(directory.appending("rsnapshot.d"))
            RSNAPSHOT_TEMPLATE = \(shipped.appending("rsnapshot-account.conf.template"))

            # Not what the global settings say: no mails, and neither handlers nor hooks of this machine.
            [Mail]
            SENDTO =

            [Scripts]
            EVENTS_DIRECTORY = \(directory.appending("scripts"))

            [History]
            FILE =

            \(JobPolicy.types.map { "[Hooks \($0.rawValue)]\nENABLED = no\n" }.joined(separator: "\n"))
            """
    }
}
