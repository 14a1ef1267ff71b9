import BackupService
import JobCore
import Synchronization

/// Which accounts' backups are not in order: the newest job of a level failed, or its last success is too old.
///
/// Two sources feed it: the end of every backup job (``ended(_:_:at:)``), and a review of accounts (``beginReview(of:)``), which looks at
/// what is recorded beside each account's snapshots. Only accounts with a problem are kept, never a list of all accounts.
final class BackupHealth: Sendable {
    /// What is wrong with one level of one account.
    struct Problem: Codable, Hashable, Sendable {
        /// The account's uid.
        var account: String
        var level: String
        /// The newest job that ended, if it failed.
        var failure: Failure?
        /// Since when a success is missing; nil: none is.
        var overdue: Timestamp?

        /// What to type to see more. A run that could not list the accounts is of no account.
        var command: String {
            guard let failure, !account.allSatisfy(\.isWholeNumber) else {
                return AccountCommand.explain.text(account)
            }
            return "prov-backup-rsnapshot jobs show \(failure.job)"
        }
    }

    /// A job that failed.
    struct Failure: Codable, Hashable, Sendable {
        var job: UInt64
        var time: Timestamp
        /// As in the job history: `failed`, `missed`, `wrong configuration`, …
        var result: String
        /// Why, with the hint, in one line.
        var message: String
    }

    /// How many accounts have a problem, and which.
    struct Summary: Codable, Hashable, Sendable {
        /// Accounts with a level whose newest job failed.
        var failed = 0
        /// Accounts with a level whose last success is too old.
        var overdue = 0
        /// The first of them, by uid; at most ``BackupHealth/mostNamed``.
        var problems: [Problem] = []
    }

    /// One pass over accounts; see ``BackupHealth/beginReview(of:)``.
    struct Review: Sendable {
        fileprivate var number: Int
        fileprivate var levels: Set<SnapshotLevel>
    }

    fileprivate struct Key: Hashable {
        var account: String
        var level: String
    }

    fileprivate struct Entry {
        var failure: Failure?
        /// When the job that failed was asked for.
        var asked: Timestamp?
        var overdue: Timestamp?
        /// The review that was the newest when this account was last heard of.
        var review: Int
    }

    fileprivate struct State {
        var entries: [Key: Entry] = [:]
        var review = 0
    }

    /// How many problems a summary names.
    static let mostNamed = 20

    private let state = Mutex(State())

    /// Nothing is wrong as far as is known.
    init() {}

    // MARK: - Job ends

    /// A job has ended. Only backup jobs count; one that was cancelled leaves what was known before.
    func ended(_ job: Job, _ outcome: JobOutcome, at time: Timestamp) {
        guard job.type == .backup else { return }
        ended(
            account: job.client, level: job.level, outcome.result, asked: job.created,
            Failure(job: job.id.number, time: time, result: outcome.result.rawValue, message: outcome.message))
    }

    /// A job of a daemon that ran earlier, as the history has it; to be called before new jobs end.
    func recall(_ job: Job) {
        guard job.type == .backup, let ended = job.ended, let result = job.result else { return }
        self.ended(
            account: job.client, level: job.level, result, asked: job.created,
            Failure(job: job.id.number, time: ended, result: result.rawValue, message: job.message))
    }

    private func ended(account: String, level: String, _ result: JobResult, asked: Timestamp, _ failure: Failure) {
        let key = Key(account: account, level: level)
        state.withLock { state in
            switch result {
            case .success:
                state.entries[key] = nil
            case .warnings:
                // The snapshot may not be whole; whether a whole one is overdue is for the next review to say.
                state.change(key) { $0.failure = nil }
            case .aborted: break
            case .failed, .missed, .wrongConfiguration, .undefined, .unknown:
                state.change(key) { ($0.failure, $0.asked) = (failure, asked) }
            }
        }
    }

    /// When the newest job of a level was asked for, if it failed; nil: it did not, or there is none.
    func failed(account: String, level: SnapshotLevel) -> Timestamp? {
        state.withLock { state in
            let entry = state.entries[Key(account: account, level: level.rawValue)]
            return entry?.failure == nil ? nil : entry?.asked
        }
    }

    // MARK: - Reviews

    /// Begins a pass over all accounts of this daemon that have one of these levels.
    ///
    /// Call ``noted(account:level:lastSuccess:due:now:)`` for each level of each account that it comes to, and ``finish(_:)`` at its end,
    /// unless it was cut off.
    func beginReview(of levels: Set<SnapshotLevel>) -> Review {
        state.withLock { state in
            state.review += 1
            return Review(number: state.review, levels: levels)
        }
    }

    /// What a review found of one level of an account.
    /// - Parameters:
    ///   - lastSuccess: when a job of the level last ended with a whole snapshot; nil: never.
    ///   - due: the time by which a success must have come; nil: none is expected, such as of a level without a schedule. See
    ///     ``due(_:provisioned:schedule:timeLimit:)``.
    func noted(account: String, level: SnapshotLevel, lastSuccess: Timestamp?, due: Timestamp?, now: Timestamp) {
        state.withLock { state in
            state.change(Key(account: account, level: level.rawValue)) { entry in
                entry.overdue = due.flatMap { $0 < now ? $0 : nil }
                if let failed = entry.failure?.time, let lastSuccess, lastSuccess > failed,
                    lastSuccess <= now
                {
                    entry.failure = nil
                }
            }
        }
    }

    /// Ends a review that came to all accounts: those that it did not come to are no longer backed up here and are forgotten.
    func finish(_ review: Review) {
        let levels = Set(review.levels.map(\.rawValue))
        state.withLock { state in
            state.entries = state.entries.filter { key, entry in
                entry.review >= review.number || !levels.contains(key.level)
            }
        }
    }

    // MARK: - Questions

    /// How many accounts have a problem, and which.
    var summary: Summary {
        let entries = state.withLock { $0.entries }
        let keys = entries.keys.sorted { ($0.account, $0.level) < ($1.account, $1.level) }
        return Summary(
            failed: Set(entries.filter { $0.value.failure != nil }.map(\.key.account)).count,
            overdue: Set(entries.filter { $0.value.overdue != nil }.map(\.key.account)).count,
            problems: keys.prefix(Self.mostNamed).map { key in
                Problem(
                    account: key.account, level: key.level, failure: entries[key]?.failure,
                    overdue: entries[key]?.overdue)
            })
    }

    /// By when the next success of a level must have come; nil: none is expected, or it is not known since when.
    /// - Parameters:
    ///   - level: as the entry and what is recorded beside the snapshots tell.
    ///   - provisioned: when the account was added or modified, from which on a first success is expected; nil: not known.
    ///   - schedule: nil: the level has none.
    ///   - timeLimit: `TIMEOUT`.
    ///   - now: what was recorded as later than that was recorded while the clock was wrong, and does not count.
    static func due(
        _ level: RecordedLevel, provisioned: Timestamp?, schedule: CronSchedule?, timeLimit: Duration, now: Timestamp
    ) -> Timestamp? {
        guard let schedule, let last = level.lastOrderly(by: now) ?? provisioned else { return nil }
        return deadline(after: last, schedule: schedule, timeLimit: timeLimit)
    }

    /// One and a half periods of the schedule after a success, and the time that a backup may take.
    ///
    /// The period is that of the schedule at this time, so a schedule that leaves out weekends allows for them.
    /// - Returns: nil when the schedule has no time after that.
    static func deadline(after success: Timestamp, schedule: CronSchedule, timeLimit: Duration) -> Timestamp? {
        guard let run = schedule.next(after: success), let next = schedule.next(after: run) else { return nil }
        return run + (next - run) / 2 + timeLimit
    }

    /// What is recorded of a level, as far as it tells whether a success is missing.
    struct RecordedLevel: Hashable, Sendable {
        /// Whether the level copies; the larger ones take over snapshots, and may have nothing to take over.
        var copies: Bool
        /// When a job last ended with a whole snapshot.
        var lastSuccess: Timestamp?
        /// When a job last came to an orderly end.
        var lastCompletion: Timestamp?

        /// A partial copy is no success; that there was nothing to take over is as good as one.
        fileprivate func lastOrderly(by now: Timestamp) -> Timestamp? {
            [lastSuccess, copies ? nil : lastCompletion].compactMap(\.self).filter { $0 <= now }.max()
        }
    }
}

extension BackupHealth.State {
    /// Changes what is known of a level; where nothing is wrong any more, it is forgotten.
    fileprivate mutating func change(_ key: BackupHealth.Key, _ body: (inout BackupHealth.Entry) -> Void) {
        var entry = entries[key] ?? BackupHealth.Entry(review: review)
        entry.review = review
        body(&entry)
        entries[key] = entry.failure == nil && entry.overdue == nil ? nil : entry
    }
}
