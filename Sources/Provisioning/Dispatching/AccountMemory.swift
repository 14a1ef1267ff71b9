import JobCore
import Logging

/// What the dispatcher remembers of an account between two looks. It is lost with the process, and the entry is enough to go on.
struct AccountMemory: Sendable {
    /// What became of the account's last job, as far as it is not over.
    enum Past: Sendable {
        case nothing
        /// An earlier run of the daemon did not end it.
        case left(Job)
        /// It waits for its next attempt.
        case waits(AttemptRecord)
        /// It has ended, and its outcome is not in the entry yet.
        case unwritten(AccountOutcome)
        /// It has failed, and the entry has no place to say so; the next may not begin before.
        case rests(until: Timestamp)

        /// The same by a clock that was set: what it waits for comes no later, and a shortage lasts as long as before.
        func afterClockWasSet(by step: Duration) -> Past {
            let back = min(step, .zero)
            switch self {
            case .waits(var record):
                record.notBefore = record.notBefore + back
                record.failures.clockWasSet(by: step)
                return .waits(record)
            case .rests(let until): return .rests(until: until + back)
            case .nothing, .left, .unwritten: return self
            }
        }
    }

    var past = Past.nothing
    /// The server showed an older entry than was seen before.
    var isBehind = false
    /// How often in a row something stood in the way; what has been said once is not said again.
    var troubles = 0
    /// What of the machine stood in the way before an attempt; nil: nothing.
    var obstacle: MachineShortages.Cause?

    var level: Logger.Level { troubles == 0 ? .error : .debug }

    var record: AttemptRecord? { if case .waits(let record) = past { record } else { nil } }

    /// What the account waits for, where that is no matter of its own.
    var shortage: MachineShortages.Cause? {
        if let obstacle { return obstacle }
        guard let failure = record?.failure, failure.failureClass == .shortage else { return nil }
        return MachineShortages.Cause(text: "\(failure.reason); \(failure.hint)", hint: failure.hint)
    }
}
