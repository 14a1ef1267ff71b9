import BackupService
import Daemon
import EventLoop
import JobCore
import Logging
import Provisioning

/// The started parts of the daemon, which are stopped in reverse order.
@MainActor final class StartedParts {
    private var stops: [() async -> Void] = []

    /// - Parameter stop: stops the part that was just started.
    func add(stop: @escaping () async -> Void) { stops.append(stop) }

    /// Starts work that runs until it is cancelled.
    func start(_ work: @escaping @MainActor () async -> Void) {
        let task = Task { await work() }
        add {
            task.cancel()
            await task.value
        }
    }

    func stop() async {
        while let stop = stops.popLast() { await stop() }
    }
}

/// Does one piece of work after the other, in the order of the calls.
@MainActor final class WorkInOrder {
    private var last: Task<Void, Never>?

    /// - Returns: the result of the work, which is cancelled with the calling task.
    func perform<Value: Sendable>(_ work: @escaping @MainActor () async throws -> Value) async throws -> Value {
        let earlier = last
        let task = Task {
            await earlier?.value
            return try await work()
        }
        last = Task { _ = await task.result }
        return try await withTaskCancellationHandler {
            try await task.value
        } onCancel: {
            task.cancel()
        }
    }
}

extension Logger {
    /// Does what is not worth more than a warning if it fails.
    func warningOfFailure(_ body: () throws -> Void) {
        do { try body() } catch { warning("\(error)") }
    }
}

/// Reloads the settings on SIGHUP and by command; wrong settings change nothing. Takes over a corrected login when the LDAP server refuses it.
///
/// Only one reload runs at a time; requests that arrive meanwhile share the next one.
@MainActor final class SettingsReloader {
    private let files: SettingsOptions
    private let jobs: DaemonJobs
    private let views: ShownSnapshots
    private let notifier: ServiceNotifier
    private let logger: Logger
    private let current: CurrentConfiguration
    /// The settings of the start, for those that need a restart.
    private let first: DaemonConfiguration
    private var running: Task<ReloadOutcome, Never>?
    /// Has not begun.
    private var next: Task<ReloadOutcome, Never>?
    private var password: Task<Void, Never>?
    private var isStopping = false
    /// Why the last reload was refused; nil: it was not.
    private(set) var refusal: String?

    init(
        files: SettingsOptions, current: CurrentConfiguration, jobs: DaemonJobs, views: ShownSnapshots,
        notifier: ServiceNotifier, logger: Logger
    ) {
        self.files = files
        self.current = current
        first = current.value
        self.jobs = jobs
        self.views = views
        self.notifier = notifier
        self.logger = logger
    }

    func start() { password = Task { await watchPassword() } }

    /// A reload that still reads the settings changes nothing any more.
    func stop() {
        isStopping = true
        password?.cancel()
    }

    /// - Returns: a reload that begins from now on.
    @discardableResult
    func reload() -> Task<ReloadOutcome, Never> {
        if let next { return next }
        let task = Task { [running] in
            _ = await running?.value
            (self.running, next) = (next, nil)
            await jobs.started()
            guard !isStopping else { return ReloadOutcome.stopping }
            logger.warningOfFailure { try notifier.notify(.reloading) }
            let outcome = await readAndAdopt()
            if !isStopping { logger.warningOfFailure { try notifier.notify(.ready) } }
            return outcome
        }
        next = task
        return task
    }

    /// While the LDAP server refuses ADMIN_USER and its password, looks periodically whether they were corrected. No other setting is taken over:
    /// somebody may be writing them, and errors in them do not matter.
    private func watchPassword() async {
        for await _ in jobs.engine.credentialRefusals {
            while jobs.engine.areCredentialsRefused {
                do { try await Task.sleep(for: Self.passwordInterval) } catch { return }
                let (user, password) = await BlockingWork.run { [files] in
                    let read = files.settings()
                    return (
                        try? files.value(of: \DatabaseSettings.user, in: read),
                        try? files.value(of: \DatabaseSettings.password, in: read)
                    )
                }
                // A reload or the stop may have come meanwhile.
                guard let user, let password, !isStopping, jobs.engine.areCredentialsRefused,
                    current.replaceLogin(user, password)
                else { continue }
                logger.notice("the credentials that the LDAP server refuses were replaced")
                jobs.engine.reload()
            }
        }
    }

    private static let passwordInterval = Duration.seconds(5)

    private func readAndAdopt() async -> ReloadOutcome {
        var outcome = ReloadOutcome()
        do {
            let (read, problems) = await BlockingWork.run { [files, first] in Self.read(files, since: first) }
            for (level, problem) in problems {
                logger.log(level: level, "\(problem)")
                outcome.problems.append(problem)
            }
            let new = try read.get()
            guard !isStopping else { return .stopping }
            outcome.changed = new.settings.changes(since: current.value.settings)
            outcome.restartNeeded = first.restartNeeded(for: new)
            adopt(new)
        } catch {
            logger.error("reload failed, the settings are unchanged: \(error)")
            refusal = (error as? CommandFailure)?.reason ?? "\(error)"
            outcome.refusal = Self.failure(error)
            return outcome
        }
        for name in outcome.restartNeeded {
            logger.warning("\(name) has changed; it takes effect when the daemon is restarted")
        }
        let changed = outcome.changed.isEmpty ? "none" : outcome.changed.joined(separator: ", ")
        logger.notice("the settings have been reloaded", metadata: ["changed": "\(changed)"])
        return outcome
    }

    /// Reads the settings and their problems. Blocks.
    private nonisolated static func read(
        _ files: SettingsOptions, since start: DaemonConfiguration
    ) -> (Result<DaemonConfiguration, any Error>, problems: [(Logger.Level, String)]) {
        var problems: [(Logger.Level, String)] = []
        let result = Result {
            let written = try files.load { problems.append(($0.severity == .error ? .error : .warning, "\($0)")) }
            // As the next start does.
            try written.demandTrust { problems.append((.error, $0)) }
            let new = try written.untilRestart(of: start)
            problems += new.unusableScripts(now: SystemWallClock().now).map { (.warning, $0) }
            do throws(CommandFailure) {
                try RuntimeDirectory.prepare(new.backup.lockDirectory, mode: 0o700)
            } catch {
                problems.append((.error, "\(error)"))
                throw error
            }
            return new
        }
        return (result, problems)
    }

    /// Jobs, mails and limits read the new settings by themselves; what runs without a job begins again with them.
    private func adopt(_ new: DaemonConfiguration) {
        let former = current.value
        current.value = new
        refusal = nil
        jobs.engine.reload()
        jobs.followSchedules()
        jobs.makeUpForMissedRuns(since: jobs.clock.now, former: former)
        views.restore()
    }

    private static func failure(_ error: any Error) -> CommandFailure {
        let failure = error as? CommandFailure
        return CommandFailure(
            "\(failure?.reason ?? "\(error)"); nothing was changed, the daemon keeps its settings",
            hint: "correct them, then: systemctl reload prov-backup-rsnapshot", status: failure?.status ?? .failure)
    }
}

extension ReloadOutcome {
    /// The daemon stops.
    fileprivate static let stopping = ReloadOutcome(
        refusal: CommandFailure(
            "the daemon stops", hint: "it reads the settings at its next start", status: .unavailable))
}

/// Mounts the snapshots in the homes according to SNAPSHOTS, at the start and after each reload. Mounts do not survive a boot.
struct ShownSnapshots {
    private let current: CurrentConfiguration
    private let requests: AsyncStream<Void>
    private let request: AsyncStream<Void>.Continuation
    private let logger: Logger
    /// Problems that are logged at a time.
    private static let namedProblems = 10

    init(_ current: CurrentConfiguration, logger: Logger) {
        (requests, request) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        self.current = current
        self.logger = logger
        restore()
    }

    /// Asks to mount according to the current settings.
    func restore() { request.yield() }

    /// Runs until it is cancelled.
    func run() async {
        for await _ in requests {
            let configuration = current.value
            // With TYPE = Script nothing of [Backup] is used.
            guard configuration.script == nil else { continue }
            do { log(try await SnapshotViews.restore(configuration.backup)) } catch { continue }
        }
    }

    private func log(_ report: SnapshotViews) {
        if !report.changed.isEmpty {
            logger.notice("snapshots: the mounts of \(report.changed.count) of \(report.accounts) homes were renewed")
        }
        let problems = report.problems + report.misplaced
        for problem in problems.prefix(Self.namedProblems) {
            logger.warning("snapshots are not shown: \(problem)")
        }
        if problems.count > Self.namedProblems {
            logger.warning(
                "snapshots are not shown: \(problems.count) problems in total; see: prov-backup-rsnapshot check")
        }
    }
}

/// What the daemon does every hour: it records that it runs, and once a day, first at the start, removes expired archived homes if the clock is
/// trusted.
struct HourlyWork {
    let jobs: DaemonJobs
    let presence: Presence
    let logger: Logger
    private let clock: any WallClock = SystemWallClock()
    private static let hoursBetween = 24

    /// Runs until it is cancelled.
    func run() async {
        var hours = 0
        var isLogged = false
        while !Task.isCancelled {
            if let until = presence.distrustedUntil {
                if !isLogged, await jobs.configuration.script == nil {
                    logger.notice(
                        """
                        archived homes are not removed before \(until.text): the daemon has not run for more \
                        than a day or never before, or the machine's clock was set
                        """)
                }
                isLogged = true
            } else if hours <= 0 {
                isLogged = false
                hours = Self.hoursBetween
                await purge()
            }
            try? await clock.sleep(for: .seconds(3_600))
            hours -= 1
            await BlockingWork.run { [presence, logger] in logger.warningOfFailure { try presence.note() } }
        }
    }

    private func purge() async {
        do {
            try await jobs.purge()
        } catch {
            if await !jobs.isStopping { logger.error("archived homes cannot be listed: \(error)") }
        }
    }
}
