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

/// Starts everything in order and stops it in the reverse.
///
/// Settings, then the locks, then the state, then the engine: whatever is wrong is said before anything is touched.
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
        if !configuration.service.timeZone.isEmpty { setenv("TZ", configuration.service.timeZone, 1) }
        umask(0o022)
        LoggingSystem.bootstrap { _ in
            let environment = ProcessInfo.processInfo.environment
            return log.isDebugging
                ? TerminalLogHandler(environment: environment)
                : SyslogLogHandler(
                    identity: configuration.service.syslog, switches: configuration.global.log,
                    environment: environment)
        }
        LogWriter.flushAtExit()
        var logger = Logger(label: "prov-backup-rsnapshot")
        if log.isDebugging { logger.logLevel = .trace }
        self.logger = logger
        EventLoop.shared.onSlowSlice = { logger.debug("the event loop was held up for \($0) by one piece of work") }
    }

    /// The daemon itself has about 40 open, the start of a script wants 36 free, and some jobs run at the same time. With less, the libraries
    /// end the program in the middle of its work.
    private static let fewestDescriptors: rlim_t = 128

    /// Every job takes some descriptors, more than the usual soft limit of 1,024 allows.
    private static func raiseDescriptorLimit() throws {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        guard limit.rlim_max >= fewestDescriptors else {
            throw CommandFailure(
                "the limit on open files is \(limit.rlim_max); at least \(fewestDescriptors) are needed",
                hint: "raise it: LimitNOFILE=1024 in the systemd unit, or ulimit -n 1024 in the shell",
                status: .wrongConfiguration)
        }
        OwnProcess.raiseOpenFiles()
    }

    /// Runs until SIGTERM or SIGINT. SIGHUP has the settings read anew.
    @MainActor func run() async throws {
        let signals = try ProcessSignals([SIGHUP, SIGINT, SIGTERM])
        if isDryRun {
            let engine = dryEngine()
            engine.start()
            await Self.untilStopped(by: signals) {}
            return await engine.stop(grace: .zero, patience: .zero)
        }
        // Nothing needs to be stopped in order yet.
        signals.deadly = [SIGINT, SIGTERM]
        let locks = try takeLocks()
        let work = try await makeWork()
        let engine = work.engine
        let jobs = DaemonJobs(
            configuration, parts: work.parts, engine: engine, history: work.parts.history, logger: logger)
        let notifier = ServiceNotifier(environment: ProcessInfo.processInfo.environment)
        logger.notice(
            "prov-backup-rsnapshot \(Version.description) starts",
            metadata: [
                "environment": "\(configuration.global.environment)", "settings": "\(files.config)",
                "process": "\(getpid())",
            ])
        // With TYPE = Script nothing of [Backup] is used.
        let findings = configuration.script == nil ? await BackupRequirements(configuration.backup).findings() : []
        for finding in findings {
            if let hint = finding.hint { logger.warning("\(finding.subject): \(finding.finding); \(hint)") }
        }
        let views = ShownSnapshots(configuration, logger: logger)
        let reloader = SettingsReloader(
            files: files, first: configuration, work: work, jobs: jobs, views: views, notifier: notifier, logger: logger
        )
        signals.deadly = []
        let parts = StartedParts()
        do throws(ControlServerError) {
            parts.start { await feedWatchdog(notifier) }
            startMail(work.parts.reports, in: parts)
            let reports = try await ReportServer(under: locks.runtime, registry: work.parts.registry)
            parts.add { await reports.stop() }
            if let notice = reports.notice { logger.info("\(notice)") }
            let handler = ControlHandler(engine: engine, started: started, desk: jobs, reloader: reloader)
            let control = try await ControlServer(under: locks.runtime) { await handler.answer($0) }
            parts.add { await control.stop() }
        } catch {
            await parts.stop()
            throw error
        }
        startWork(work, jobs, notifier, in: parts)
        reloader.start()
        parts.add { await reloader.stop() }
        parts.start { await views.run() }
        let purge = DailyPurge(jobs: jobs, presence: work.parts.presence, logger: logger)
        parts.start { await purge.run() }
        await Self.untilStopped(by: signals, reload: reloader.beginReload)
        await parts.stop()
        logger.notice("prov-backup-rsnapshot has stopped")
        withExtendedLifetime(locks) {}
    }

    /// Tells systemd that the daemon is alive, where it asks. The event loop sends it: while that is held up, systemd hears nothing.
    private func feedWatchdog(_ notifier: ServiceNotifier) async {
        guard let interval = notifier.watchdogInterval else { return }
        while !Task.isCancelled {
            logger.notifying { try notifier.notify(.watchdog) }
            try? await Task.sleep(for: interval / 2)
        }
    }

    /// Begins to send mails. They are stopped after the engine, whose last jobs may have something to tell.
    @MainActor private func startMail(_ reports: JobReports, in parts: StartedParts) {
        let (end, isOver) = AsyncStream<Never>.makeStream()
        let mail = Task { await reports.sendMail { for await _ in end {} } }
        parts.add {
            isOver.finish()
            await mail.value
        }
    }

    /// Begins to start the engine and all jobs, which takes as long as the site's handlers are loaded.
    @MainActor private func startWork(
        _ work: DaemonWork, _ jobs: DaemonJobs, _ notifier: ServiceNotifier, in parts: StartedParts
    ) {
        let starting = Task {
            await jobs.start()
            work.engine.start()
            logger.notifying { try notifier.notify(.ready) }
        }
        let (grace, patience) = (configuration.service.stopGrace, configuration.stopPatience)
        parts.add { [logger] in
            await starting.value
            logger.notifying { try notifier.notify(.stopping) }
            await work.engine.stop(grace: grace, patience: patience) {
                await jobs.stop(grace: grace, patience: patience)
            }
            await work.parts.stop()
        }
    }

    /// A second signal that asks for the stop changes nothing.
    @MainActor private static func untilStopped(by signals: ProcessSignals, reload: () -> Void) async {
        for await signal in signals.received {
            guard signal == SIGHUP else { return }
            reload()
        }
    }

    /// Works on what is due now.
    func runOnce() async throws {
        try await configuration.connectOnce().close()
        let locks = isDryRun ? nil : try takeLocks()
        let work = isDryRun ? nil : try await makeWork()
        let engine = work?.engine ?? dryEngine()
        await work?.parts.handlers.start()
        if let work { await engine.takeUp(await work.parts.leftJobs()) }
        try await CommandFailure.translating { try await engine.runOnce() }
        let left = await engine.snapshot()
        await engine.stop(grace: configuration.service.stopGrace, patience: configuration.stopPatience)
        await work?.parts.stop()
        await work?.parts.reports.sendMail {}
        withExtendedLifetime(locks) {}
        // What would be tried again later has not been done either.
        if left.failed > 0 || left.troubled > 0 || !left.retrying.isEmpty || left.deletes.count > 0 {
            throw ExitCode(ProcessExitStatus.failure.rawValue)
        }
    }

    /// Carries one account's wish out here, since no daemon runs.
    func provision(_ key: AccountKey) async throws -> ProvisioningExitCode? {
        let locks = try takeLocks()
        let work = try await makeWork()
        await work.parts.handlers.start()
        // A job that an earlier run began for the account goes on under its number.
        await work.engine.takeUp(await work.parts.leftJobs().filter { $0.subject == JobSubject(key.uuid) })
        let code = await work.engine.provision(key)
        await work.engine.stop(grace: configuration.service.stopGrace, patience: configuration.stopPatience)
        await work.parts.stop()
        await work.parts.reports.sendMail {}
        withExtendedLifetime(locks) {}
        return code
    }

    /// One lock is not enough: somebody may remove RUNTIME_DIRECTORY, which is made anew, while the first daemon runs.
    private func takeLocks() throws -> (runtime: InstanceLock, state: InstanceLock) {
        let (runtime, state) = (configuration.service.runtimeDirectory, configuration.service.stateDirectory)
        do {
            try RuntimeDirectory.prepare(runtime)
            try RuntimeDirectory.prepare(state, mode: 0o700)
            // By another name, since both may be the same directory.
            return (
                try InstanceLock(in: runtime),
                try InstanceLock(in: state, name: "state-lock", setting: "STATE_DIRECTORY")
            )
        } catch let error as RuntimeDirectoryError {
            throw CommandFailure("\(error)", hint: "nothing was started", status: error.exitStatus)
        } catch let error as InstanceLockError {
            throw CommandFailure("\(error)", hint: "nothing was started", status: error.exitStatus)
        }
    }

    /// To be called with the locks held: what runs besides is of no other daemon.
    private func makeWork() async throws -> DaemonWork {
        let state = configuration.service.stateDirectory
        do {
            for directory in [configuration.backup.lockDirectory, configuration.scripts.events.moduleDirectory] {
                try RuntimeDirectory.prepare(directory, mode: 0o700)
            }
            await endLeftovers()
            let source = try JobIDSource(file: state.appending("job-number"))
            let presence = Presence(file: state.appending("alive")) {
                ClockSynchronization.current != .unsynchronized
            }
            let reports = JobReports(configuration, logger: logger)
            let deletes = try HourlyLimit(file: state.appending("deletes")) { reports.deletesWait($0) }
            let seen = SeenVersions(file: state.appending("seen"))
            for notice in [source.notice, presence.notice, deletes.notice, seen.notice].compactMap(
                \.self)
            {
                logger.warning("\(notice)")
            }
            removeAttempts(in: state)
            let parts = JobParts(configuration, ids: source, presence: presence, reports: reports, logger: logger)
            let engine = Engine(
                parts.engine(configuration), ids: source, deletes: deletes, seen: seen, scheduler: parts.scheduler,
                isClockDoubted: { presence.clockDoubtedUntil != nil }, logger: logger)
            return DaemonWork(engine: engine, parts: parts)
        } catch let error as RuntimeDirectoryError {
            throw CommandFailure("\(error)", hint: "nothing was started", status: error.exitStatus)
        } catch let error as StateFileError {
            throw CommandFailure("\(error)", hint: "nothing was started")
        }
    }

    /// A daemon that was killed has left its scripts running, and their jobs are about to be run anew: never two at once.
    private func endLeftovers() async {
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
            logger.warning("an earlier daemon that did not end in order left \(name) running; it was ended")
        }
        if let reason = await BlockingWork.run({ LeftoverProcesses.escape }) {
            logger.notice("\(reason)")
        }
    }

    /// Earlier versions counted attempts in files of their own; the history does so now.
    private func removeAttempts(in state: FilePath) {
        let directory = state.appending("attempts")
        unlink(directory.appending("_attempts").string)
        guard rmdir(directory.string) != 0, errno != ENOENT else { return }
        logger.notice("\(directory) is no longer used and can be removed")
    }

    /// It needs neither lock nor state: it may run beside the real one.
    private func dryEngine() -> Engine {
        Engine(configuration.engine, ids: nil, planPrinter: PlanPrinter { print($0) }, logger: logger)
    }
}

/// What works, with what all its jobs share.
struct DaemonWork: Sendable {
    let engine: Engine
    let parts: JobParts
}
