import LDAP
import Sandbox
import Glibc
import InMemoryLogging
import JobCore
import Logging
import Provisioning
import Synchronization
import SystemPackage
import TestSupport
import Testing

/// An engine on a real LDAP server, with a service that a test controls.
final class EngineHarness: Sendable {
    let sandbox: LDAPSandbox
    let service = RecordingService()
    let log = InMemoryLogHandler()
    /// The job records of its engines.
    let recorder = ChangeRecorder()
    let clock: any WallClock
    /// Whether the engines doubt the clock.
    let isClockDoubted = Mutex(false)
    /// Of the engine that was made last.
    private let current = Mutex<CurrentSettings?>(nil)
    private let stateDirectory: FilePath
    private let connection: Mutex<LDAPConnection>
    /// Bound as the LDAP server's manager: writes requests, reads outcomes.
    var manager: LDAPConnection { connection.withLock { $0 } }

    static func run(
        sandbox options: SandboxOptions = .testing, clock: any WallClock = SystemWallClock(),
        _ body: (EngineHarness) async throws -> Void
    ) async throws {
        try await LDAPSandbox.temporary(options: options) { sandbox in
            let harness = try await EngineHarness(sandbox: sandbox, clock: clock)
            defer { harness.manager.close() }
            try await body(harness)
        }
    }

    private init(sandbox: LDAPSandbox, clock: any WallClock) async throws {
        self.sandbox = sandbox
        self.clock = clock
        stateDirectory = sandbox.directory.appending("state")
        mkdir(stateDirectory.string, 0o700)
        connection = Mutex(try await Self.connect(sandbox))
    }

    static func connect(_ sandbox: LDAPSandbox) async throws -> LDAPConnection {
        let password = Secret(sandbox.adminPassword)
        return try await LDAPConnection.open(
            ServerAddress(parsing: sandbox.uri),
            options: ConnectionOptions(
                credentials: .simple(bindDN: DN(parsing: sandbox.adminDN), password: password)))
    }

    /// After the server was restarted.
    func reconnect() async throws {
        let new = try await Self.connect(sandbox)
        connection.withLock { $0 = new }
    }

    // MARK: The engine

    /// Settings as a daemon would have them, with the daemon's own rights and short waits.
    func configuration() throws -> Engine.Configuration {
        let credentials = Credentials.simple(
            bindDN: try DN(parsing: sandbox.daemonDN), password: Secret(sandbox.daemonPassword))
        return Engine.Configuration(
            servers: [try ServerAddress(parsing: sandbox.uri)],
            connection: ConnectionOptions(
                credentials: credentials, connectTimeout: .seconds(60), operationTimeout: .seconds(60)),
            policy: DecisionPolicy(scope: WatchScope(base: try Self.base, names: AttributeNames()), calendar: .utc),
            jobRetry: RetryPolicy(maximumAttempts: 3, delay: .milliseconds(10), maximumDelay: .milliseconds(50)),
            ldapRetry: RetryPolicy(
                maximumAttempts: .max, delay: .milliseconds(20), maximumDelay: .milliseconds(200)),
            service: service,
            executor: JobExecutor(registry: JobRegistry(recorder: recorder, clock: clock), clock: clock))
    }

    /// - Parameter state: the name of a state directory of its own, for a second engine; nil: the usual one.
    func engine(
        state: String? = nil, bound: Int = 500_000, deletes: HourlyLimit = HourlyLimit(),
        scheduler: JobScheduler? = nil,
        _ change: (inout Engine.Configuration) throws -> Void = { _ in },
        planPrinter: (@Sendable (String) -> Void)? = nil
    ) async throws -> Engine {
        var configuration = try configuration()
        try change(&configuration)
        var logger = Logger(label: "test") { _ in log }
        logger.logLevel = .debug
        let stateDirectory = state.map { sandbox.directory.appending($0) } ?? stateDirectory
        mkdir(stateDirectory.string, 0o700)
        let settings = CurrentSettings(configuration)
        current.withLock { $0 = settings }
        return await Engine(
            { settings.value }, ids: try JobIDSource(file: stateDirectory.appending("job-number")), deletes: deletes,
            seen: SeenVersions(file: stateDirectory.appending("seen")),
            scheduler: scheduler ?? JobScheduler(clock: clock), planPrinter: planPrinter, bound: bound, clock: clock,
            isClockDoubted: { self.isClockDoubted.withLock(\.self) }, logger: logger)
    }

    /// Reloads the engine that was made last.
    func reload(_ engine: Engine, _ configuration: Engine.Configuration) async {
        current.withLock(\.self)?.value = configuration
        await engine.reload()
    }

    /// The interrupted jobs of its engines, as the history returns them after a crash.
    var interruptedJobs: [Job] { recorder.opened.compactMap(recorder.job).filter(\.isOpen) }

    /// Runs an engine around a body and stops it, also when the body throws.
    func running(
        bound: Int = 500_000, deletes: HourlyLimit = HourlyLimit(), scheduler: JobScheduler? = nil,
        _ change: (inout Engine.Configuration) throws -> Void = { _ in },
        _ body: (Engine) async throws -> Void
    ) async throws {
        let engine = try await engine(bound: bound, deletes: deletes, scheduler: scheduler, change)
        await engine.start()
        do {
            try await body(engine)
        } catch {
            print("what the engine said:", messages.suffix(50).joined(separator: "\n"))
            await engine.stop(grace: .zero)
            throw error
        }
        await engine.stop(grace: .zero)
    }

    // MARK: Accounts

    static var base: DN { get throws { try DN(parsing: SandboxTree.accountsDN) } }

    static func dn(_ uid: String) throws -> DN { try base.appending("uid", uid) }

    /// Adds an account with a request.
    func add(
        _ uid: String, mode: String = "add", state: String = "0", date: String = "0", active: String = "FALSE",
        quota: String = "1073741824", host: String? = nil, classes: [String] = [],
        others: [AttributeName: String] = [:], at dn: DN? = nil
    ) async throws {
        var entry = Entry(dn: try dn ?? Self.dn(uid))
        let values: [(AttributeName, String)] = [
            ("uid", uid), ("cn", "Account \(uid)"), ("uidNumber", "3724300"), ("gidNumber", "3724300"),
            ("homeDirectory", "/home/\(uid)"), ("sstIsActive", active), ("sstQuota", quota),
            ("sstProvisioningMode", mode), ("sstProvisioningState", state), ("sstProvisioningExecutionDate", date),
            ("sstBackupIntervalHourly", "0"), ("sstBackupIntervalDaily", "7"), ("sstBackupIntervalWeekly", "4"),
            ("sstBackupIntervalMonthly", "3"), ("sstBackupIntervalYearly", "0"), ("sstBackupWarningDays", "1"),
            ("sstBackupWarningNumbers", "0"), ("sstBackupWarningOn", "TRUE"), ("sstNotificationWarningLevel", "85"),
            ("sstNotificationWarningMedium", "mail"), ("sstUseSelfcare", "TRUE"), ("sstUseSSH", "TRUE"),
        ]
        entry["objectClass"] = [
            "top", "account", "posixAccount", "shadowAccount", "sstBackup", "sstProvisioning", "sstRelationship",
        ]
        entry["objectClass"] += classes.map { AttributeValue($0) }
        for (name, value) in values { entry[name] = [AttributeValue(value)] }
        for (name, value) in others { entry[name] = [AttributeValue(value)] }
        if let host { entry["host"] = [AttributeValue(host)] }
        try await manager.add(entry)
    }

    /// Writes a request as a web page does: without reading the entry first.
    func request(_ uid: String, _ mode: String, quota: String? = nil) async throws {
        var modifications: [Modification] = [
            .replace("sstProvisioningMode", AttributeValue(mode)), .replace("sstProvisioningState", "0"),
        ]
        if let quota { modifications.append(.replace("sstQuota", AttributeValue(quota))) }
        try await manager.modify(Self.dn(uid), modifications)
    }

    func set(_ uid: String, _ name: AttributeName, _ value: String) async throws {
        try await manager.modify(Self.dn(uid), [.replace(name, AttributeValue(value))])
    }

    func entry(_ uid: String) async throws -> Entry? {
        try await manager.entry(at: Self.dn(uid), attributes: ["*", "entryUUID", "entryCSN"])
    }

    func key(_ uid: String) async throws -> AccountKey {
        let entry = try #require(try await entry(uid))
        let uuid = try #require(entry.text("entryUUID").flatMap { EntryUUID(text: $0) })
        return AccountKey(uuid: uuid, dn: entry.dn)
    }

    func mode(_ uid: String) async throws -> String? { try await entry(uid)?.text("sstProvisioningMode") }
    func returnValue(_ uid: String) async throws -> String? { try await entry(uid)?.text("sstProvisioningReturnValue") }

    func expectMode(_ mode: String, of uid: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        try await eventually("\(uid) becomes \(mode)", sourceLocation: sourceLocation) {
            try await self.mode(uid) == mode
        }
    }

    var messages: [String] { log.entries.map { "\($0.level): \($0.message)" } }
}

/// The configuration of an engine, which a test may replace.
private final class CurrentSettings: Sendable {
    private let state: Mutex<Engine.Configuration>

    init(_ value: Engine.Configuration) { state = Mutex(value) }

    var value: Engine.Configuration {
        get { state.withLock(\.self) }
        set { state.withLock { $0 = newValue } }
    }
}
