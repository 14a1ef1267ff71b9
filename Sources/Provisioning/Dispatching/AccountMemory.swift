public import JobCore
import Logging

/// What the dispatcher remembers of an account between two looks. It is lost with the process, and the entry is enough to go on.
struct AccountMemory: Sendable {
    /// What became of the account's last job, as far as it is not over.
    enum Past: Sendable {
        case nothing
        /// An earlier run of the daemon did not end it.
        case left(LeftJob)
        /// It waits for its next attempt.
        case waits(AttemptRecord)
        /// It has ended, and its outcome is not in the entry yet.
        case unwritten(AccountOutcome)
        /// It has failed, and the entry has no place to say so; the next may not begin before.
        case rests(until: WallTime)

        /// The same, with the times that it waits for moved.
        func moved(by step: Duration) -> Past {
            switch self {
            case .waits(var record):
                record.notBefore = record.notBefore + step
                return .waits(record)
            case .rests(let until): return .rests(until: until + step)
            case .nothing, .left, .unwritten: return self
            }
        }
    }

    var past = Past.nothing
    /// The server showed an older entry than was seen before.
    var isBehind = false
    /// How often in a row something stood in the way; what has been said once is not said again.
    var troubles = 0

    var level: Logger.Level { troubles == 0 ? .error : .debug }

    var record: AttemptRecord? { if case .waits(let record) = past { record } else { nil } }
}

/// A provisioning job that an earlier run of the daemon did not end, as the history has it.
public struct LeftJob: Hashable, Sendable {
    /// The job.
    public var job: Job
    /// How many attempts were begun.
    public var attempts: Int

    /// A job that was left.
    public init(job: Job, attempts: Int) {
        self.job = job
        self.attempts = attempts
    }
}
