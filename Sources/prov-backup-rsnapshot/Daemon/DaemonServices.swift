import BackupRsnapshot
import DaemonKit
import JobCore
import Logging
import Provisioning
import ServiceLifecycle
import UnixSignals

extension ServiceGroup {
    /// A group that SIGTERM and SIGINT stop in order.
    init(services: [any Service], signals logger: Logger) {
        self.init(
            configuration: ServiceGroupConfiguration(
                services: services, gracefulShutdownSignals: [.sigterm, .sigint], logger: logger.quieter))
    }
}

extension Service {
    /// Returns when the daemon is asked to stop, in order or at once.
    func shutdown() async {
        do { try await gracefulShutdown() } catch { return }
    }
}

extension Logger {
    /// For libraries that tell more than an operator wants to know.
    fileprivate var quieter: Logger {
        var logger = self
        logger.logLevel = max(logLevel, .warning)
        return logger
    }

    /// systemd's not being told is worth a line and no more.
    fileprivate func notifying(_ body: () throws -> Void) {
        do { try body() } catch { warning("\(error)") }
    }
}

/// The engine and all jobs from their start to their orderly end.
struct EngineService: Service {
    let engine: Engine
    var jobs: DaemonJobs?
    var parts: JobParts?
    let grace: Duration
    var patience = Duration.zero
    var notifier = ServiceNotifier(environment: [:])
    var logger = Logger(label: "engine")

    func run() async throws {
        await jobs?.start()
        await engine.start()
        logger.notifying { try notifier.notify(.ready) }
        await shutdown()
        logger.notifying { try notifier.notify(.stopping) }
        await engine.stop(grace: grace, patience: patience) { [jobs, grace, patience] in
            await jobs?.stop(grace: grace, patience: patience)
        }
        await parts?.stop()
    }
}

/// The control socket for as long as the daemon runs.
struct ControlService: Service {
    let lock: InstanceLock
    let handler: ControlHandler

    func run() async throws {
        let server = try ControlServer(under: lock) { await handler.answer($0) }
        await shutdown()
        await server.stop()
    }
}

/// Reads the settings anew on SIGHUP, and when a password that the LDAP server refuses is replaced. Wrong settings change nothing.
actor SettingsReloader: Service {
    private let files: SettingsOptions
    private let reloads: UnixSignalsSequence
    private let work: DaemonWork
    private let jobs: DaemonJobs
    private let views: SnapshotViewService
    private let notifier: ServiceNotifier
    private let logger: Logger
    private(set) var current: DaemonConfiguration

    init(
        files: SettingsOptions, first: DaemonConfiguration, reloads: UnixSignalsSequence, work: DaemonWork,
        jobs: DaemonJobs, views: SnapshotViewService, notifier: ServiceNotifier, logger: Logger
    ) {
        self.files = files
        self.reloads = reloads
        current = first
        self.work = work
        self.jobs = jobs
        self.views = views
        self.notifier = notifier
        self.logger = logger
    }

    func run() async throws {
        let (requests, request) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        let password = Task { await self.watchPassword { request.yield() } }
        defer { password.cancel() }
        let signals = Task { [reloads] in
            for await _ in reloads { request.yield() }
        }
        defer { signals.cancel() }
        for await _ in requests.cancelOnGracefulShutdown() {
            logger.notifying { try notifier.notify(.reloading) }
            await reload()
            logger.notifying { try notifier.notify(.ready) }
        }
    }

    /// Where the password stands is for the settings to say, so they are read whole; only while the server refuses the present one.
    private func watchPassword(_ changed: () -> Void) async {
        for await _ in work.engine.credentialRefusals {
            while work.engine.areCredentialsRefused {
                do { try await Task.sleep(for: Self.passwordInterval) } catch { return }
                let credentials = (try? files.load { _ in })?.engine.connection.credentials
                guard let credentials, credentials != current.engine.connection.credentials else { continue }
                logger.notice("the credentials that the LDAP server refuses were replaced")
                changed()
            }
        }
    }

    private static let passwordInterval = Duration.seconds(5)

    private func reload() async {
        let changed: DaemonConfiguration
        do {
            changed = try files.load { logger.log(level: $0.severity == .error ? .error : .warning, "\($0)") }
            try changed.demandTrust { logger.error("\($0)") }
            try RuntimeDirectory.prepare(changed.backup.lockDirectory, mode: 0o700)
        } catch {
            logger.error("the settings are wrong and nothing was changed: \(error)")
            return
        }
        for name in current.restartNeeded(for: changed) {
            logger.warning("\(name) has changed; it takes effect when the daemon is started anew")
        }
        current = changed
        await work.engine.reload(work.parts.engine(changed))
        await jobs.reload(changed)
        views.follow(changed)
        logger.notice("the settings have been read anew")
    }
}

/// Has homes show their snapshots as SNAPSHOTS says, at the start and with new settings: a boot has taken the mounts away.
struct SnapshotViewService: Service {
    private let settings: AsyncStream<BackupConfiguration>
    private let next: AsyncStream<BackupConfiguration>.Continuation
    private let logger: Logger
    /// Problems that are named in the log at a time.
    private static let namedProblems = 10

    init(_ configuration: DaemonConfiguration, logger: Logger) {
        (settings, next) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        self.logger = logger
        follow(configuration)
    }

    /// Sees to it with these settings, as soon as it has done so with those before.
    func follow(_ configuration: DaemonConfiguration) {
        // With TYPE = Script nothing of [Backup] is used.
        if configuration.script == nil { next.yield(configuration.backup) }
    }

    func run() async throws {
        for await configuration in settings.cancelOnGracefulShutdown() {
            let work = Task { try await SnapshotViews(configuration).restore() }
            let result = await withTaskCancellationOrGracefulShutdownHandler {
                await work.result
            } onCancelOrGracefulShutdown: {
                work.cancel()
            }
            if case .success(let report) = result { log(report) }
        }
    }

    private func log(_ report: SnapshotViews.Report) {
        if !report.changed.isEmpty {
            logger.notice("snapshots: the mounts of \(report.changed.count) of \(report.accounts) homes were renewed")
        }
        for problem in report.problems.prefix(Self.namedProblems) {
            logger.warning("snapshots are not shown: \(problem)")
        }
        if report.problems.count > Self.namedProblems {
            logger.warning("snapshots are not shown: \(report.problems.count) problems in all; see check")
        }
    }
}

/// Removes archived homes when their days are over: at the start and once a day, as soon as ages can be trusted. Takes note every hour that the
/// daemon is alive.
struct PurgeService: Service {
    let jobs: DaemonJobs
    let presence: Presence
    let logger: Logger
    private let clock: any WallClock = SystemWallClock()
    private static let hoursBetween = 24

    init(jobs: DaemonJobs, presence: Presence, logger: Logger) {
        self.jobs = jobs
        self.presence = presence
        self.logger = logger
    }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var hours = 0
            var isTold = false
            while !Task.isCancelled {
                if let until = presence.distrustedUntil {
                    if !isTold {
                        logger.notice(
                            """
                            archived homes are not removed before \(ProvisioningTimestamp(until)): the daemon has not run for \
                            more than a day or never before, or the machine's clock was set
                            """)
                    }
                    isTold = true
                } else if hours <= 0 {
                    isTold = false
                    hours = Self.hoursBetween
                    await purge()
                }
                do { try await clock.sleep(for: .seconds(3_600)) } catch { break }
                hours -= 1
                note()
            }
        }
        note()
    }

    private func purge() async {
        do {
            _ = try await jobs.purge()
        } catch {
            logger.error("archived homes cannot be looked through: \(error)")
        }
    }

    private func note() {
        do throws(StateFileError) {
            try presence.note()
        } catch {
            logger.warning("\(error)")
        }
    }
}

/// Sends the mails that wait, also those of the last jobs; what cannot be sent before the end is counted in the log.
struct MailService: Service {
    let reports: JobReports

    func run() async throws { await reports.sendMail { await shutdown() } }
}

/// Tells systemd that the daemon is alive, where it asks.
struct WatchdogService: Service {
    let notifier: ServiceNotifier
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            guard let interval = notifier.watchdogInterval else {
                await shutdown()
                return
            }
            while !Task.isCancelled {
                logger.notifying { try notifier.notify(.watchdog) }
                do { try await Task.sleep(for: interval / 2) } catch { return }
            }
        }
    }
}
