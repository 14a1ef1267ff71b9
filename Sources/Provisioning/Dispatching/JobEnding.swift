import LDAP
import JobCore
import Logging

/// Brings an account's job to its end: in the entry and on the registry, once each.
@MainActor struct JobEnding {
    let committer: Committer
    let executor: JobExecutor
    let names: AttributeNames
    let retry: RetryPolicy
    let clock: any WallClock

    /// An attempt has failed: another follows, or the failure is the outcome.
    func failed(
        _ job: Job, attempt: Int, _ status: AccountStatus, _ failure: ProvisioningFailure, _ result: JobOutcome,
        before failures: FailedAttempts, _ report: @escaping AccountTurn.Listener
    ) async throws -> AccountTurn.Disposition {
        var generator = SystemRandomNumberGenerator()
        var failures = failures
        if let due = failures.add(failure.failureClass, at: clock.now, retry, using: &generator) {
            // Of a shortage the dispatcher tells once, for all accounts.
            logger.log(
                level: failure.failureClass == .shortage ? .debug : .warning,
                "\(job.name) failed and is tried again: \(failure)", metadata: failure.metadata)
            executor.registry.write("failed and is tried again: \(failure)", to: job.id, source: .daemon)
            executor.registry.status(job.id, .waitingForStartTime)
            return .retry(
                AttemptRecord(job: job.id, attempt: attempt, failures: failures, notBefore: due, failure: failure))
        }
        let outcome = AccountOutcome(
            write: .fail(status, failure.code, names: names), code: failure.code, job: job, result: result)
        return try await settle(outcome, status, AccountMemory(), report)
    }

    /// Without a new job, since the request cannot be carried out as it stands.
    /// - Parameter past: a job that has been begun for it, which ends with this.
    func refuse(
        _ status: AccountStatus, _ failure: ProvisioningFailure, _ memory: AccountMemory,
        past: AccountMemory.Past = .nothing, _ report: @escaping AccountTurn.Listener
    ) async throws -> AccountTurn.Disposition {
        var job: Job?
        switch past {
        case .waits(let record): job = executor.registry.live(record.job)
        case .left(let left):
            lose(left, JobOutcome(failure))
            await report(.pastIsOver)
        case .nothing, .rests, .unwritten: break
        }
        let write =
            status.phase == .wished
            ? EntryWrite.refuse(status, failure.code, names: names) : .fail(status, failure.code, names: names)
        let outcome = AccountOutcome(write: write, code: failure.code, job: job, result: JobOutcome(failure))
        return try await settle(outcome, status, memory, report) {
            // The end of a job is logged where it is closed.
            guard job == nil else { return }
            logger.error(
                "provisioning failed: \(status.mode.operation): refused: \(failure)",
                metadata: ["account": "\(status.dn)"])
        }
    }

    /// Writes an outcome. One that is refused is kept: the work is done and must not be done again for want of a write.
    /// - Parameter written: is called when the outcome is in the entry. The end of a job is logged where jobs are closed.
    func settle(
        _ ended: AccountOutcome, _ status: AccountStatus, _ memory: AccountMemory,
        _ report: @escaping AccountTurn.Listener, written: () -> Void = {}
    ) async throws -> AccountTurn.Disposition {
        switch try await commit(ended, status) {
        case .written(let csn):
            if let csn { await report(.wrote(csn: csn)) }
            written()
            await report(.ended(ended.code))
            await close(ended.job, ended.result)
            // Without a place for the outcome the entry still asks for it; going on at once would be a busy loop.
            return ended.code != .success && names.returnValue == nil
                ? .rest(until: clock.now + retry.maximumDelay) : .settled
        case .lost:
            logger.notice("the entry was changed meanwhile: what stands there now is looked at")
            await close(ended.job, ended.result)
            return .lost
        case .disturbed(let tries):
            var ended = ended
            if ended.disturbances < Self.manyDisturbances, ended.disturbances + tries >= Self.manyDisturbances {
                logger.warning(
                    """
                    \(status.dn): the outcome is not in the entry yet, since others change it all the time; it is tried again. \
                    See who writes it, such as lastbind with a customer that logs in again and again
                    """)
            }
            ended.disturbances += tries
            if let job = ended.job { executor.registry.status(job.id, .blocked) }
            var generator = SystemRandomNumberGenerator()
            let delay = Self.disturbed.delay(afterAttempt: ended.disturbances / tries, using: &generator)
            return .disturbed(ended, for: delay ?? Self.disturbed.maximumDelay)
        case .gone:
            let code = ProvisioningExitCode.userNotPresentInBackend
            let reason = "\(status.dn) has gone while it was worked on (\(code.name), \(code.rawValue))"
            await report(.ended(code))
            if ended.job == nil { logger.error("provisioning failed: \(status.mode.operation): \(reason)") }
            await close(ended.job, JobOutcome(.failed, message: reason))
            return .settled
        case .refused(let error):
            logger.log(
                level: memory.level,
                "\(status.dn): the outcome cannot be written, and is tried again: \(error)")
            guard status.phase != .wished else { return .trouble }
            if let job = ended.job { executor.registry.status(job.id, .blocked) }
            return .unwritten(ended)
        }
    }

    /// What was remembered of an account leads to nothing more: the entry does not ask for it.
    /// - Parameter status: what stands in the entry now; nil: it is gone.
    func abandon(
        _ past: AccountMemory.Past, _ status: AccountStatus?,
        _ report: @escaping AccountTurn.Listener
    ) async {
        let end = JobOutcome(insteadOf: status)
        switch past {
        case .nothing: return
        case .rests: break
        case .left(let left): lose(left, end)
        case .waits(let record):
            await close(executor.registry.live(record.job), end)
        case .unwritten(let outcome):
            var result = outcome.result
            result.message = [result.message, end.message].filter { !$0.isEmpty }.joined(separator: "; ")
            await close(outcome.job, result)
        }
        await report(.pastIsOver)
    }

    /// A job of an earlier run that nobody goes on with.
    func lose(_ left: Job, _ end: JobOutcome) {
        executor.registry.open(left)
        executor.registry.write(end.message, to: left.id, source: .daemon)
        executor.registry.close(left.id, end)
    }

    private static let manyDisturbances = 10
    private static let disturbed = RetryPolicy(
        maximumAttempts: .max, delay: .milliseconds(100), maximumDelay: .seconds(30))

    /// That the directory cannot tell what became of a write leaves it to be written as well as a refusal does.
    /// - Parameter status: of the entry as it was read; an outcome that waited is written to it only if it is still the one of the job.
    private func commit(_ ended: AccountOutcome, _ status: AccountStatus) async throws -> CommitOutcome {
        do {
            guard status.phase == .claimed else { return try await committer.commit(ended.write, to: status.key) }
            guard let write = ended.write.following(status) else { return .lost }
            return try await committer.settle(write, to: status.key)
        } catch let error as LDAPError {
            return .refused(error)
        }
    }

    private func close(_ job: Job?, _ outcome: JobOutcome) async {
        if let job { await executor.close(job, outcome) }
    }

    private var logger: Logger { .current }
}

extension JobOutcome {
    /// The end of a job that the entry does not ask for any more.
    fileprivate init(insteadOf status: AccountStatus?) {
        switch status?.phase {
        case nil: self.init(.failed, message: "the job is over: its entry has gone")
        case .done: self.init(.success, message: "the job is over: its entry says that it is done")
        case .failed: self.init(.failed, message: "the job is over: its entry tells of a failure")
        case .idle, .wished, .claimed:
            self.init(.aborted, message: "the job is over: the entry asks for something else now")
        }
    }
}

extension ProvisioningFailure {
    fileprivate var metadata: Logger.Metadata { output.isEmpty ? [:] : ["output": "\(output)"] }
}
