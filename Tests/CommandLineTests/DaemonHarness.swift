import BackupService
import LDAP
import Sandbox
import Foundation
import Glibc
import Provisioning
import Synchronization
import SystemPackage
import TestSupport
import Testing

/// A sandbox with settings, the real program, and accounts, as an administrator uses them.
final class DaemonHarness: Sendable {
    let sandbox: LDAPSandbox
    /// Holds everything; only its owner can write there and in the directories above it.
    let directory: URL
    let manager: LDAPConnection
    private let daemons = Mutex<[RunningProgram]>([])

    static func run(options: SandboxOptions = .testing, _ body: (DaemonHarness) async throws -> Void) async throws {
        try await LDAPSandbox.temporary(options: options) { sandbox in
            let harness = try await DaemonHarness(sandbox)
            defer { harness.remove() }
            try await body(harness)
        }
    }

    private init(_ sandbox: LDAPSandbox) async throws {
        self.sandbox = sandbox
        // jailkit and the permission checks refuse everything below a directory that others can write to.
        let parent = geteuid() == 0 ? "/var/lib" : NSTemporaryDirectory()
        directory = URL(filePath: parent).appending(path: "prov-test-\(UUID().uuidString.prefix(8))")
        for name in ["homes", "rsnapshot.d", "data"] {
            try FileManager.default.createDirectory(
                at: directory.appending(path: name), withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o755])
        }
        let credentials = Credentials.simple(
            bindDN: try DN(parsing: sandbox.adminDN), password: Secret(sandbox.adminPassword))
        manager = try await LDAPConnection.open(
            ServerAddress(parsing: sandbox.uri), options: ConnectionOptions(credentials: credentials))
    }

    private func remove() {
        for daemon in daemons.withLock({ $0 }) { daemon.kill(SIGKILL) }
        manager.close()
        try? FileManager.default.removeItem(at: directory)
    }

    // MARK: The program

    var settingsFile: URL { directory.appending(path: "Rsnapshot.conf") }
    var homes: URL { directory.appending(path: "homes") }
    func configuration(_ uid: String) -> URL { directory.appending(path: "rsnapshot.d/\(uid).conf") }
    func home(_ uid: String) -> URL { homes.appending(path: uid) }

    /// Writes the settings; further lines go to the section that they name.
    func settings(database: String = "", service: String = "", backup: String = "HOME_SCRIPT =") throws {
        let shipped = Self.checkout.appending(path: "etc/Provisioning/Backup").path
        try """
        [Global]
        SLEEP = 1
        [Operation Mode]
        SLEEP = 1
        [Database]
        SERVER = \(sandbox.uri)
        ADMIN_USER = \(sandbox.daemonDN)
        ADMIN_PASSWORD_FILE = \(sandbox.daemonPasswordFile)
        SERVICE_SUBTREE = \(SandboxTree.accountsDN)
        \(database)
        [Service]
        STATE_DIRECTORY = \(directory.appending(path: "state").path)
        RUNTIME_DIRECTORY = \(directory.appending(path: "run").path)
        RETRY_DELAY = 1s
        \(service)
        [Backup]
        HOME_ROOTS = \(homes.path)
        RSNAPSHOT_CONFIG_DIRECTORY = \(directory.appending(path: "rsnapshot.d").path)
        RSNAPSHOT_TEMPLATE = \(shipped)/rsnapshot-account.conf.template
        OWNERSHIP = \(geteuid() == 0 ? "account" : "none")
        \(backup)
        """.write(to: settingsFile, atomically: true, encoding: .utf8)
        chmod(settingsFile.path, 0o600)
    }

    /// The number of the line of the settings that begins so.
    func line(_ beginning: String) throws -> Int {
        let lines = try String(contentsOf: settingsFile, encoding: .utf8)
            .split(separator: "\n", omittingEmptySubsequences: false)
        return try #require(lines.firstIndex { $0.hasPrefix(beginning) }) + 1
    }

    /// - Parameters:
    ///   - starter: the command that starts the program, without the program itself.
    ///   - environment: besides this process's own.
    func start(
        _ arguments: String..., by starter: [String] = [], environment: [String: String] = [:]
    ) throws -> RunningProgram {
        let command = starter + [Self.program.path, "run", "-d", "-c", settingsFile.path] + arguments
        let daemon = try RunningProgram(
            URL(filePath: command[0]), Array(command.dropFirst()), environment: environment)
        daemons.withLock { $0.append(daemon) }
        return daemon
    }

    /// Runs a command to its end.
    func command(_ arguments: String...) async throws -> (status: Int32, output: String) {
        let program = try RunningProgram(Self.program, arguments + ["-c", settingsFile.path])
        return (await program.end(), program.output)
    }

    /// Starts a command that may have so many descriptors.
    func limited(descriptors: Int, _ arguments: [String]) throws -> RunningProgram {
        try RunningProgram(
            URL(filePath: "/bin/sh"),
            ["-c", "ulimit -n \(descriptors); exec \"$@\"", "sh", Self.program.path] + arguments
                + ["-c", settingsFile.path])
    }

    static let checkout = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static let program: URL = {
        let here = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        let directory =
            CommandLine.arguments.map { URL(filePath: $0).deletingLastPathComponent() }
            + [URL(filePath: here).deletingLastPathComponent(), checkout.appending(path: ".build/debug")]
        return directory.map { $0.appending(path: "prov-backup-rsnapshot") }
            .first { FileManager.default.isExecutableFile(atPath: $0.path) } ?? checkout
    }()

    // MARK: Accounts

    static func dn(_ uid: String) throws -> DN { try DN(parsing: SandboxTree.accountsDN).appending("uid", uid) }

    /// Adds an account as the test LDIF has it, changed as asked.
    /// - Parameter holder: who claims it, where daemons share accounts.
    func add(
        _ uid: String, home: String? = nil, claimedBy holder: String? = nil, _ changes: [AttributeName: String] = [:]
    ) async throws {
        let parameters = TestLDIFs(
            uid: "3724300", base: try DN(parsing: SandboxTree.accountsDN), homeRoot: FilePath(homes.path))
        let record = try #require(try parameters.files().first).record
        var entry = Entry(dn: try Self.dn(uid))
        switch record.change {
        case .content(let attributes), .add(let attributes): entry.attributes = attributes
        case .delete, .modify, .rename: throw UnexpectedLDIF()
        }
        entry["uid"] = [AttributeValue(uid)]
        entry["homeDirectory"] = [AttributeValue(home ?? self.home(uid).path)]
        let number = Int(uid).map(String.init) ?? "3724300"
        entry["uidNumber"] = [AttributeValue(number)]
        entry["gidNumber"] = [AttributeValue(number)]
        for (name, value) in changes { entry[name] = [AttributeValue(value)] }
        if let holder {
            entry["objectClass"].append("provisioningClaimable")
            entry["provisioningClaim"] = [AttributeValue(holder)]
        }
        try await manager.add(entry)
    }

    /// Writes a file as the customer would.
    func upload(_ text: String, as name: String, of uid: String) throws {
        let file = home(uid).appending(path: "incoming").appending(path: name)
        try text.write(to: file, atomically: true, encoding: .utf8)
        if geteuid() == 0, let number = UInt32(uid) { chown(file.path, number, number) }
    }

    func request(_ uid: String, _ mode: String, _ others: [AttributeName: String] = [:]) async throws {
        var modifications: [Modification] = [
            .replace("sstProvisioningMode", AttributeValue(mode)), .replace("sstProvisioningState", "0"),
        ]
        for (name, value) in others { modifications.append(.replace(name, AttributeValue(value))) }
        try await manager.modify(Self.dn(uid), modifications)
    }

    func text(_ uid: String, _ name: AttributeName) async throws -> String? {
        try await manager.entry(at: Self.dn(uid), attributes: [name])?.text(name)
    }

    func reached(_ mode: String, _ uid: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await eventually("\(uid) becomes \(mode)", sourceLocation: sourceLocation) {
            try await self.text(uid, "sstProvisioningMode") == mode
        }
    }

    func returned(_ code: String, _ uid: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await eventually("\(uid) returns \(code)", sourceLocation: sourceLocation) {
            try await self.text(uid, "sstProvisioningReturnValue") == code
        }
    }

    /// Everything below a directory, with type, mode, owner and size, to compare later.
    func tree(_ root: URL) throws -> [String] {
        let paths = try FileManager.default.subpathsOfDirectory(atPath: root.path).sorted()
        return paths.map { path in
            var status = stat()
            lstat(root.appending(path: path).path, &status)
            return
                "\(path) \(String(status.st_mode, radix: 8)) \(status.st_uid) \(status.st_size) \(status.st_mtim.tv_sec)"
        }
    }
}

/// Starts programs that end with this process, also when it is killed. The kernel kills them with the thread that started them
/// (PR_SET_PDEATHSIG), so this one lasts; those of Swift's pool do not.
enum ProgramStarter {
    private static let waiting = Mutex<[@Sendable () -> Void]>([])
    private static let count = DispatchSemaphore(value: 0)
    private static let thread: Void = Thread.detachNewThread {
        while true {
            count.wait()
            waiting.withLock { $0.removeFirst() }()
        }
    }

    /// - Parameter process: its executable and arguments are set.
    static func run(_ process: Process) throws {
        _ = thread
        process.arguments = ["--pdeathsig", "KILL", process.executableURL?.path ?? ""] + (process.arguments ?? [])
        process.executableURL = URL(filePath: "/usr/bin/setpriv")
        let failure = Mutex<(any Error)?>(nil)
        let isDone = DispatchSemaphore(value: 0)
        waiting.withLock {
            $0.append {
                do { try process.run() } catch { failure.withLock { $0 = error } }
                isDone.signal()
            }
        }
        count.signal()
        isDone.wait()
        if let error = failure.withLock({ $0 }) { throw error }
    }
}

/// A running program with its output so far.
final class RunningProgram: Sendable {
    private let process: Process
    /// Of a file without a name, so that nothing is left when the tests are killed.
    private let log: FileDescriptor

    /// - Parameter environment: besides this process's own.
    init(_ program: URL, _ arguments: [String], environment: [String: String] = [:]) throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "prov-test-\(UUID().uuidString).log")
        _ = FileManager.default.createFile(atPath: file.path, contents: nil)
        defer { try? FileManager.default.removeItem(at: file) }
        let handle = try FileHandle(forWritingTo: file)
        log = try FileDescriptor.open(file.path, .readOnly, options: .closeOnExec)
        process = Process()
        process.executableURL = program
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = handle
        process.standardError = handle
        try ProgramStarter.run(process)
        try handle.close()
    }

    deinit { try? log.close() }

    var id: Int32 { process.processIdentifier }
    var isRunning: Bool { process.isRunning }
    var output: String {
        var status = stat()
        guard fstat(log.rawValue, &status) == 0 else { return "" }
        let bytes = try? [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
            count = try log.read(fromAbsoluteOffset: 0, into: UnsafeMutableRawBufferPointer(buffer))
        }
        return bytes.flatMap { String(bytes: $0, encoding: .utf8) } ?? ""
    }

    func kill(_ signal: Int32) { if process.isRunning { Glibc.kill(process.processIdentifier, signal) } }

    /// Waits for the end; with a deadline, after which it is killed.
    /// - Returns: the exit status; for a signal its number, negative.
    func end(within limit: Duration = .seconds(300)) async -> Int32 {
        let deadline = ContinuousClock.now + limit
        while process.isRunning {
            if ContinuousClock.now > deadline {
                Issue.record("the program did not end within \(limit): \(output.suffix(2000))")
                kill(SIGKILL)
            }
            try? await Task.sleep(for: .milliseconds(5))
        }
        process.waitUntilExit()
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }

    func says(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await eventually("the program says \(text)\n\(output.suffix(2000))", sourceLocation: sourceLocation) {
            self.output.contains(text)
        }
    }
}

struct UnexpectedLDIF: Error {}
