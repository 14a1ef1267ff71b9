import LDAP
import Sandbox
import EventLoop
import Foundation
import Glibc
import JobCore
import Logging
import Provisioning
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

/// An LDAP server, an engine and a home root for real backups in tests.
final class BackupHarness: Sendable {
    /// What a test does when a step ends.
    private final class AfterSteps: Sendable {
        private let state = Mutex<(bodies: [String: @Sendable () -> Void], ended: [JobID: Int])>(
            ([:], [:]))

        func set(_ name: String, _ body: (@Sendable () -> Void)?) {
            state.withLock { $0.bodies[name] = body }
        }

        func recorded(_ job: Job) {
            let body: (@Sendable () -> Void)? = state.withLock { state in
                defer { state.ended[job.id] = job.steps.count }
                guard job.steps.count > state.ended[job.id, default: 0] else { return nil }
                return job.steps.last.flatMap { state.bodies[$0.name] }
            }
            body?()
        }
    }

    private let afterSteps = AfterSteps()
    private let recorder: ChangeRecorder
    let directory: TestDirectory
    let sandbox: LDAPSandbox
    private let scheduler = JobScheduler()
    private let jobClass: Int
    let engine: Engine
    let manager: LDAPConnection
    let configuration: BackupConfiguration
    let registry: JobRegistry
    /// The settings of later backups.
    let changed: Mutex<BackupConfiguration>
    /// Whether uploads are given to the accounts before a backup.
    let ownsUploads = Mutex(true)
    private let ids: JobIDSource

    static let host = "backup1"
    static let hasRsnapshot = Program.isExecutable("/usr/bin/rsnapshot")

    /// - Parameter parent: of the directory of its files.
    static func run(
        hosts: [String]? = nil, in parent: FilePath = "/tmp",
        _ change: (inout BackupConfiguration) -> Void = { _ in }, _ body: (BackupHarness) async throws -> Void
    ) async throws {
        try await LDAPSandbox.temporary { sandbox in
            let harness = try await BackupHarness(sandbox, hosts, parent, change)
            do {
                try await body(harness)
            } catch {
                await harness.close()
                throw error
            }
            await harness.close()
        }
    }

    private init(
        _ sandbox: LDAPSandbox, _ hosts: [String]?, _ parent: FilePath,
        _ change: (inout BackupConfiguration) -> Void
    ) async throws {
        self.sandbox = sandbox
        directory = try TestDirectory(in: parent)
        configuration = try directory.configuration(change)
        changed = Mutex(configuration)
        recorder = ChangeRecorder { [afterSteps] in afterSteps.recorded($0) }
        registry = JobRegistry(recorder: recorder)
        jobClass = await scheduler.addClass(
            JobScheduler.Owner(settings: { JobClass(limit: 100) }, begin: { _, _ in }))
        ids = try JobIDSource(file: directory.path.appending("job-number"))
        let address = try ServerAddress(parsing: sandbox.uri)
        func options(_ dn: String, _ password: String) throws -> ConnectionOptions {
            ConnectionOptions(
                credentials: .simple(bindDN: try DN(parsing: dn), password: Secret(password)),
                connectTimeout: .seconds(60), operationTimeout: .seconds(60))
        }
        manager = try await LDAPConnection.open(
            address, options: try options(sandbox.adminDN, sandbox.adminPassword))
        let retry = RetryPolicy(maximumAttempts: .max, delay: .milliseconds(20), maximumDelay: .milliseconds(200))
        let settings = Engine.Configuration(
            servers: [address], connection: try options(sandbox.daemonDN, sandbox.daemonPassword),
            policy: DecisionPolicy(
                scope: WatchScope(base: try Self.base, hosts: hosts, names: AttributeNames())),
            jobRetry: retry, ldapRetry: retry,
            service: BackupRsnapshotService(configuration: configuration))
        engine = await Engine(
            { settings }, ids: ids, scheduler: scheduler,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func close() async {
        await engine.stop(grace: .zero)
        manager.close()
    }

    // MARK: Accounts

    static var base: DN { get throws { try DN(parsing: "ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org") } }

    static func dn(_ uid: String) throws -> DN { try base.appending("uid", uid) }

    func home(_ uid: String) -> FilePath { directory.homes.appending(uid) }

    func snapshot(_ name: FilePath, of uid: String) -> FilePath {
        home(uid).appending(".snapshots").pushing(name)
    }

    /// Adds the entry of an account that was provisioned.
    func add(
        _ uid: String, mode: AttributeValue = "added", active: AttributeValue = "TRUE", host: AttributeValue? = nil,
        _ change: (inout Entry) -> Void = { _ in }
    ) async throws {
        var entry = accountEntry(home: home(uid).string, uid: uid)
        entry.dn = try Self.dn(uid)
        entry["objectClass"] = [
            "top", "account", "posixAccount", "shadowAccount", "sstBackup", "sstProvisioning", "sstRelationship",
        ]
        let values: [(AttributeName, AttributeValue)] = [
            ("cn", "Account"), ("sstProvisioningMode", mode), ("sstProvisioningState", "20261121T120000Z"),
            ("sstProvisioningExecutionDate", "0"), ("sstIsActive", active), ("sstBackupWarningOn", "TRUE"),
            ("sstBackupWarningNumbers", "0"), ("sstBackupWarningDays", "1"), ("sstNotificationWarningLevel", "85"),
            ("sstNotificationWarningMedium", "mail"), ("sstUseSelfcare", "TRUE"), ("sstUseSSH", "TRUE"),
        ]
        for (name, value) in values { entry[name] = [value] }
        if let host { entry["host"] = [host] }
        change(&entry)
        try await manager.add(entry)
    }

    /// Adds an account and provisions its home and configuration.
    func addProvisioned(_ uid: String, _ change: (inout Entry) -> Void = { _ in }) async throws {
        try await add(uid, change)
        try await BackupRsnapshotService(configuration: configuration).carryOut(.add, try #require(await entry(uid)))
    }

    func entry(_ uid: String) async throws -> Entry? {
        try await manager.entry(at: Self.dn(uid), attributes: ["*", "entryUUID", "entryCSN"])
    }

    func values(_ name: AttributeName, of uid: String) async throws -> [String] {
        try #require(await entry(uid))[name].compactMap(\.text)
    }

    /// The inodes of the snapshots by name: equal results mean that nothing was rotated.
    func snapshots(of uid: String) throws -> [String: UInt64] {
        let directory = home(uid).appending(".snapshots")
        let names = try FileManager.default.contentsOfDirectory(atPath: directory.string)
        return Dictionary(
            uniqueKeysWithValues: names.filter { !$0.hasPrefix(".") }
                .map { ($0, UInt64(status(directory.appending($0))?.st_ino ?? 0)) })
    }

    /// Writes the state file of an account's snapshots.
    func record(_ state: SnapshotState, of uid: String) async throws {
        try await snapshots(of: uid).record(state)
    }

    /// The state file of an account's snapshots.
    func state(of uid: String) async throws -> SnapshotState { try await snapshots(of: uid).state() }

    private func snapshots(of uid: String) async throws -> SnapshotDirectory {
        try #require(try SnapshotDirectory.open(for: await account(uid), configuration))
    }

    private func account(_ uid: String) async throws -> BackupAccount {
        try BackupAccount(reading: try #require(await entry(uid)), for: .modify, places: configuration.places)
    }

    /// The steps of a backup, one by one.
    func work(on uid: String) async throws -> SnapshotWork {
        try PreparedBackup(
            await account(uid), .daily, configuration, Self.jobSettings, clock: SystemWallClock(),
            steadyClock: ContinuousClock()
        ).work
    }

    // MARK: Backups

    private static var jobSettings: BackupJobsConfiguration {
        var jobs = BackupJobsConfiguration()
        jobs.timeLimit = .seconds(120)
        jobs.grace = .seconds(1)
        jobs.host = host
        return jobs
    }

    func jobs(_ change: (inout BackupJobsConfiguration) -> Void = { _ in }) -> BackupJobs {
        var jobs = Self.jobSettings
        change(&jobs)
        return BackupJobs(
            engine: engine, configuration: { self.changed.withLock(\.self) }, jobs: { [jobs] in jobs })
    }

    /// The job of a backup.
    func request(
        _ level: SnapshotLevel, _ uid: String, from jobs: BackupJobs? = nil, clock: (any SteadyClock)? = nil
    ) async throws -> JobRequest {
        var jobs = jobs ?? self.jobs()
        if let clock { jobs.steadyClock = clock }
        return try #require(await jobs.requests(of: level, accounts: [uid], isForced: true).jobs.first)
    }

    /// One attempt of a backup.
    func backup(
        _ level: SnapshotLevel, _ uid: String, _ change: (inout BackupJobsConfiguration) -> Void = { _ in }
    ) async throws -> JobOutcome {
        try await attempt(request(level, uid, from: jobs(change)))
    }

    /// The same with other settings.
    func backup(
        _ level: SnapshotLevel, _ uid: String, snapshots: SnapshotAccess, confinement: CopyConfinement = .on
    ) async throws -> JobOutcome {
        let jobs = BackupJobs(
            engine: engine, configuration: { self.changed(snapshots, confinement) }, jobs: { Self.jobSettings })
        return try await attempt(request(level, uid, from: jobs))
    }

    /// The inspection of `accounts explain`.
    func inspection(of uid: String, snapshots: SnapshotAccess) async throws -> BackupInspection {
        let entry = try #require(await entry(uid))
        let account = try #require(Account(entry, names: AttributeNames()))
        return BackupJobs.inspection(of: account, configuration: changed(snapshots), host: Self.host)
    }

    private func changed(_ snapshots: SnapshotAccess, _ confinement: CopyConfinement = .on) -> BackupConfiguration {
        var changed = configuration
        (changed.snapshots, changed.confinement) = (snapshots, confinement)
        return changed
    }

    /// - Parameter earlier: a job whose attempt was interrupted and is repeated; nil: a new one.
    @MainActor func attempt(
        _ request: JobRequest, repeating earlier: Job? = nil, scripts: ScriptRunner = ScriptRunner(),
        began: (Job) -> Void = { _ in }
    ) async throws -> JobOutcome {
        if isRoot, configuration.ownership == .account, ownsUploads.withLock(\.self) { try giveUploadsToAccounts() }
        var executor = JobExecutor(registry: registry)
        executor.runner = scripts
        let number = try await ids.next()
        let job = await executor.open(
            earlier
                ?? Job(
                    id: number, type: request.type, name: request.name, level: request.level,
                    subject: request.subject, client: request.client, created: SystemWallClock().now))
        began(job)
        scheduler.offer(Scheduler.Item(job: job.id, on: JobSubject("\(job.id)"), class: jobClass))
        defer { scheduler.finish(.job(job.id)) }
        let attempt = earlier.map { max(1, $0.attempts.count) + 1 } ?? 1
        let outcome = try await executor.attempt(job, number: attempt, request.work)
        await executor.close(job, outcome)
        return outcome
    }

    /// Gives files that the test has written as root to the accounts, like uploads.
    private func giveUploadsToAccounts() throws {
        for uid in try FileManager.default.contentsOfDirectory(atPath: directory.homes.string) {
            guard let number = UInt32(uid) else { continue }
            let uploads = home(uid).appending("incoming")
            for name in FileManager.default.enumerator(atPath: uploads.string)?.compactMap({ $0 as? String }) ?? [] {
                lchown(uploads.pushing(FilePath(name)).string, number, number)
            }
        }
    }

    /// The reported percentages, in order.
    var progress: [Int] {
        recorder.records.compactMap(\.progress).reduce(into: []) { told, percent in
            if told.last != percent { told.append(percent) }
        }
    }

    /// Runs a body whenever a step of this name ends; nil: no longer.
    func after(step name: String, _ body: (@Sendable () -> Void)?) { afterSteps.set(name, body) }

    var steps: [Job.Step] { recorder.opened.compactMap(recorder.job).flatMap(\.steps) }
}

/// The sizes by du: bytes on the disk of each path, shared files counted for the first one.
func du(_ paths: [FilePath], _ options: [String] = []) async throws -> [UInt64] {
    let result = try await ScriptRunner().run(
        ScriptInvocation(
            executable: "/usr/bin/du", arguments: ["-s", "-B1"] + options + paths.map(\.string),
            environment: ["LC_ALL": "C"], timeLimit: .seconds(60), grace: .seconds(1)))
    #expect(result.complaint == nil, "\(result.outputTail)")
    return result.outputTail.split(separator: "\n").compactMap {
        $0.split(separator: "\t").first.flatMap { UInt64($0) }
    }
}

extension SnapshotState {
    /// As after a whole snapshot of a level.
    mutating func record(success level: SnapshotLevel, at time: Timestamp) {
        complete(JobMark(number: 1, created: 0), level: level.rawValue, End(isWhole: true), at: time)
    }
}
