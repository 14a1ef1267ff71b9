import LDAP
import JobCore
import Logging

/// Ends the account's job: writes its outcome to the entry and closes it in the registry, once each.
extension AccountReconciler {
    /// An attempt has failed: another one follows, or the failure is the outcome of the job.
    func failed(
        _ job: Job, attempt: Int, _ status: AccountStatus, _ result: JobOutcome, before failures: FailedAttempts
    ) async throws -> ReconcileResult {
        let failure = ProvisioningFailure(result, of: ownFailure)
        var generator = SystemRandomNumberGenerator()
        var failures = failures
        if let due = failures.add(failure.failureClass, at: clock.now, retry, using: &generator) {
            // The reconciler logs a shortage once, for all accounts.
            logger.log(
                level: failure.failureClass == .shortage ? .debug : .warning,
                "\(job.name) failed and is tried again: \(failure)", metadata: failure.metadata)
            registry.write("failed and is tried again: \(failure)", to: job.id, source: .daemon)
            registry.status(job.id, .waitingForStartTime)
            return .retry(
                AttemptRecord(job: job.id, attempt: attempt, failures: failures, notBefore: due, failure: failure))
        }
        let outcome = AccountOutcome(
            write: .fail(status, failure.code, names: names), code: failure.code, job: job, result: result)
        return try await write(outcome, status)
    }

    /// The request cannot be carried out as it is: writes the failure without an attempt. A job that was started for the request is closed.
    func refuse(_ status: AccountStatus, _ failure: ProvisioningFailure) async throws -> ReconcileResult {
        var job: Job?
        switch memory.lastJob {
        case .retrying(let record): job = registry.live(record.job)
        case .interrupted(let interrupted):
            registry.closeInterrupted(interrupted, interrupted.outcomeBeforeClosing ?? JobOutcome(failure))
            takeLastJob()
        case .none, .pausing, .unwritten: break
        }
        func logRefusal() {
            logger.error(
                "provisioning failed: \(status.mode.operation): refused: \(failure)",
                metadata: ["account": "\(status.dn)"])
        }
        if status.phase == .requested, names.returnValue == nil {
            // The entry stays as it is: without an attribute for the failure it would look like a claimed one, whose work is resumed.
            logRefusal()
            noteOutcome(failure.code)
            return .pause(until: clock.now + retry.maximumDelay)
        }
        let outcome = AccountOutcome(
            write: .fail(status, failure.code, names: names), code: failure.code, job: job, result: JobOutcome(failure))
        return try await self.write(outcome, status) {
            // The end of a job is logged where it is closed.
            if job == nil { logRefusal() }
        }
    }

    /// Writes an outcome. One that the server refuses is kept and written again, since the work is done and must not be done twice.
    /// - Parameter written: called when the outcome is in the entry.
    func write(
        _ ended: AccountOutcome, _ status: AccountStatus, written: () -> Void = {}
    ) async throws -> ReconcileResult {
        switch try await writeToEntry(ended, status) {
        case .written(let csn):
            if let csn { wrote(csn) }
            written()
            noteOutcome(ended.code)
            await close(ended.job, ended.result)
            // Without an attribute for the outcome the entry still asks for the work; without a pause that would be a busy loop.
            return ended.code != .success && names.returnValue == nil
                ? .pause(until: clock.now + retry.maximumDelay) : .done
        case .lost:
            logger.notice("the entry was changed during the job; reading it again")
            await close(ended.job, ended.result)
            return .conflict
        case .contended(let tries):
            var ended = ended
            if ended.lostWrites < Self.manyLostWrites, ended.lostWrites + tries >= Self.manyLostWrites {
                logger.warning(
                    """
                    \(status.dn): the outcome is not in the entry yet, because others keep changing the entry; trying again. \
                    Find out who writes it, such as the overlay lastbind for a customer that logs in again and again
                    """)
            }
            ended.lostWrites += tries
            if let job = ended.job { registry.status(job.id, .blocked) }
            var generator = SystemRandomNumberGenerator()
            let delay = Self.contention.endlessDelay(afterAttempt: ended.lostWrites / tries, using: &generator)
            return .contended(ended, for: delay)
        case .gone where EntryVersion.isRecent(ended.write.csn, now: clock.now):
            // Perhaps the server lags behind the one that has the claim. The reconcile tells, and writes the outcome or abandons it.
            return .contended(ended, for: Self.contention.delay)
        case .gone:
            await removed(ended, status.dn)
            return .done
        case .refused(let error):
            let cause = cause(of: error, "\(status.dn): the outcome cannot be written, and is tried again")
            guard status.phase != .requested else { return .failed(cause) }
            if let job = ended.job { registry.status(job.id, .blocked) }
            return .unwritten(ended, because: cause)
        }
    }

    private func removed(_ ended: AccountOutcome, _ dn: DN) async {
        let code = ProvisioningExitCode.userNotPresentInBackend
        let reason = "\(dn) was removed during the job (\(code.name), \(code.rawValue))"
        noteOutcome(code)
        if ended.job == nil { logger.error("provisioning failed: \(ended.write.mode.operation): \(reason)") }
        await close(ended.job, JobOutcome(.failed, message: reason))
    }

    /// Closes the last job: the entry does not ask for it any more, or not this daemon.
    /// - Parameter status: nil: the entry is gone.
    func abandonLastJob(_ status: AccountStatus?, isOthers: Bool = false) async {
        let end =
            isOthers && [.claimed, .requested].contains(status?.phase)
            ? JobOutcome(.aborted, message: "the job is closed: the entry is not this daemon's any more")
            : JobOutcome(insteadOf: status)
        switch memory.lastJob {
        case .none: return
        case .pausing: break
        case .interrupted(let job): registry.closeInterrupted(job, job.outcomeBeforeClosing ?? end)
        case .retrying(let record): await close(registry.live(record.job), end)
        case .unwritten(let outcome) where status == nil: await removed(outcome, key.dn)
        case .unwritten(let outcome):
            var result = outcome.result
            result.message = [result.message, end.message].filter { !$0.isEmpty }.joined(separator: "; ")
            await close(outcome.job, result)
        }
        takeLastJob()
    }

    func takeLastJob() {
        memory.lastJob = .none
        reconciler.forgetLastJob(of: key.uuid)
    }

    private static let manyLostWrites = 10
    private static let contention = RetryPolicy(
        maximumAttempts: .max, delay: .milliseconds(100), maximumDelay: .seconds(30))

    /// An error of the read after a write of unknown outcome counts as a refusal.
    /// - Parameter status: of the entry as it was read. An outcome that waited is written only if the entry still waits for it.
    private func writeToEntry(_ ended: AccountOutcome, _ status: AccountStatus) async throws -> WriteResult {
        do {
            beginWrite()
            guard status.phase == .claimed else { return try await entries.write(ended.write, to: status.key) }
            guard let write = ended.write.following(status) else { return .lost }
            return try await entries.writeOutcome(write, to: status.key)
        } catch let error as LDAPError {
            return .refused(error)
        }
    }

    /// Logs that the server refuses a write. A cause is logged by the reconciler, once for all accounts.
    /// - Returns: nil: the refusal passes.
    func cause(of error: LDAPError, _ message: String) -> ProvisioningDelays.Cause? {
        let cause = ProvisioningDelays.Cause(error)
        logger.log(level: cause == nil ? memory.level : .debug, "\(message): \(error)")
        return cause
    }

    private func close(_ job: Job?, _ outcome: JobOutcome) async {
        if let job { await executor.close(job, outcome) }
    }
}

extension JobOutcome {
    init(_ failure: ProvisioningFailure) {
        self.init(
            failed: failure.failureClass,
            message: "\(failure)" + (failure.lastLine.map { "; its last output: \($0)" } ?? ""))
    }

    /// The end of a job that the entry does not ask for any more.
    fileprivate init(insteadOf status: AccountStatus?) {
        switch status?.phase {
        case nil: self.init(.failed, message: "the job is closed: its entry was removed")
        case .done: self.init(.success, message: "the job is closed: its entry says that the work is done")
        case .failed: self.init(.failed, message: "the job is closed: its entry reports a failure")
        case .idle, .requested, .claimed:
            self.init(.aborted, message: "the job is closed: the entry asks for something else now")
        }
    }
}

extension ProvisioningFailure {
    fileprivate var metadata: Logger.Metadata { output.isEmpty ? [:] : ["output": "\(output)"] }

    /// The last line that the failed program wrote, cut to 200 characters.
    fileprivate var lastLine: Substring? {
        output.split(whereSeparator: \.isNewline).last { !$0.allSatisfy(\.isWhitespace) }?.prefix(200)
    }

    /// The failure of a job, for the entry.
    /// - Parameter own: the failure that the service reported; nil when it reported none, or was not asked.
    fileprivate init(_ outcome: JobOutcome, of own: ProvisioningFailure?) {
        if let own, outcome.result != .aborted {
            self = own
        } else {
            self.init(
                .undefinedError, outcome.failureClass ?? .permanent, reason: outcome.message,
                hint: outcome.failureClass == .shortage
                    ? "see the job's report (jobs show); it continues by itself"
                    : "see the job's report (jobs show), and then: accounts retry UID")
        }
    }
}
