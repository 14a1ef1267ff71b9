import JobCore
import LDAP
import Logging

/// The reconciler's state of an account between two reconciles. It is lost with the process, and the entry is enough to continue.
struct AccountMemory: Sendable {
    /// The account's last job, as far as it is unfinished.
    enum LastJob: Sendable {
        case none
        /// A previous run of the daemon did not finish it.
        case interrupted(Job)
        /// It waits for its next attempt.
        case retrying(AttemptRecord)
        /// It has ended, and its outcome is not in the entry yet.
        case unwritten(AccountOutcome)
        /// It has failed, and the entry has no attribute for that; the next job must not start earlier.
        case pausing(until: Timestamp)

        /// The last job after the clock was set: due times come no later, and a shortage has lasted as long as before.
        func afterClockWasSet(by step: Duration) -> LastJob {
            let back = min(step, .zero)
            switch self {
            case .retrying(var record):
                record.notBefore = record.notBefore + back
                record.failures.clockWasSet(by: step)
                return .retrying(record)
            case .pausing(let until): return .pausing(until: until + back)
            case .none, .interrupted, .unwritten: return self
            }
        }
    }

    var lastJob = LastJob.none
    /// The entryCSN with which it was decided that the account waits: as long as lists show no other one, it waits on.
    var csn: AttributeValue?
    /// The server returned an older version of the entry than was seen before.
    var isStale = false
    /// It is due, and waits for the clock.
    var isDelayed = false
    /// It is due, and another daemon holds a lock that it needs; nil: none does.
    var lockWait: (since: Timestamp, reason: String)?
    /// Reconciles in a row that ended without a result.
    var requeues = 0
    /// The shortage of the machine, or the refusal of the LDAP server, that prevented an attempt or its outcome.
    var obstacle: ProvisioningDelays.Cause?

    /// An error is logged once, not for each retry.
    var level: Logger.Level { requeues == 0 ? .error : .debug }

    var record: AttemptRecord? { if case .retrying(let record) = lastJob { record } else { nil } }

    /// Whether the last job has to go on.
    var isUnfinished: Bool {
        switch lastJob {
        case .retrying, .interrupted: true
        case .none, .pausing, .unwritten: false
        }
    }

    /// Whether the account is due, and something outside of it delays its work or its outcome.
    var isTroubled: Bool {
        if case .unwritten = lastJob { return true }
        return requeues > 0 || isDelayed || lockWait != nil
    }

    /// The shortage of the machine, or the refusal of the LDAP server, that the account waits for.
    var shortage: ProvisioningDelays.Cause? {
        if let obstacle { return obstacle }
        guard let failure = record?.failure, failure.failureClass == .shortage else { return nil }
        return ProvisioningDelays.Cause(text: "\(failure.reason); \(failure.hint)", hint: failure.hint)
    }
}

/// How one reconcile of an account ended, which says when the next one is due.
enum ReconcileResult: Sendable {
    /// The entry asks for nothing more. The next reconcile follows a change of the entry.
    case done
    /// - Parameter isDue: it is due, and the clock cannot be relied on.
    case wait(until: Timestamp, isDue: Bool = false)
    /// Another daemon holds a lock that the entry needs: the lock is tried again.
    case locked(String, again: Timestamp)
    /// A compare-and-set was lost: again at once, and with a growing delay when it is lost again.
    case conflict
    /// Something outside the account failed: again after a growing delay.
    /// - Parameter cause: what other accounts need as well, such as disk space or an access rule; nil: the connection was lost, which is reported
    ///   otherwise.
    case failed(ProvisioningDelays.Cause?)
    /// Another job holds an exclusion key that the entry names: again when that job has ended.
    /// - Parameter interrupts: whether that job is interrupted. It may run for hours.
    case blocked(by: [JobSubject], interrupts: Bool)
    /// The work is done, and the LDAP server refuses its outcome: the outcome is written again after a growing delay.
    case unwritten(AccountOutcome, because: ProvisioningDelays.Cause?)
    /// The work is done, and others keep changing the entry: the outcome is written again after a delay.
    case contended(AccountOutcome, for: Duration)
    /// The server returned an older version of the entry than another one did, so nothing can be decided.
    case stale
    /// The attempt failed, and another one follows.
    case retry(AttemptRecord)
    /// The job failed, and the entry has no attribute for that, so it still asks for the work.
    case pause(until: Timestamp)

    /// Whether callers wait for the next reconcile.
    var isRepeated: Bool {
        switch self {
        case .wait(_, isDue: true), .locked, .conflict, .contended, .stale: true
        default: false
        }
    }
}

extension AccountMemory {
    /// Takes the end of a reconcile.
    /// - Parameters:
    ///   - result: nil: the daemon's stop cancelled it.
    ///   - delay: before the next reconcile, by the number of those in a row without a result.
    /// - Returns: when the account is reconciled again; nil: after a change of its entry.
    mutating func reconciled(
        _ result: ReconcileResult?, now: Timestamp, delay: (_ requeues: Int) -> Duration
    ) -> Timestamp? {
        let (former, formerLock) = (obstacle, lockWait)
        (isStale, isDelayed, obstacle, lockWait) = (false, false, nil, nil)
        switch result {
        case .done, nil:
            self = AccountMemory()
            return nil
        case .wait(let time, let isDue):
            (requeues, isDelayed) = (0, isDue)
            return time
        case .locked(let reason, let time):
            (requeues, lockWait) = (0, (since: formerLock?.since ?? now, reason: reason))
            return time
        case .retry(let record):
            self = AccountMemory(lastJob: .retrying(record))
            return record.notBefore
        case .pause(let time):
            self = AccountMemory(lastJob: .pausing(until: time))
            return time
        case .conflict:
            // An interrupted job is closed or resumed when the entry has been read again.
            if case .interrupted = lastJob {} else { lastJob = .none }
            requeues += 1
            return requeues == 1 ? .distantPast : now + delay(requeues)
        case .contended(let outcome, let pause):
            self = AccountMemory(lastJob: .unwritten(outcome))
            return now + pause
        case .stale:
            isStale = true
            requeues += 1
            return now + delay(requeues)
        case .blocked:
            requeues = 0
            return .distantPast
        case .failed(let cause):
            requeues += 1
            // A lost connection says nothing about what was refused before it.
            obstacle = cause ?? former
            return now + delay(requeues)
        case .unwritten(let outcome, let cause):
            self = AccountMemory(lastJob: .unwritten(outcome), requeues: requeues + 1, obstacle: cause ?? former)
            return now + delay(requeues)
        }
    }
}

/// The outcome of a job that has ended, to be written to the entry.
struct AccountOutcome: Sendable {
    var write: EntryWrite
    var code: ProvisioningExitCode
    /// nil: there was no job, because the request was refused at once.
    var job: Job?
    var result = JobOutcome.success
    /// Writes that failed because others had changed the entry.
    var lostWrites = 0
}

/// The DN at which each account that waits or runs was last seen. Many accounts can wait, so each takes little memory: the text before the
/// base, or a comma and the whole DN. A parsed DN takes ten times as much.
struct LastKnownDNs: Sendable {
    private var texts: [EntryUUID: String] = [:]
    private let base: DN
    /// What ends the text of most accounts' DNs.
    private let suffix: String

    /// - Parameter base: the entry below which most accounts are. The abbreviation only saves memory, so a changed search base does not matter.
    init(base: DN) { (self.base, suffix) = (base, ",\(base)") }

    mutating func note(_ key: AccountKey) {
        let text = key.dn.description
        let isBelowBase = text.utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
        texts[key.uuid] = isBelowBase ? String(Substring(text.utf8.dropLast(suffix.utf8.count))) : ",\(text)"
    }

    /// - Returns: nil for an account that is not known.
    func key(of uuid: EntryUUID) -> AccountKey? {
        guard let text = texts[uuid] else { return nil }
        do {
            let whole = text.hasPrefix(",") ? String(text.dropFirst()) : text + suffix
            return AccountKey(uuid: uuid, dn: try DN(parsing: whole))
        } catch {
            // Cannot happen, since a DN wrote the text. An account that is not at its DN is searched by its entryUUID.
            return AccountKey(uuid: uuid, dn: base)
        }
    }

    mutating func forget(_ uuid: EntryUUID) {
        texts[uuid] = nil
        // Removing elements does not free memory.
        if texts.isEmpty { texts = [:] }
    }
}
