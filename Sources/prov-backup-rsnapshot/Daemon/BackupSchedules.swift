import BackupService
import Daemon
import EventLoop
import JobCore
import LDAP
import Logging
import Provisioning

/// Submits scheduled jobs. Scripts are submitted when they are due. For a due level of backups a run goes through all accounts and submits their jobs
/// as slots become free, so that few jobs are open at a time.
extension DaemonJobs {
    /// A backup run of a level.
    struct BackupRun {
        /// See ``LevelTiming/isDue(_:failed:provisioned:since:now:)``.
        let since: Timestamp?
        /// The level is due again: the run is repeated when it has ended, with this time.
        var again: Timestamp??
        var task: Task<Void, Never>?
    }

    /// Waiting backup jobs for each slot; at this number, runs submit no further jobs.
    private static let waitingPerSlot = 4
    private static let reviewInterval = Duration.seconds(86_400)

    // MARK: - The timetable

    /// Must be called again after a reload.
    func followSchedules() {
        schedule?.cancel()
        let timetable = configuration.timetable
        if !timetable.lines.isEmpty {
            schedule = Task { [clock, reached] in
                do {
                    try await timetable.run(clock: clock, after: reached) {
                        self.reached = $0
                    } ask: { command in
                        self.scheduled(command)
                    }
                } catch {
                    // Replaced by another timetable, or the daemon stops.
                }
            }
        }
        if timetable.lines.isEmpty { reached = [:] }
        review?.cancel()
        guard configuration.script == nil else { return }
        review = Task { [clock] in
            // Cancelled by the stop or another timetable.
            while !Task.isCancelled {
                await self.reviewBackups()
                do { try await clock.sleep(for: Self.reviewInterval) } catch { return }
            }
        }
    }

    private func scheduled(_ command: JobCommand) {
        switch command {
        case .backup(let name, _):
            if let level = SnapshotLevel(rawValue: name) { beginRun(of: level, since: nil) }
        case .run(let name):
            guard delays["\(command)"] == nil else { return }
            // In the background, so that slow submissions do not delay other schedules.
            Task {
                let openJobs = OpenJobFilter(registry)
                let mail = parts.reports.mail
                let run = mail.open("\(command)")
                do {
                    try await withJobNumbers("\(command)") {
                        let request = request(try script(name))
                        if openJobs.admits(request) {
                            _ = try await submit(request, to: scripts) { mail.add($0, to: run) }
                        }
                    }
                } catch { logged(error, of: command) }
                mail.close(run)
                if let notice = openJobs.notice { logger.notice("\(command): \(notice)") }
            }
        }
    }

    /// Starts the backup runs that were missed while no daemon ran, or because a reload has changed their schedules or their accounts.
    /// - Parameters:
    ///   - since: when the previous daemon ended; for accounts without recorded backups.
    ///   - former: the settings before the reload; nil: at the start.
    func makeUpForMissedRuns(since: Timestamp, former: DaemonConfiguration? = nil) {
        let schedules = configuration.backupJobs.schedules
        // Levels that the reload has not changed have missed nothing.
        var former = former
        if let source = former?.accountSource, source != configuration.accountSource {
            former = nil
            // These go on with the old accounts; those of a level with a schedule begin again below.
            for (level, run) in runs {
                run.task?.cancel()
                runs[level]?.again = .some(run.since)
            }
        }
        // The larger level first: it takes over the snapshot that the smaller one would remove.
        for level in SnapshotLevel.allCases.reversed()
        where schedules[level] != former?.backupJobs.schedules[level] {
            beginRun(of: level, since: since)
        }
    }

    // MARK: - Runs of backups

    private func beginRun(of level: SnapshotLevel, since: Timestamp?) {
        // A reload may have removed the schedule since the run was asked for.
        guard configuration.script == nil, hasSchedule(level), !isStopping else { return }
        guard runs[level] == nil else {
            if runs[level]?.again == nil || since == nil { runs[level]?.again = .some(since) }
            return
        }
        runs[level] = BackupRun(since: since)
        runs[level]?.task = Task {
            // Interrupted jobs are opened before further jobs are submitted.
            await resuming?.value
            await run(level, since: since)
            let run = runs.removeValue(forKey: level)
            if let again = run?.again { beginRun(of: level, since: again) }
        }
    }

    private func hasSchedule(_ level: SnapshotLevel) -> Bool { configuration.backupJobs.schedules[level] != nil }

    private func run(_ level: SnapshotLevel, since: Timestamp?) async {
        let mail = parts.reports.mail
        let run = mail.open("backup \(level)")
        let openJobs = OpenJobFilter(registry, since: clock.now)
        var count = 0
        let opened: @Sendable (JobID) -> Void = { mail.add($0, to: run) }
        do {
            // A run that begins again submits no job twice: those that are open are skipped, and accounts that had theirs are not due.
            try await withJobNumbers("backup \(level)") {
                // Accounts whose last copy exceeded its time limit are last, so that they do not take slots from others every night.
                var late: [AccountKey] = []
                try await selection.accounts(of: [level]) { account, state in
                    note(account, level, state, isFirst: BackupJobs.levels(of: account).first == level)
                    guard state?.copyHitTimeLimit != true else { return late.append(account.key) }
                    count += try await submitDue(level, account, since: since, openJobs, opened: opened)
                }
                for key in late {
                    guard let account = try await selection.account(key) else { continue }
                    count += try await submitDue(level, account, since: since, openJobs, opened: opened)
                }
            }
            logger.info("backup \(level): the run over all accounts has ended; submitted jobs: \(count)")
        } catch is CancellationError {
            let reason =
                isStopping
                ? "the daemon stops before all jobs are submitted; the next start submits the rest"
                : "the run ends early, because a reload has changed which accounts are served"
                    + (hasSchedule(level) ? "; a new one submits the rest" : "")
            logger.info("backup \(level): \(reason)")
        } catch {
            let reason =
                error is LDAPError ? "the accounts cannot be listed" : "the run over all accounts failed"
            await failed(level, "\(reason); the remaining accounts get no backup: \(error)") {
                mail.add($0, to: run)
            }
        }
        mail.close(run)
        if let notice = openJobs.notice { logger.notice("backup \(level): \(notice)") }
    }

    /// The level, preceded by larger ones whose runs have not reached the account.
    private func levels(from level: SnapshotLevel, of account: Account) -> [SnapshotLevel] {
        let own = BackupJobs.levels(of: account)
        return Array(own.drop { $0 != level }.filter { $0 == level || runs[$0] != nil }.reversed())
    }

    /// - Returns: the number of submitted jobs.
    private func submitDue(
        _ level: SnapshotLevel, _ account: Account, since: Timestamp?, _ openJobs: OpenJobFilter,
        opened: @escaping @Sendable (JobID) -> Void
    ) async throws -> Int {
        let levels = levels(from: level, of: account)
        var isAnyDue = false
        for level in levels where !isAnyDue {
            isAnyDue = try await due(level, account, since: since) != nil
        }
        guard isAnyDue else { return 0 }
        // One run at a time, so that an account's larger level is opened before its smaller one.
        return try await submissions.perform { [self] in
            var count = 0
            for level in levels {
                let bound = Self.waitingPerSlot * configuration.backupJobs.slots
                try await backups.waitForRoom(for: .backup, below: bound)
                // This may have taken hours, so check again.
                guard let request = try await due(level, account, since: since),
                    openJobs.admits(request)
                else { continue }
                _ = try await submit(request, to: backups, opened: opened)
                count += 1
            }
            return count
        }
    }

    private func due(
        _ level: SnapshotLevel, _ account: Account, since: Timestamp?
    ) async throws -> JobRequest? {
        let failed = parts.reports.health.failed(account: BackupJobs.uid(of: account), level: level)
        return try await selection.due(level, account, failed: failed, since: since)
    }

    /// Records a run that could not be made as a failed job, so that it is reported like other failures.
    private func failed(
        _ level: SnapshotLevel, _ reason: String, opened: @escaping @Sendable (JobID) -> Void
    ) async {
        let outcome = JobOutcome(.failed, message: reason)
        let request = JobRequest(
            type: .backup, name: level.rawValue, level: level.rawValue, subject: JobSubject("backup run \(level)"),
            client: "all accounts", retry: RetryPolicy(maximumAttempts: 1, delay: .zero, maximumDelay: .zero),
            work: { _ in outcome })
        do {
            try await withJobNumbers("backup \(level)") { _ = try await submit(request, to: backups, opened: opened) }
        } catch {
            logger.error("backup \(level): \(reason); this cannot be recorded as a job: \(error)")
        }
    }

    // MARK: - Without job numbers

    /// Does work that submits jobs, and begins it again after a growing delay as long as no job number can be reserved, such as on a full or
    /// read-only disk. That cannot be recorded as a job, so health reports it.
    /// - Parameter name: such as `backup daily`.
    /// - Throws: other errors of the work, or `CancellationError`.
    func withJobNumbers<Value>(_ name: String, _ work: () async throws -> Value) async throws -> Value {
        defer { delays[name] = nil }
        var tries = 0
        while true {
            do {
                let value = try await work()
                if tries > 0 { logger.notice("\(name) goes on: job numbers can be reserved again") }
                return value
            } catch let error as StateFileError {
                tries += 1
                if tries == 1 { logger.error("\(name) is delayed, and begins again by itself: \(error)") }
                delays[name] = JobDelay(work: name, since: delays[name]?.since ?? clock.now, reason: "\(error)")
                var generator = SystemRandomNumberGenerator()
                let delay = configuration.engine.jobRetry.endlessDelay(afterAttempt: tries, using: &generator)
                try await clock.sleep(for: min(delay, Self.longestRetryDelay))
            }
        }
    }

    /// What prevents the work is fixed elsewhere, which nothing tells.
    private static let longestRetryDelay = Duration.seconds(300)

    // MARK: - The daily review

    /// Checks all accounts for overdue levels and levels without a schedule.
    private func reviewBackups() async {
        let (health, selection) = (parts.reports.health, selection)
        let review = health.beginReview()
        var unscheduled: [SnapshotLevel: String] = [:]
        do {
            try await selection.accounts(of: SnapshotLevel.allCases) { account, state in
                let levels = BackupJobs.levels(of: account)
                for level in levels {
                    note(account, level, state, isFirst: level == levels.first)
                    if configuration.backupJobs.schedules[level] == nil, unscheduled[level] == nil {
                        unscheduled[level] = BackupJobs.uid(of: account)
                    }
                }
            }
            health.finish(review)
            let levels = Set(unscheduled.keys)
            guard levels != warnedLevels.levels || clock.now - warnedLevels.time >= Self.reviewInterval else { return }
            warnedLevels = (levels, clock.now)
            for (level, uid) in unscheduled.sorted(by: { $0.value < $1.value }) {
                let (finding, hint) = level.hasNoSchedule(account: uid)
                logger.warning("\(finding); \(hint)")
            }
        } catch is CancellationError {
            return
        } catch {
            logger.error("the accounts cannot be checked for overdue backups: \(error)")
        }
    }

    /// - Parameters:
    ///   - state: nil: nothing is recorded, or it cannot be read; the backup job reports that.
    ///   - isFirst: whether the level is the account's most frequent one, whose backups copy.
    private func note(_ account: Account, _ level: SnapshotLevel, _ state: SnapshotState?, isFirst: Bool) {
        let due = state.flatMap { state in
            LevelTiming(level, configuration.backupJobs).deadline(
                lastSuccess: state.lastSuccess(of: level), lastCompletion: state.lastCompletion(of: level),
                copies: isFirst, provisioned: Timestamp(text: account.status.state),
                window: configuration.policies[.backup]?.window, now: clock.now)
        }
        parts.reports.health.noted(
            account: BackupJobs.uid(of: account), level: level, lastSuccess: state?.lastSuccess(of: level), due: due,
            now: clock.now)
    }

    // MARK: - The clock

    /// Adjusts waiting jobs and requests each time that the clock is set.
    func followClock() async {
        for await step in await clock.steps() {
            if step >= .seconds(1) || step <= .seconds(-1) {
                logger.warning(
                    """
                    the machine's clock was set \(step < .zero ? "back" : "forward") by \
                    \(JobText.span(step < .zero ? -step.seconds : step.seconds)); \
                    \(step < .zero ? "schedules use the new time" : "jobs that are due now begin")
                    """)
            }
            await BlockingWork.run { [presence = parts.presence, logger] in
                logger.warningOfFailure { try presence.clockWasSet(by: step) }
            }
            warnOfDoubtedClock()
            await engine.clockWasSet(by: step)
            parts.scheduler.clockWasSet(by: step)
        }
    }

    func warnOfDoubtedClock() {
        if case .unknown(let reason) = ClockSynchronization.current {
            logger.warning(
                """
                it is unknown whether the machine's clock is synchronized (adjtimex: \(reason)): requests with a date use it even after it was \
                set; allow adjtimex and clock_adjtime in SystemCallFilter of the unit
                """)
        }
        guard let until = clockDoubtedUntil else { return }
        logger.warning(
            """
            the machine's clock was set, or the daemon was down for more than a day, and the clock is not synchronized: requests with a date, \
            and deletes that archive a home, wait until it is synchronized (timedatectl), at most until \(until.text)
            """)
    }

    var clockDoubtedUntil: Timestamp? { parts.presence.clockDoubtedUntil }
}

extension SnapshotLevel {
    /// What is wrong when accounts have this level and it has no schedule.
    /// - Parameter account: the first account with the level.
    func hasNoSchedule(account: String) -> (finding: String, hint: String) {
        let example =
            switch self {
            case .hourly: "45 * * * *"
            case .daily: "0 3 * * *"
            case .weekly: "30 2 * * 1"
            case .monthly: "0 2 1 * *"
            case .yearly: "30 1 1 1 *"
            }
        return (
            "accounts such as \(account) keep \(self) snapshots, and no schedule makes any",
            "write \(rawValue.uppercased()) = \(example) into [Backup Jobs], or 0 into \(intervalAttribute) of the accounts"
        )
    }
}

/// Prevents that a schedule submits a job while the same job is open, so that no queue grows behind a job that hangs.
@MainActor final class OpenJobFilter {
    private let registry: JobRegistry
    private let start: Timestamp
    private var skipped: (named: [(client: String, job: JobID)], count: Int) = ([], 0)

    /// - Parameters:
    ///   - registry: the jobs that are open.
    ///   - start: the notice does not mention jobs that were submitted after this.
    init(_ registry: JobRegistry, since start: Timestamp = .distantFuture) {
        self.registry = registry
        self.start = start
    }

    /// Whether a job may be submitted; others are counted for the notice.
    func admits(_ request: JobRequest) -> Bool {
        // An event handler may change the level of a job, but not its name.
        let open = registry.live(with: request.subject).first { $0.type == request.type && $0.name == request.name }
        guard let job = open else { return true }
        guard job.created < start else { return false }
        skipped.count += 1
        if skipped.named.count < Self.mostNamed { skipped.named.append((request.client, job.id)) }
        return false
    }

    /// One line about all skipped jobs; nil: none.
    var notice: String? {
        guard skipped.count > 0 else { return nil }
        let named = skipped.named.map { "job \($0.job) of \($0.client)" }.joined(separator: ", ")
        let others = skipped.count - skipped.named.count
        return "skipped, because the previous job still waits or runs: \(named)"
            + (others > 0 ? " and \(others) more (jobs list)" : "")
    }

    private static let mostNamed = 5
}
