import BackupService
import Daemon
import LDAP
import EventLoop
import JobCore
import Logging
import Provisioning

/// What schedules ask for. Scripts are asked for when their time comes. Each level of backups that has come due has a run: a pass over the
/// accounts that asks for their jobs as slots become free, so that few jobs are open however many accounts there are.
extension DaemonJobs {
    /// A run of a level that is under way.
    struct BackupRun {
        /// Whether the level has come due again, so that the run is made once more when it has ended.
        var isDueAgain = false
        var task: Task<Void, Never>?
    }

    /// Jobs of backups that wait for a slot while runs ask for no more, for each slot.
    private static let waitingPerSlot = 4
    private static let reviewInterval = Duration.seconds(86_400)

    // MARK: - The timetable

    /// To be called again when the settings have changed.
    func followSchedules() {
        schedule?.cancel()
        let timetable = configuration.timetable
        if !timetable.lines.isEmpty {
            schedule = Task { [clock] in
                do {
                    try await timetable.run(clock: clock) { name in
                        do throws(RefusedCommand) {
                            await self.scheduled(try JobCommand(parsing: name))
                        } catch {
                            self.logger.error("schedule: \(error)")
                        }
                    }
                } catch {
                    // Another timetable takes its place, or the daemon stops.
                }
            }
        }
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
        if case .backup(let name, let accounts) = command, accounts.isEmpty, let level = SnapshotLevel(rawValue: name) {
            beginRun(of: level, since: nil)
        } else {
            // What takes long does not hold up the other lines.
            Task {
                let standing = StandingJobs(live)
                let mail = parts.reports.mail
                let run = mail.open("\(command)")
                await ask(command, where: standing.admits) { mail.add($0, to: run) }
                mail.close(run)
                if let notice = standing.notice { logger.notice("\(command): \(notice)") }
            }
        }
    }

    /// Makes up for the runs that were missed while no daemon ran.
    /// - Parameter since: when the last one was seen; an account of which nothing is known is due by what was missed after that.
    func makeUpForMissedRuns(since: Timestamp) {
        // The larger level first: it takes over the snapshot that the smaller one would remove.
        for level in SnapshotLevel.allCases.reversed() where configuration.backupJobs.schedules[level] != nil {
            beginRun(of: level, since: since)
        }
    }

    // MARK: - Runs of backups

    private func beginRun(of level: SnapshotLevel, since: Timestamp?) {
        guard configuration.script == nil, !isStopping else { return }
        guard runs[level] == nil else {
            runs[level]?.isDueAgain = true
            return
        }
        runs[level] = BackupRun()
        runs[level]?.task = Task {
            // Jobs of an earlier run of the daemon stand on the registry before others are asked for.
            await rescuing?.value
            await run(level, since: since)
            let again = runs.removeValue(forKey: level)?.isDueAgain ?? false
            if again { beginRun(of: level, since: nil) }
        }
    }

    private func run(_ level: SnapshotLevel, since: Timestamp?) async {
        let mail = parts.reports.mail
        let run = mail.open("backup \(level)")
        let standing = StandingJobs(live, since: clock.now)
        var count = 0
        // Accounts whose copy hit its time limit continue it after all others, so that they take nobody's slot night after night.
        var late: [AccountKey] = []
        let opened: @Sendable (JobID) -> Void = { mail.add($0, to: run) }
        do {
            try await selection.accounts(of: [level]) { account in
                let state = await selection.state(of: account)
                note(account, level, state, isFirst: BackupJobs.levels(of: account).first == level)
                guard state?.copyHitTimeLimit != true else { return late.append(account.key) }
                count += try await askForDue(level, account, since: since, standing, opened: opened)
            }
            for key in late {
                guard let account = try await selection.account(key) else { continue }
                count += try await askForDue(level, account, since: since, standing, opened: opened)
            }
            logger.info("backup \(level): the run over all accounts has ended; jobs asked for: \(count)")
        } catch is CancellationError {
            logger.info(
                "backup \(level): the daemon stops before all jobs are asked for; the next start makes up for them")
        } catch {
            let reason =
                error is LDAPError ? "the accounts cannot be listed" : "the run over all accounts was cut off"
            await failed(level, "\(reason); those that it has not come to get no backup: \(error)") {
                mail.add($0, to: run)
            }
        }
        mail.close(run)
        if let notice = standing.notice { logger.notice("backup \(level): \(notice)") }
    }

    /// A level of an account, after the larger ones whose runs are under way and have not come to it.
    private func levels(from level: SnapshotLevel, of account: Account) -> [SnapshotLevel] {
        let own = BackupJobs.levels(of: account)
        return Array(own.drop { $0 != level }.filter { $0 == level || runs[$0] != nil }.reversed())
    }

    /// - Returns: how many jobs were asked for.
    private func askForDue(
        _ level: SnapshotLevel, _ account: Account, since: Timestamp?, _ standing: StandingJobs,
        opened: @escaping @Sendable (JobID) -> Void
    ) async throws -> Int {
        let levels = levels(from: level, of: account)
        var isAnyDue = false
        for level in levels where !isAnyDue {
            isAnyDue = try await due(level, account, since: since) != nil
        }
        guard isAnyDue else { return 0 }
        // Of several runs one at a time, so that an account's larger level is taken in before its smaller one, however slow its handlers are.
        let earlier = lastAsking
        let asking = Task {
            await earlier?.value
            var count = 0
            for level in levels {
                let bound = Self.waitingPerSlot * configuration.backupJobs.slots
                try await backups.waitForRoom(for: .backup, below: bound)
                // Waiting may have taken hours.
                guard let request = try await due(level, account, since: since)?.request(level),
                    standing.admits(request)
                else { continue }
                _ = try await submit(request, to: backups, opened: opened)
                count += 1
            }
            return count
        }
        lastAsking = Task { _ = await asking.result }
        return try await withTaskCancellationHandler {
            try await asking.value
        } onCancel: {
            asking.cancel()
        }
    }

    private func due(
        _ level: SnapshotLevel, _ account: Account, since: Timestamp?
    ) async throws -> BackupJobs.Selected? {
        let failed = parts.reports.health.failed(account: BackupJobs.uid(of: account), level: level)
        return try await selection.due(level, account, failed: failed, since: since)
    }

    /// A run that could not be made is a job that failed, so that it is told of as any other.
    private func failed(
        _ level: SnapshotLevel, _ reason: String, opened: @escaping @Sendable (JobID) -> Void
    ) async {
        let outcome = JobOutcome(.failed, message: reason)
        let request = JobRequest(
            type: .backup, name: level.rawValue, level: level.rawValue, subject: JobSubject("backup run \(level)"),
            client: "all accounts", retry: RetryPolicy(maximumAttempts: 1, delay: .zero, maximumDelay: .zero),
            work: { _ in outcome })
        do {
            _ = try await submit(request, to: backups, opened: opened)
        } catch {
            logger.error("backup \(level): \(reason); and no job can tell of it: \(error)")
        }
    }

    // MARK: - The daily review

    /// Looks at all accounts once: which levels are overdue, and which have no schedule.
    private func reviewBackups() async {
        let health = parts.reports.health
        let review = health.beginReview(of: Set(SnapshotLevel.allCases))
        var unscheduled: [SnapshotLevel: String] = [:]
        do {
            try await selection.accounts(of: SnapshotLevel.allCases) { account in
                let state = await selection.state(of: account)
                let levels = BackupJobs.levels(of: account)
                for level in levels {
                    note(account, level, state, isFirst: level == levels.first)
                    if configuration.backupJobs.schedules[level] == nil, unscheduled[level] == nil {
                        unscheduled[level] = BackupJobs.uid(of: account)
                    }
                }
            }
            health.finish(review)
            for (level, uid) in unscheduled.sorted(by: { $0.value < $1.value }) {
                logger.warning("\(UnscheduledLevel(level: level, account: uid))")
            }
        } catch is CancellationError {
            return
        } catch {
            logger.error("the accounts cannot be looked through for overdue backups: \(error)")
        }
    }

    /// - Parameters:
    ///   - state: nil: nothing is recorded, or it cannot be read, which is for the job to say.
    ///   - isFirst: whether the level is the account's most frequent one, whose backups copy.
    private func note(_ account: Account, _ level: SnapshotLevel, _ state: SnapshotState?, isFirst: Bool) {
        let due = state.flatMap { state in
            BackupHealth.due(
                .init(
                    copies: isFirst, lastSuccess: state.lastSuccess(of: level),
                    lastCompletion: state.lastCompletion(of: level)),
                provisioned: Timestamp(text: account.status.state),
                schedule: configuration.backupJobs.schedules[level], timeLimit: configuration.backupJobs.timeLimit,
                now: clock.now)
        }
        parts.reports.health.noted(
            account: BackupJobs.uid(of: account), level: level, lastSuccess: state?.lastSuccess(of: level), due: due,
            now: clock.now)
    }

    // MARK: - The clock

    /// Has everything that waits go by the clock as it stands now, each time that it is set.
    func followClock() async {
        for await step in await clock.steps() {
            if step >= .seconds(1) || step <= .seconds(-1) {
                logger.warning(
                    """
                    the machine's clock was set \(step < .zero ? "back" : "forward") by \
                    \(JobText.span(step < .zero ? -step.seconds : step.seconds)); \
                    \(step < .zero ? "schedules go on by the new time" : "what is due by it begins now")
                    """)
            }
            await BlockingWork.run { [presence = parts.presence, logger] in
                do throws(StateFileError) {
                    try presence.clockWasSet(by: step)
                } catch {
                    logger.warning("\(error)")
                }
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
                it cannot be told whether the machine's clock is synchronized (adjtimex: \(reason)): requests with a date go by it also after it was \
                set; let the unit's SystemCallFilter allow adjtimex and clock_adjtime
                """)
        }
        guard let until = clockDoubtedUntil else { return }
        logger.warning(
            """
            the machine's clock was set, or the daemon was down for more than a day, and nothing keeps the clock right: requests with a date \
            wait until it is synchronized (timedatectl), at most until \(until.text)
            """)
    }

    nonisolated var clockDoubtedUntil: Timestamp? { parts.presence.clockDoubtedUntil }
}

/// A level that accounts have and no schedule asks for.
struct UnscheduledLevel: CustomStringConvertible {
    let level: SnapshotLevel
    /// The first that has it.
    let account: String

    private static func example(_ level: SnapshotLevel) -> String {
        switch level {
        case .hourly: "45 * * * *"
        case .daily: "0 3 * * *"
        case .weekly: "30 2 * * 1"
        case .monthly: "0 2 1 * *"
        case .yearly: "30 1 1 1 *"
        }
    }

    var finding: String { "accounts such as \(account) keep \(level) snapshots, and no schedule makes any" }
    var hint: String {
        "write \(level.rawValue.uppercased()) = \(Self.example(level)) into [Backup Jobs], or 0 into "
            + "\(level.intervalAttribute) of the accounts"
    }
    var description: String { "\(finding); \(hint)" }
}
