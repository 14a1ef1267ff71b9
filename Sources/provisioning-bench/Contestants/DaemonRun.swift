import Sandbox
import EventLoop
import Glibc
import SystemPackage

/// Runs the daemon's own program on a stage, as an administrator would, with a history and a state of its own.
struct DaemonRun: Sendable {
    let stage: Stage
    let setup: DaemonSetup

    /// What a measurement holds of the daemon.
    struct Running: Sendable {
        let process: Int32
        /// Just before the process was started, in seconds since 1970.
        let started: Double

        func facts() throws -> ProcessFacts { try ProcessFacts(of: process) }
    }

    /// The program that lies beside this one.
    static func program() throws -> FilePath {
        let path = Self.here.removingLastComponent().appending("prov-backup-rsnapshot")
        guard access(path.string, X_OK) == 0 else {
            throw BenchFailure("\(path) is not there; build it in the same configuration, as bin/bench does")
        }
        return path
    }

    private static var here: FilePath {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = bytes.withUnsafeMutableBytes { buffer in
            buffer.withMemoryRebound(to: CChar.self) { room in
                room.baseAddress.map { readlink("/proc/self/exe", $0, room.count) } ?? 0
            }
        }
        return FilePath(String(decoding: bytes.prefix(max(0, count)), as: UTF8.self))
    }

    /// The checkout that the program was built in.
    static func checkout() throws -> FilePath {
        try SandboxPieces().directory.removingLastComponent().removingLastComponent()
    }

    private var directory: FilePath { stage.directory.appending("daemon") }

    /// Starts the daemon, hands it out, and ends it in order whatever became of it meanwhile.
    func with<Result: Sendable>(_ body: (Running) async throws -> Result) async throws -> Result {
        try Files.removeIfThere(directory)
        for path in [directory, directory.appending("handlers")] { try Files.make(path, mode: 0o700) }
        let file = directory.appending("Rsnapshot.conf")
        try Files.write(try settings(), to: file)
        let program = try Self.program()
        // Where there is no syslog it logs to its standard error stream; a file stands for what would take that.
        let log = directory.appending("log")
        let output = try FileDescriptor.open(
            log, .writeOnly, options: [.create, .append, .closeOnExec], permissions: .ownerReadWrite)
        let started = Self.now
        let child = try await ChildProcess.start(
            ChildProcess.Program(
                program, ["run", "-c", file.string],
                environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"], in: "."),
            output: .file(output))
        try output.close()
        let outcome: Swift.Result<Result, any Error>
        do {
            outcome = .success(try await body(Running(process: child.id, started: started)))
        } catch {
            outcome = .failure(error)
        }
        await child.kill(after: .seconds(20))
        await child.exited()
        await child.reap()
        do {
            return try outcome.get()
        } catch let error as BenchFailure {
            throw BenchFailure("\(error); the daemon's last words: \(try Files.read(log).suffix(600))")
        }
    }

    private static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Its settings; what is not named has its default, the history among them.
    func settings() throws -> String {
        let shipped = try Self.checkout().appending("etc").appending("Provisioning").appending("Backup")
        let script: String
        switch setup.task {
        case .modify: script = "/bin/true"
        case .add: script = shipped.appending("create-chroot.sh").string
        case .empty, .delete: script = ""
        }
        return """
            [Database]
            SERVER = \(stage.sandbox.uri)
            ADMIN_USER = \(stage.sandbox.daemonDN)
            ADMIN_PASSWORD_FILE = \(stage.sandbox.daemonPasswordFile)
            SERVICE_SUBTREE = \(Stage.accountsDN)
            DETECTION = \(setup.detection.rawValue)

            [Service]
            SLOTS = \(setup.slots)
            REQUIRE_INACTIVE_FOR_DELETE = no
            MAX_DELETES_PER_HOUR = 0
            STATE_DIRECTORY = \(directory.appending("state"))
            RUNTIME_DIRECTORY = \(directory.appending("run"))

            [Backup]
            HOME_ROOTS = \(stage.homes)
            HOME_SCRIPT = \(script)
            OWNERSHIP = \(geteuid() == 0 ? "account" : "none")
            RSNAPSHOT_CONFIG_DIRECTORY = \(stage.configurations)
            RSNAPSHOT_TEMPLATE = \(shipped.appending("rsnapshot-account.conf.template"))

            [Scripts]
            EVENTS_DIRECTORY = \(directory.appending("handlers"))

            """
    }
}
