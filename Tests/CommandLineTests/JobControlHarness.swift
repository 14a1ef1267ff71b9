import Daemon
import Foundation
import Glibc
import JobCore
import Logging
import Provisioning
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The daemon as the job commands see it: real jobs, history and sockets, with settings that lead the real program here. The directory
/// is the one thing that is missing.
final class JobControlHarness: JobControl {
    let directory: URL
    let settings: URL
    let history: JobHistory?
    let health = BackupHealth()
    let clockDoubtedUntil: Timestamp? = nil
    let backupSlots = 4
    private let recorded: JobHistory
    let registry: JobRegistry
    private let runner: JobRunner
    private let declared = Mutex<[String: UserScript]>([:])
    private let handlersLoaded = Mutex(0)
    /// The accounts of a backup run, and the work of each of its jobs.
    private let accounts = Mutex<[String: String]>([:])
    /// What asking for a backup throws.
    private var refusal: (any Error)?

    /// - Parameter hasHistory: whether the daemon has one to answer from.
    static func run(hasHistory: Bool = true, _ body: (JobControlHarness) async throws -> Void) async throws {
        let directory = URL(filePath: geteuid() == 0 ? "/var/lib" : NSTemporaryDirectory())
            .appending(path: "prov-test-\(UUID().uuidString.prefix(8))")
        defer { try? FileManager.default.removeItem(at: directory) }
        for name in ["", "run", "state"] {
            try FileManager.default.createDirectory(
                at: directory.appending(path: name), withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o755])
        }
        let lock = try InstanceLock(in: FilePath(directory.appending(path: "run").path))
        let harness = try JobControlHarness(directory, hasHistory: hasHistory)
        let reports = try await ReportServer(under: lock, registry: harness.registry)
        let configuration = try SettingsOptions.parse(["-c", harness.settings.path]).load()
        let handler = ControlHandler(
            engine: Engine({ configuration.engine }, ids: nil, logger: Logger(label: "test")),
            started: SystemWallClock().now, jobs: harness, reload: { ReloadOutcome() })
        let control = try await ControlServer(under: lock) { await handler.answer($0) }
        func end() async {
            await harness.runner.stop(grace: .zero)
            await control.stop()
            await reports.stop()
            await harness.recorded.close()
        }
        do {
            try await body(harness)
        } catch {
            await end()
            throw error
        }
        await end()
    }

    private init(_ directory: URL, hasHistory: Bool) throws {
        self.directory = directory
        settings = directory.appending(path: "Rsnapshot.conf")
        try """
        [Database]
        SERVER = ldapi://%2Fnonexistent%2Fldapi
        SASL_MECHANISM = EXTERNAL
        SERVICE_SUBTREE = ou=accounts,dc=example,dc=org
        [Service]
        STATE_DIRECTORY = \(directory.path)/state
        RUNTIME_DIRECTORY = \(directory.path)/run
        """.write(to: settings, atomically: true, encoding: .utf8)
        chmod(settings.path, 0o600)
        let state = FilePath(directory.appending(path: "state").path)
        recorded = JobHistory(file: state.appending("history.sqlite")) { Issue.record("\($0.text)") }
        history = hasHistory ? recorded : nil
        registry = JobRegistry(recorder: recorded)
        let executor = JobExecutor(
            registry: registry, environment: ["PATH": "/usr/bin:/bin"],
            reportSocket: ReportServer.socketPath(in: FilePath(directory.appending(path: "run").path)).string)
        runner = JobRunner(
            executor: { executor }, ids: try JobIDSource(file: state.appending("job-number")),
            scheduler: JobScheduler(),
            slots: { 4 })
    }

    // MARK: Setting up a test

    /// Writes a script and declares it. It finds the program as `$PROGRAM`, and waits for files that a test makes.
    func script(_ name: String, _ body: String) throws {
        let file = directory.appending(path: "\(name).sh")
        let text = "#!/bin/sh\ncd \(directory.path)\nPROGRAM=\(DaemonHarness.program.path)\n\(body)\n"
        try text.write(to: file, atomically: true, encoding: .utf8)
        try makeExecutable(file.path)
        let script = UserScript(
            name: name, path: FilePath(file.path), environment: ["PATH": "/usr/bin:/bin"],
            retry: RetryPolicy(maximumAttempts: 1, delay: .seconds(1), maximumDelay: .seconds(1)))
        declared.withLock { $0[name] = script }
    }

    /// An account whose backups run a script that was declared.
    func account(_ uid: String, runs script: String) { accounts.withLock { $0[uid] = script } }

    /// Backups are refused from now on.
    func refusesBackups(_ error: any Error) { refusal = error }

    func touch(_ name: String) throws { try Data().write(to: directory.appending(path: name)) }

    func exists(_ name: String) -> Bool {
        FileManager.default.fileExists(atPath: directory.appending(path: name).path)
    }

    /// Waits for a file that a script makes.
    func appears(_ name: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await eventually("\(name) appears", sourceLocation: sourceLocation) { self.exists(name) }
    }

    // MARK: Commands

    func start(_ arguments: [String]) throws -> RunningProgram {
        try RunningProgram(DaemonHarness.program, arguments + ["-c", settings.path])
    }

    func command(_ arguments: String...) async throws -> (status: Int32, output: String) {
        let program = try start(arguments)
        return (await program.end(), program.output)
    }

    // MARK: JobControl

    func started() async {}

    func run(_ name: String) async throws -> JobID {
        let script = declared.withLock { $0[name] }
        guard let script else {
            let names = declared.withLock { $0.keys.sorted() }
            throw CommandFailure(
                "there is no job \(name)", hint: "there are: \(names.joined(separator: ", "))", status: .wrongUsage)
        }
        return try #require(await runner.submit(script.request)).id
    }

    func backup(_ level: String, accounts uids: [String], isForced: Bool) async throws -> (jobs: [JobID], recent: Int) {
        if let refusal { throw refusal }
        let known = accounts.withLock { $0 }
        var ids: [JobID] = []
        for uid in uids.isEmpty ? known.keys.sorted() : uids {
            let script = known[uid].flatMap { name in declared.withLock { $0[name] } }
            guard let script else { throw CommandFailure("there is no account \(uid)", hint: "see accounts list") }
            let request = JobRequest(
                type: .backup, name: level, level: level, subject: JobSubject(uid), client: uid,
                retry: script.request.retry, work: script.request.work)
            ids.append(try #require(await runner.submit(request)).id)
        }
        return (ids, 0)
    }

    func scripts() async -> [ScriptLine] {
        declared.withLock { scripts in
            scripts.values.sorted { $0.name < $1.name }.map {
                ScriptLine(kind: .job, name: $0.name, path: $0.path.string, state: .ok, schedule: "0 3 * * *")
            }
        }
    }

    func restartHandlers() async -> String {
        "loaded \(handlersLoaded.withLock { count in count += 1; return count })"
    }
}
