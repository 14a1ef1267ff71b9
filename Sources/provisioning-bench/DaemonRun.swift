import EventLoop
import FoundationEssentials
import Glibc
import LDAP
import Sandbox
import SystemPackage

/// Runs the daemon on a stage, with its own history and state.
struct DaemonRun: Sendable {
    let stage: Stage
    let setup: DaemonSetup

    /// The running daemon.
    struct Running: Sendable {
        let process: Int32
        /// Just before the process was started, in seconds since 1970.
        let started: Double

        func facts() throws -> ProcessFacts { try ProcessFacts(of: process) }
    }

    /// The program in the directory of this one.
    static func program() throws -> FilePath {
        let path = Self.here.removingLastComponent().appending("prov-backup-rsnapshot")
        guard access(path.string, X_OK) == 0 else {
            throw BenchFailure("\(path) does not exist; build it in the same configuration, as bin/bench does")
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

    /// Starts the daemon, runs the body, and stops the daemon.
    func with<Result: Sendable>(_ body: (Running) async throws -> Result) async throws -> Result {
        try Files.removeIfThere(directory)
        for path in [directory, directory.appending("handlers")] { try Files.make(path, mode: 0o700) }
        let file = directory.appending("Rsnapshot.conf")
        try Files.write(try settings(), to: file)
        let program = try Self.program()
        // Without syslog it logs to standard error, which is a file here.
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
            throw BenchFailure("\(error); the end of the daemon's log: \(try Files.read(log).suffix(600))")
        }
    }

    private static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Other settings have their defaults, including the history.
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

/// The resources that a process has used, all threads together (proc(5)).
struct ProcessFacts: Hashable, Sendable {
    /// Resident memory now, in bytes.
    var resident = 0
    /// Maximum resident memory, in bytes.
    var peak = 0
    /// CPU time in seconds, also of threads that have ended.
    var processorTime = 0.0
    /// Voluntary and involuntary context switches by thread, without threads that have ended.
    var switchesByThread: [String: Int] = [:]

    var threads: Int { switchesByThread.count }
    var switches: Int { switchesByThread.values.reduce(0, +) }

    init(of process: Int32) throws {
        let directory = FilePath("/proc/\(process)")
        let status = try Files.read(directory.appending("status"))
        resident = Self.number("VmRSS", in: status) * 1024
        peak = Self.number("VmHWM", in: status) * 1024
        let tasks = directory.appending("task")
        for thread in try FileManager.default.contentsOfDirectory(atPath: tasks.string) {
            let task = tasks.appending(thread)
            // The thread may have ended.
            guard let status = try? Files.read(task.appending("status")) else { continue }
            switchesByThread[thread] = Self.switches(in: status)
        }
        processorTime = try Self.processorTime(of: process)
    }

    /// Context switches since an earlier value, of the current threads.
    func switches(since before: ProcessFacts) -> Int {
        switchesByThread.reduce(0) { $0 + $1.value - (before.switchesByThread[$1.key] ?? 0) }
    }

    /// `NAME: NUMBER…` of a status file; 0: missing.
    static func number(_ name: String, in status: String) -> Int {
        for line in status.split(separator: "\n") where line.hasPrefix(name + ":") {
            return Int(line.dropFirst(name.count + 1).filter { $0.isASCII && $0.isNumber }) ?? 0
        }
        return 0
    }

    static func switches(in status: String) -> Int {
        number("voluntary_ctxt_switches", in: status) + number("nonvoluntary_ctxt_switches", in: status)
    }

    private static func processorTime(of process: Int32) throws -> Double {
        var clock = clockid_t()
        var time = timespec()
        guard clock_getcpuclockid(process, &clock) == 0, clock_gettime(clock, &time) == 0 else {
            throw BenchFailure("the processor time of process \(process) cannot be read")
        }
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// The unit of the report.
    static func megabytes(_ bytes: Int) -> Double { Double(bytes) / 1_000_000 }
}

/// Writes one request after the other, and measures claim and end by a persistent search.
struct LatencyProbe: Sendable {
    let stage: Stage

    /// In seconds, from the commit of each request to its claim and to its end.
    struct Samples: Sendable {
        var adding: [Double] = []
        var added: [Double] = []
    }

    /// - Parameter uid: of an account with a home.
    func run(_ count: Int, uid: Int) async throws -> Samples {
        let watching = try await Stage.connection(stage.sandbox)
        defer { watching.close() }
        let request = SearchRequest(
            base: try DN(parsing: Stage.accountsDN), filter: .equal("uid", AttributeValue("\(uid)")),
            attributes: ["sstProvisioningMode", "sstProvisioningReturnValue"])
        let events = watching.contentSync(request)
        while let event = try await events.next(), event != .refreshDone {}
        var samples = Samples()
        for _ in 0..<count {
            // Lets the system become idle.
            try await Task.sleep(for: .milliseconds(5))
            let (adding, added) = try await one(uid, events)
            samples.adding.append(adding)
            samples.added.append(added)
        }
        return samples
    }

    /// The request counts as committed at the reply or at the notification of the persistent search, whichever is first.
    private func one(
        _ uid: Int, _ events: ContentSync
    ) async throws -> (adding: Double, added: Double) {
        let stage = stage
        async let replied = {
            try await stage.request("modify", uid..<uid + 1)
            return ContinuousClock.now
        }()
        var notified: ContinuousClock.Instant?
        var claimed: ContinuousClock.Instant?
        while let event = try await events.next() {
            guard case .entry(let entry, _) = event else { continue }
            let now = ContinuousClock.now
            switch entry.text("sstProvisioningMode") {
            case "modify": notified = now
            case "modifying":
                if let value = entry.text("sstProvisioningReturnValue") {
                    throw BenchFailure("the request failed with ReturnValue \(value)")
                }
                claimed = now
            case "modified" where notified != nil:
                guard let claimed else { throw BenchFailure("the claim was not seen") }
                let committed = try await min(replied, notified ?? now)
                return (Self.seconds(claimed - committed), Self.seconds(now - committed))
            default: break
            }
        }
        throw BenchFailure("the persistent search ended")
    }

    private static func seconds(_ duration: Duration) -> Double { duration / .seconds(1) }
}
