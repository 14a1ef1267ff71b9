import BackupService
import JobCore
import Provisioning
import Synchronization

/// The accounts with backup problems: the newest job of a level failed, or its last success is too old.
///
/// The sources are the ends of backup jobs (``ended(_:)``) and reviews of all accounts (``beginReview()``), which read the state that is recorded
/// with each account's snapshots. Only accounts with a problem are kept in memory.
final class BackupHealth: Sendable {
    /// A problem with one level of one account.
    struct Problem: Codable, Hashable, Sendable {
        /// The account's uid.
        var account: String
        var level: String
        /// nil: the newest job did not fail.
        var failure: Failure?
        /// Since when a success is missing; nil: it is not missing.
        var overdue: Timestamp?

        /// The command that shows details. A run that could not list the accounts has no account.
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
        /// The reason with the hint, on one line.
        var message: String
    }

    /// The number of accounts with problems, and the first of them.
    struct Summary: Codable, Hashable, Sendable {
        /// Accounts with a level whose newest job failed.
        var failed = 0
        /// Accounts with a level whose last success is too old.
        var overdue = 0
        /// Sorted by uid; at most ``BackupHealth/listLimit``.
        var problems: [Problem] = []
    }

    fileprivate struct Key: Hashable {
        var account: String
        var level: String
    }

    fileprivate struct Entry {
        var failure: Failure?
        /// When the failed job was submitted.
        var asked: Timestamp?
        var overdue: Timestamp?
        /// The number of the newest review when this entry was changed.
        var review: Int
    }

    fileprivate struct State {
        var entries: [Key: Entry] = [:]
        var review = 0
        /// The number of the last complete review; 0: there was none.
        var finished = 0

        /// Whether that review, or something since, has come to an entry.
        func isServed(_ entry: Entry) -> Bool { entry.review >= finished }
    }

    /// The number of problems in a summary.
    static let listLimit = 20

    private let state = Mutex(State())

    // MARK: - Job ends

    /// A job has ended. Of backup jobs cancelled ones change nothing; a deleted account has no problems any more. Jobs of a previous daemon are told of
    /// before new ones end.
    func ended(_ job: Job) {
        if job.type == .provisioning, job.level == Operation.delete.rawValue, job.result == .success {
            state.withLock { state in state.entries = state.entries.filter { $0.key.account != job.client } }
        }
        guard job.type == .backup, let ended = job.ended, let result = job.result else { return }
        let key = Key(account: job.client, level: job.level)
        let failure = Failure(
            job: job.id.number, time: ended, result: result.rawValue, message: job.message)
        state.withLock { state in
            switch result {
            case .success:
                state.entries[key] = nil
            case .warnings:
                // The snapshot may be incomplete; the next review finds out whether a complete one is overdue.
                state.change(key) { $0.failure = nil }
            case .aborted: break
            case .failed, .missed, .wrongConfiguration, .undefined, .unknown:
                state.change(key) { ($0.failure, $0.asked) = (failure, job.created) }
            }
        }
    }

    /// When the newest job of a level was submitted, if it failed; nil: it did not fail, or there is none.
    func failed(account: String, level: SnapshotLevel) -> Timestamp? {
        state.withLock { state in
            let entry = state.entries[Key(account: account, level: level.rawValue)]
            return entry?.failure == nil ? nil : entry?.asked
        }
    }

    // MARK: - Reviews

    /// Begins a pass over all accounts of this daemon.
    ///
    /// Call ``noted(account:level:lastSuccess:due:now:)`` for each level of each account, and ``finish(_:)`` at the end of a complete pass.
    /// - Returns: the number of the review.
    func beginReview() -> Int {
        state.withLock { state in
            state.review += 1
            return state.review
        }
    }

    /// Adds the result of a review for one level of an account.
    /// - Parameters:
    ///   - lastSuccess: the last job of the level with a complete snapshot; nil: never.
    ///   - due: the deadline of the next success; nil: none is expected, such as for a level without a schedule. See
    ///     `LevelTiming`.
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

    /// Ends a complete review: accounts that it did not include are no longer backed up here. Their failures do not count until they are again.
    func finish(_ review: Int) {
        state.withLock { state in
            state.finished = review
            state.entries = state.entries.filter { [state] in $1.failure != nil || state.isServed($1) }
        }
    }

    // MARK: - Queries

    var summary: Summary {
        let entries = state.withLock { state in state.entries.filter { [state] in state.isServed($1) } }
        let keys = entries.keys.sorted { ($0.account, $0.level) < ($1.account, $1.level) }
        return Summary(
            failed: Set(entries.filter { $0.value.failure != nil }.map(\.key.account)).count,
            overdue: Set(entries.filter { $0.value.overdue != nil }.map(\.key.account)).count,
            problems: keys.prefix(Self.listLimit).map { key in
                Problem(
                    account: key.account, level: key.level, failure: entries[key]?.failure,
                    overdue: entries[key]?.overdue)
            })
    }
}

extension BackupHealth.State {
    /// Changes the entry of a level, and removes it if it has no problem.
    fileprivate mutating func change(_ key: BackupHealth.Key, _ body: (inout BackupHealth.Entry) -> Void) {
        var entry = entries[key] ?? BackupHealth.Entry(review: review)
        entry.review = review
        body(&entry)
        entries[key] = entry.failure == nil && entry.overdue == nil ? nil : entry
    }
}
