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
    fileprivate func shutdown() async {
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

/// The engine from its start to its orderly end.
struct EngineService: Service {
    let engine: Engine
    let grace: Duration
    var notifier = ServiceNotifier(environment: [:])
    var logger = Logger(label: "engine")

    func run() async throws {
        await engine.start()
        logger.notifying { try notifier.notify(.ready) }
        await shutdown()
        logger.notifying { try notifier.notify(.stopping) }
        await engine.stop(grace: grace)
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

/// Reads the settings anew on SIGHUP. Wrong settings change nothing.
actor SettingsReloader: Service {
    private let files: SettingsOptions
    private let reloads: UnixSignalsSequence
    private let engine: Engine
    private let notifier: ServiceNotifier
    private let logger: Logger
    private(set) var current: DaemonConfiguration

    init(
        files: SettingsOptions, first: DaemonConfiguration, reloads: UnixSignalsSequence, engine: Engine,
        notifier: ServiceNotifier, logger: Logger
    ) {
        self.files = files
        self.reloads = reloads
        current = first
        self.engine = engine
        self.notifier = notifier
        self.logger = logger
    }

    func run() async throws {
        for await _ in reloads.cancelOnGracefulShutdown() {
            logger.notifying { try notifier.notify(.reloading) }
            await reload()
            logger.notifying { try notifier.notify(.ready) }
        }
    }

    private func reload() async {
        let changed: DaemonConfiguration
        do {
            changed = try files.load { logger.log(level: $0.severity == .error ? .error : .warning, "\($0)") }
            try RuntimeDirectory.prepare(changed.backup.lockDirectory, mode: 0o700)
        } catch {
            logger.error("the settings are wrong and nothing was changed: \(error)")
            return
        }
        for name in current.restartNeeded(for: changed) {
            logger.warning("\(name) has changed; it takes effect when the daemon is started anew")
        }
        current = changed
        await engine.reload(changed.engine)
        logger.notice("the settings have been read anew")
    }
}

/// Removes archived homes when their days are over: at the start and once a day.
struct PurgeService: Service {
    let reloader: SettingsReloader
    let logger: Logger
    private let clock = SystemWallClock()

    init(reloader: SettingsReloader, logger: Logger) {
        self.reloader = reloader
        self.logger = logger
    }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                do {
                    let report = try await ArchivePurge(await reloader.current.backup).run(now: clock.now)
                    for purged in report.purged { logger.notice("the archived home \(purged.path) has been removed") }
                    for problem in report.problems { logger.error("an archived home stays: \(problem)") }
                    try await clock.sleep(until: clock.now + .seconds(86_400))
                } catch is CancellationError {
                    return
                } catch {
                    logger.error("archived homes cannot be looked through: \(error)")
                    do { try await clock.sleep(until: clock.now + .seconds(3_600)) } catch { return }
                }
            }
        }
    }
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
