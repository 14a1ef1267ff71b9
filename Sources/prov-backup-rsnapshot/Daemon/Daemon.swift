import ArgumentParser
import BackupService
import Daemon
import LDAP
import EventLoop
import FoundationEssentials
import Glibc
import JobCore
import Logging
import Provisioning
import SystemPackage

/// Starts the parts of the daemon in order and stops them in reverse order.
///
/// The order is settings, locks, state, engine, so that errors are reported before anything is changed.
@MainActor struct Daemon {
    private let files: SettingsOptions
    private let configuration: DaemonConfiguration
    private let isDryRun: Bool
    private let logger: Logger
    private let started = SystemWallClock().now

    init(files: SettingsOptions, log: LogOptions, isDryRun: Bool = false) throws {
        OwnProcess.forbidCoreDumps()
        try Self.raiseDescriptorLimit()
        self.files = files
        self.isDryRun = isDryRun
        configuration = try files.load()
        try configuration.demandTrust { printError($0) }
        let configuration = configuration
        umask(0o022)
        let environment = ProcessInfo.processInfo.environment
        let handler =
            log.isDebugging
            ? LineLogHandler.terminal(environment: environment)
            : LineLogHandler.system(
                identity: configuration.service.syslog, switches: configuration.global.log, environment: environment)
        LoggingSystem.bootstrap { _ in handler }
        var logger = Logger(label: "prov-backup-rsnapshot")
        if log.isDebugging { logger.logLevel = .trace }
        self.logger = logger
        for problem in configuration.unusableScripts(now: started) { logger.warning("\(problem)") }
        EventLoop.shared.onSlowSlice = { logger.debug("one task blocked the event loop for \($0)") }
    }

    /// The daemon opens about 40, starting a script needs 36 free ones, and several jobs run at the same time. Below that, libraries abort.
    private static let minimumDescriptors: rlim_t = 128

    /// The jobs may need more descriptors than the usual soft limit of 1,024.
    private static func raiseDescriptorLimit() throws {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        guard limit.rlim_max >= minimumDescriptors else {
            throw CommandFailure(
                "the limit on open files is \(limit.rlim_max); at least \(minimumDescriptors) are needed",
                hint: "raise it: LimitNOFILE=1024 in the systemd unit, or ulimit -n 1024 in the shell",
                status: .wrongConfiguration)
        }
        OwnProcess.raiseOpenFiles()
    }

    /// Runs until SIGTERM or SIGINT. SIGHUP reloads the settings.
    func run() async throws {
        let signals = try ProcessSignals([SIGHUP, SIGINT, SIGTERM])
        if isDryRun {
            let engine = dryEngine()
            engine.start()
            await Self.untilStopped(by: signals) {}
            return await engine.stop(grace: .zero, cancelTimeout: .zero)
        }
        // No part needs an orderly stop yet.
        signals.deadly = [SIGINT, SIGTERM]
        let locks = try takeLocks()
        let current = CurrentConfiguration(configuration)
        let (engine, work) = try await makeEngine(current)
        let jobs = DaemonJobs(current, parts: work, engine: engine, logger: logger)
        let notifier = ServiceNotifier(environment: ProcessInfo.processInfo.environment)
        logger.notice(
            "prov-backup-rsnapshot \(Version.description) starts",
            metadata: [
                "environment": "\(configuration.global.environment)", "settings": "\(files.config)",
                "process": "\(getpid())",
            ])
        // With TYPE = Script nothing of [Backup] is used.
        let findings = configuration.script == nil ? await configuration.backup.requirements() : []
        for finding in findings {
            if let hint = finding.hint { logger.warning("\(finding.subject): \(finding.finding); \(hint)") }
        }
        let views = ShownSnapshots(current, logger: logger)
        let reloader = SettingsReloader(
            files: files, current: current, jobs: jobs, views: views, notifier: notifier, logger: logger)
        signals.deadly = []
        let parts = StartedParts()
        do throws(CommandFailure) {
            parts.start { await feedWatchdog(notifier) }
            startMail(work.reports, in: parts)
            let reports = try await ReportServer(under: locks.runtime, registry: work.registry)
            parts.add { await reports.stop() }
            if let notice = reports.notice { logger.info("\(notice)") }
            let handler = ControlHandler(engine: engine, started: started, jobs: jobs, reloader: reloader)
            let control = try await ControlServer(under: locks.runtime) { await handler.answer($0) }
            parts.add { await control.stop() }
        } catch {
            await parts.stop()
            throw error
        }
        // Stopped after the jobs, since it waits for one of them.
        let hourly = HourlyWork(jobs: jobs, presence: work.presence, logger: logger)
        parts.start { await hourly.run() }
        // Also after them, since storage that hangs may hold it up.
        parts.start { await views.run() }
        startJobs(jobs, notifier, in: parts)
        reloader.start()
        parts.add { reloader.stop() }
        await Self.untilStopped(by: signals, reload: { reloader.reload() })
        await parts.stop()
        logger.notice("prov-backup-rsnapshot has stopped")
        withExtendedLifetime(locks) {}
    }

    /// Feeds systemd's watchdog, if there is one, from the event loop: a blocked loop does not feed it.
    private func feedWatchdog(_ notifier: ServiceNotifier) async {
        guard let interval = notifier.watchdogInterval else { return }
        while !Task.isCancelled {
            logger.warningOfFailure { try notifier.notify(.watchdog) }
            try? await Task.sleep(for: interval / 2)
        }
    }

    /// Starts to send mails. This is stopped after the engine, because its last jobs may fail.
    private func startMail(_ reports: JobReports, in parts: StartedParts) {
        let (end, isOver) = AsyncStream<Never>.makeStream()
        let mail = Task { await reports.mail.run { for await _ in end {} } }
        parts.add {
            isOver.finish()
            await mail.value
        }
    }

    /// Starts all jobs and the engine in the background, because loading the event handlers may take long.
    private func startJobs(_ jobs: DaemonJobs, _ notifier: ServiceNotifier, in parts: StartedParts) {
        let engine = jobs.engine
        let starting = Task {
            await jobs.start()
            engine.start()
            logger.warningOfFailure { try notifier.notify(.ready) }
        }
        parts.add { [logger] in
            await starting.value
            let current = jobs.configuration
            let (grace, cancelTimeout) = (current.service.stopGrace, current.stopKillTimeout)
            logger.warningOfFailure { try notifier.notify(.stopping) }
            await engine.stop(grace: grace, cancelTimeout: cancelTimeout) {
                await jobs.stop(grace: grace, cancelTimeout: cancelTimeout)
            }
            await jobs.parts.stop()
        }
    }

    /// Returns at the first signal that stops the daemon.
    private static func untilStopped(by signals: ProcessSignals, reload: () -> Void) async {
        for await signal in signals.received {
            guard signal == SIGHUP else { return }
            reload()
        }
    }

    /// Processes the requests that are due now.
    func runOnce() async throws {
        try await configuration.connectOnce().close()
        let left: EngineSnapshot
        if isDryRun {
            let engine = dryEngine()
            try await engine.runOnce()
            left = await engine.snapshot()
            await engine.stop(grace: configuration.service.stopGrace, cancelTimeout: configuration.stopKillTimeout)
        } else {
            left = try await withEngine { engine, interrupted in
                await engine.recover(interrupted)
                do { try await engine.runOnce() } catch let error as LDAPError {
                    throw CommandFailure(
                        error,
                        consequence:
                            "requests that were found before this had begun; see: prov-backup-rsnapshot jobs list")
                }
                return await engine.snapshot()
            }
        }
        // Requests that will be retried have not succeeded either.
        if left.failed > 0 || left.troubled > 0 || !left.retrying.isEmpty || left.deletes != nil {
            throw ExitCode(ProcessExitStatus.failure.rawValue)
        }
    }

    /// Processes the request of one account in this process, without a running daemon.
    func provision(_ key: AccountKey) async throws -> ProvisioningExitCode? {
        try await withEngine { engine, interrupted in
            // An interrupted job of the account keeps its number.
            await engine.recover(interrupted.filter { $0.subject == JobSubject(key.uuid) })
            return await engine.provision(key)
        }
    }

    /// Runs an engine without watching the LDAP server.
    private func withEngine<Value>(
        _ body: (Engine, _ interrupted: [Job]) async throws -> Value
    ) async throws -> Value {
        let locks = try takeLocks()
        let (engine, parts) = try await makeEngine(CurrentConfiguration(configuration))
        await parts.handlers.start()
        // Also after an error, the history has everything and failures are mailed.
        let result: Result<Value, any Error>
        do { result = .success(try await body(engine, interruptedJobs(in: parts.history))) } catch {
            result = .failure(error)
        }
        await engine.stop(grace: configuration.service.stopGrace, cancelTimeout: configuration.stopKillTimeout)
        await parts.stop()
        await parts.reports.mail.run {}
        withExtendedLifetime(locks) {}
        return try result.get()
    }

    private func interruptedJobs(in history: JobHistory) async -> [Job] {
        do throws(HistoryError) { return try await history.unfinished() } catch {
            logger.warning("interrupted jobs cannot be read from the history: \(error)")
            return []
        }
    }

    /// Two locks, because RUNTIME_DIRECTORY may be removed and created again while a daemon runs. Without claims a third one, since daemons with
    /// directories of their own would both carry out the requests of the same accounts.
    private func takeLocks() throws -> (runtime: InstanceLock, state: InstanceLock, accounts: InstanceLock?) {
        let (runtime, state) = (configuration.service.runtimeDirectory, configuration.service.stateDirectory)
        try RuntimeDirectory.prepare(runtime)
        try RuntimeDirectory.prepare(state, mode: 0o700)
        let accounts = configuration.backup.configurationDirectory
        // A missing directory is reported with the requests that need it.
        let needsLock =
            configuration.script == nil && configuration.engine.policy.names.claim == nil
            && access(accounts.string, F_OK) == 0
        // With other names, because all may be the same directory.
        return (
            try InstanceLock(in: runtime),
            try InstanceLock(in: state, name: InstanceLock.stateName, setting: "STATE_DIRECTORY"),
            needsLock
                ? try InstanceLock(in: accounts, name: ".accounts-lock", setting: "RSNAPSHOT_CONFIG_DIRECTORY") : nil
        )
    }

    /// Must be called with the locks held: no other daemon may use the state.
    private func makeEngine(_ current: CurrentConfiguration) async throws -> (Engine, JobParts) {
        let state = configuration.service.stateDirectory
        for directory in [configuration.backup.lockDirectory, configuration.scripts.events.moduleDirectory] {
            try RuntimeDirectory.prepare(directory, mode: 0o700)
        }
        await endLeftoverScripts()
        let source = try JobIDSource(file: state.appending("job-number"))
        let presence = Presence(file: state.appending("alive")) { ClockSynchronization.current != .unsynchronized }
        let reports = JobReports(current, logger: logger)
        let deletes = try HourlyLimit(
            file: state.appending("deletes"), limit: { current.value.service.deletesPerHour }
        ) { reports.deletesWait($0) }
        let seen = SeenVersions(file: state.appending("seen")) { [logger] in logger.warning("\($0)") }
        for notice in [source.notice, presence.notice, deletes.notice, seen.notice].compactMap(\.self) {
            logger.warning("\(notice)")
        }
        removeAttempts(in: state)
        let parts = JobParts(current, ids: source, presence: presence, reports: reports, logger: logger)
        let engine = Engine(
            { parts.engine }, ids: source, deletes: deletes, seen: seen, scheduler: parts.scheduler,
            isClockDoubted: { presence.clockDoubtedUntil != nil }, logger: logger)
        return (engine, parts)
    }

    /// Ends the scripts of a daemon that was killed, before their jobs run again.
    private func endLeftoverScripts() async {
        var users: Set<UInt32> = []
        let names =
            configuration.userScripts.values.compactMap(\.user) + [configuration.script?.user].compactMap(\.self)
        for name in Set(names) {
            do throws(ScriptUserError) {
                users.insert(try await ScriptUser.named(name).uid)
            } catch {
                logger.warning("RUN_AS: \(error)")
            }
        }
        let left = await LeftoverProcesses.end(
            reportingTo: configuration.reportSocket.string, users: users, grace: configuration.backup.scriptGrace)
        for name in left {
            logger.warning("ended leftover process of a previous daemon: \(name)")
        }
        if let reason = await BlockingWork.run({ LeftoverProcesses.escape }) {
            logger.notice("\(reason)")
        }
    }

    /// Earlier versions counted attempts in this directory; now the history does.
    private func removeAttempts(in state: FilePath) {
        let directory = state.appending("attempts")
        unlink(directory.appending("_attempts").string)
        guard rmdir(directory.string) != 0, errno != ENOENT else { return }
        logger.notice("\(directory) is no longer used and can be removed")
    }

    /// Needs neither lock nor state, so it may run at the same time as the daemon.
    private func dryEngine() -> Engine {
        Engine({ configuration.engine }, ids: nil, planPrinter: { print($0) }, logger: logger)
    }
}
