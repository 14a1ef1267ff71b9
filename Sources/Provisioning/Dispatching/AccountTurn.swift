import LDAP
import JobCore

/// What dispatcher and worker say to each other about one look at an account.
enum AccountTurn {
    /// What the dispatcher does with the account next.
    enum Disposition: Sendable {
        /// Nothing, until somebody changes the entry.
        case settled
        case again(at: Timestamp)
        /// Another's change came first: at once, and after a while when that happens again and again.
        case lost
        /// Something outside the account stands in the way: after a while, that grows with each time.
        case trouble
        /// The machine stands in the way of all accounts, such as where the daemon cannot write a file of its own: the same.
        case obstructed(MachineShortages.Cause)
        /// Another job works on what the entry names: when it has ended.
        case blocked(by: [JobSubject])
        /// Another daemon works on what the entry names: after a while.
        case busy(until: Timestamp)
        /// The work is done and its outcome refused: the same, with this outcome to write.
        case unwritten(AccountOutcome)
        /// The work is done, and others change the entry: its outcome is to be written after a while.
        case disturbed(AccountOutcome, for: Duration)
        /// The server shows an older entry than another one did: it lags, and decides nothing.
        case behind
        case retry(AttemptRecord)
        /// Its job has failed and the entry has no place for that, so it still asks for the work: not before then.
        case rest(until: Timestamp)
    }

    /// What the dispatcher hears while the worker works.
    enum Report: Sendable {
        /// What was remembered of the account has been used or settled.
        case pastIsOver
        case started(JobSummary)
        case step(String)
        case wrote(csn: AttributeValue)
        case ended(ProvisioningExitCode)
    }

    typealias Listener = @Sendable (Report) async -> Void
}

/// What stays to be written of a job that has ended.
struct AccountOutcome: Sendable {
    var write: EntryWrite
    var code: ProvisioningExitCode
    /// nil: there was no job, the wish was refused at once.
    var job: Job?
    var result = JobOutcome.success
    /// How often it was tried in vain since others had changed the entry.
    var disturbances = 0
}
