import BackupService
import Daemon
import EventLoop
import JobCore
import Logging
import Provisioning

/// The parts of the daemon that have been started, to be stopped in the reverse order.
@MainActor final class StartedParts {
    private var stops: [() async -> Void] = []

    /// - Parameter stop: ends the part that has just been started.
    func add(stop: @escaping () async -> Void) { stops.append(stop) }

    /// Starts work that goes on until it is cancelled.
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

extension Logger {
    /// systemd's not being told is worth a line and no more.
    func notifying(_ body: () throws -> Void) {
        do { try body() } catch { warning("\(error)") }
    }
}

/// Reads the settings anew on SIGHUP, when a command asks for it, and when a password that the LDAP server refuses is replaced. Wrong settings
/// change nothing. One reading follows the other; those who ask while one is under way share the next.
@MainActor final class SettingsReloader {
    private let files: SettingsOptions
    private let work: DaemonWork
    private let jobs: DaemonJobs
    private let views: ShownSnapshots
    private let notifier: ServiceNotifier
    private let logger: Logger
    /// By these some things go until the next start.
    private let first: DaemonConfiguration
    private(set) var current: DaemonConfiguration
    private let requests: AsyncStream<Void>
    private let request: AsyncStream<Void>.Continuation
    /// Commands that wait for the verdict of the next reading.
    private var waiting: [CheckedContinuation<ReloadOutcome, Never>] = []
    private var reading: Task<Void, Never>?
    private var password: Task<Void, Never>?
    private var hasEnded = false

    init(
        files: SettingsOptions, first: DaemonConfiguration, work: DaemonWork, jobs: DaemonJobs,
        views: ShownSnapshots, notifier: ServiceNotifier, logger: Logger
    ) {
        self.files = files
        self.first = first
        current = first
        (requests, request) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        self.work = work
        self.jobs = jobs
        self.views = views
        self.notifier = notifier
        self.logger = logger
    }

    func start() {
        password = Task { await watchPassword() }
        reading = Task { await readAsAsked() }
    }

    func stop() async {
        hasEnded = true
        password?.cancel()
        request.finish()
        await reading?.value
    }

    private func readAsAsked() async {
        for await _ in requests where !hasEnded {
            let asking = waiting
            waiting = []
            logger.notifying { try notifier.notify(.reloading) }
            let outcome = await readAnew()
            logger.notifying { try notifier.notify(.ready) }
            asking.forEach { $0.resume(returning: outcome) }
        }
        waiting.forEach { $0.resume(returning: .stopping) }
    }

    /// Has the settings read anew, for nobody who waits.
    func beginReload() { request.yield() }

    /// Has the settings read anew by a reading that begins from now on.
    func reload() async -> ReloadOutcome {
        guard !hasEnded else { return .stopping }
        return await withCheckedContinuation { asking in
            waiting.append(asking)
            request.yield()
        }
    }

    /// Where the password stands is for the settings to say, so they are read whole; only while the server refuses the present one.
    private func watchPassword() async {
        for await _ in work.engine.credentialRefusals {
            while work.engine.areCredentialsRefused {
                do { try await Task.sleep(for: Self.passwordInterval) } catch { return }
                let credentials = await BlockingWork.run { [files] in
                    (try? files.load { _ in })?.engine.connection.credentials
                }
                guard let credentials, credentials != current.engine.connection.credentials else { continue }
                logger.notice("the credentials that the LDAP server refuses were replaced")
                request.yield()
            }
        }
    }

    private static let passwordInterval = Duration.seconds(5)

    private func readAnew() async -> ReloadOutcome {
        var outcome = ReloadOutcome()
        do {
            let (read, problems) = await BlockingWork.run { [files] in Self.read(files) }
            for (level, problem) in problems {
                logger.log(level: level, "\(problem)")
                outcome.problems.append(problem)
            }
            let new = try read.get()
            outcome.changed = new.settings.changes(since: current.settings)
            outcome.restartNeeded = first.restartNeeded(for: new)
            await adopt(new)
        } catch {
            logger.error("the settings are wrong and nothing was changed: \(error)")
            outcome.refusal = DaemonReply.Refusal(Self.failure(error))
            return outcome
        }
        for name in outcome.restartNeeded {
            logger.warning("\(name) has changed; it takes effect when the daemon is started anew")
        }
        let changed = outcome.changed.isEmpty ? "none" : outcome.changed.joined(separator: ", ")
        logger.notice("the settings have been read anew", metadata: ["changed": "\(changed)"])
        return outcome
    }

    /// Reads them, and what is odd or wrong about them. It blocks.
    private nonisolated static func read(
        _ files: SettingsOptions
    ) -> (Result<DaemonConfiguration, any Error>, problems: [(Logger.Level, String)]) {
        var problems: [(Logger.Level, String)] = []
        let result = Result {
            let new = try files.load { problems.append(($0.severity == .error ? .error : .warning, "\($0)")) }
            try new.demandTrust { problems.append((.error, $0)) }
            try RuntimeDirectory.prepare(new.backup.lockDirectory, mode: 0o700)
            return new
        }
        return (result, problems)
    }

    private func adopt(_ new: DaemonConfiguration) async {
        current = new
        await work.engine.reload(work.parts.engine(new))
        await jobs.reload(new)
        views.follow(new)
    }

    private static func failure(_ error: any Error) -> CommandFailure {
        let (reason, status): (String, ProcessExitStatus) =
            switch error {
            case let failure as CommandFailure: (failure.reason, failure.status)
            case let error as RuntimeDirectoryError: ("\(error)", error.exitStatus)
            default: ("\(error)", .failure)
            }
        return CommandFailure(
            "\(reason); nothing was changed, the daemon goes on with the settings that it has",
            hint: "correct them, then: systemctl reload prov-backup-rsnapshot", status: status)
    }
}

extension ReloadOutcome {
    /// The daemon is about to end.
    fileprivate static let stopping = ReloadOutcome(
        refusal: DaemonReply.Refusal(
            CommandFailure("the daemon stops", hint: "it reads its settings when it starts", status: .unavailable)))
}

/// Has homes show their snapshots as SNAPSHOTS says, at the start and with new settings: a boot has taken the mounts away.
struct ShownSnapshots {
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

    /// Until it is cancelled.
    func run() async {
        for await configuration in settings {
            do { log(try await SnapshotViews(configuration).restore()) } catch { continue }
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
struct DailyPurge {
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

    /// Until it is cancelled.
    func run() async {
        var hours = 0
        var isTold = false
        while !Task.isCancelled {
            if let until = presence.distrustedUntil {
                if !isTold {
                    logger.notice(
                        """
                        archived homes are not removed before \(until.text): the daemon has not run for more \
                        than a day or never before, or the machine's clock was set
                        """)
                }
                isTold = true
            } else if hours <= 0 {
                isTold = false
                hours = Self.hoursBetween
                await purge()
            }
            try? await clock.sleep(for: .seconds(3_600))
            hours -= 1
            await note()
        }
    }

    private func purge() async {
        do {
            _ = try await jobs.purge()
        } catch {
            logger.error("archived homes cannot be looked through: \(error)")
        }
    }

    private func note() async {
        await BlockingWork.run { [presence, logger] in
            do throws(StateFileError) {
                try presence.note()
            } catch {
                logger.warning("\(error)")
            }
        }
    }
}
