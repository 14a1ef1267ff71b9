import DirectoryClient
import DirectoryModel
import JobCore
import Logging
import Synchronization

/// Looks at one account and does what its entry asks for.
struct AccountWorker: Sendable {
    /// What the dispatcher does with the account next.
    enum Disposition: Sendable {
        /// Nothing, until somebody changes the entry.
        case settled
        case again(at: WallTime)
        /// Another's change came first: at once, and after a while when that happens again and again.
        case lost
        /// Something outside the account stands in the way: after a while, that grows with each time.
        case trouble
        /// The work is done and its outcome refused: the same, with this outcome to write.
        case unwritten(Outcome)
        case retry(AttemptRecord)
    }

    /// What stays to be written of a job that has ended.
    struct Outcome: Sendable {
        var write: EntryWrite
        var code: ProvisioningExitCode
        /// nil: there was no job, the wish was refused at once.
        var job: Job?
        var result = JobOutcome.success
    }

    /// What the dispatcher remembers of an account between two looks.
    struct Memory: Sendable {
        var record: AttemptRecord?
        var outcome: Outcome?
        /// How often in a row something stood in the way; what has been said once is not said again.
        var troubles = 0

        var level: Logger.Level { troubles == 0 ? .error : .debug }
    }

    /// What the dispatcher hears while the worker works.
    enum Report: Sendable {
        case started(JobSummary)
        case step(String)
        case wrote(csn: AttributeValue)
        case ended(ProvisioningExitCode)
    }

    typealias Listener = @Sendable (Report) async -> Void

    let reader: AccountReader
    let committer: Committer
    let policy: DecisionPolicy
    let service: any ProvisioningService
    let retry: RetryPolicy
    let jobs: JobLedger
    let executor: JobExecutor
    let clock: any WallClock
    /// nil for a dry run: the plan goes there, and nothing is done.
    let planPrinter: PlanPrinter?

    private var names: AttributeNames { policy.names }

    /// - Parameter now: by which the wait between two attempts is over; the day of a wish goes by the clock.
    /// - Throws: `CancellationError` when the daemon stops; the account is then resumable.
    func work(
        on key: AccountKey, _ memory: Memory, now: WallTime, ignoringDate: Bool = false,
        report: @escaping Listener
    ) async throws -> Disposition {
        let condition = reader.scope.condition
        guard let entry = try await reader.entry(key, attributes: service.requestedAttributes, meeting: condition)
        else {
            logger.notice(
                "\(key.dn) is gone from the directory\(condition == nil ? "" : ", or no longer meets SEARCH_FILTER"); nothing is deleted for that"
            )
            try await abandon(key.uuid, memory, "its entry is gone")
            return .settled
        }
        guard let status = AccountStatus(entry, names: names) else {
            let hidden = [AttributeNames.entryUUID, AttributeNames.entryCSN].filter { entry[$0].isEmpty }
            if hidden.isEmpty {
                logger.debug("\(entry.dn) takes no part in provisioning")
            } else {
                logger.error("\(entry.dn) cannot be worked on: \(AccountReader.hidden(hidden))")
            }
            return .settled
        }
        let decision = policy.decide(status, now: clock.now, ignoringDate: ignoringDate)
        if let planPrinter {
            return try await planPrinter.show(decision, status, entry, service: service, names: names)
        }
        if case .resume = decision {
        } else {
            try await abandon(key.uuid, memory, "the entry asks for something else now")
        }
        switch decision {
        case .leave(let reason):
            var level = Logger.Level.debug
            if case .sharedHosts = reason { level = .error }
            logger.log(level: level, "\(status.dn) is left alone: \(reason)")
            return .settled
        case .wait(let start):
            logger.info("\(status.dn) waits for its day", metadata: ["until": "\(ProvisioningTimestamp(start))"])
            return .again(at: start)
        case .refuse(let failure):
            return try await refuse(status, failure, memory, report)
        case .claim(let operation):
            if let opening = opening(ignoringDate) { return .again(at: opening) }
            return try await claim(status, entry, operation, memory, report)
        case .resume(let operation):
            if let outcome = memory.outcome {
                return try await settle(outcome, status, memory, report) {
                    logger.notice("\(status.dn): the outcome stands in the entry now")
                }
            }
            let isCanceled = memory.record.flatMap { executor.board.live($0.job)?.isCanceled } ?? false
            if let record = memory.record, record.notBefore > now, !ignoringDate, !isCanceled { return .retry(record) }
            if let opening = opening(ignoringDate || isCanceled) {
                guard var record = memory.record else { return .again(at: opening) }
                record.notBefore = opening
                return .retry(record)
            }
            return try await resume(status, entry, operation, memory.record, report)
        }
    }

    private func claim(
        _ status: AccountStatus, _ entry: Entry, _ operation: Operation, _ memory: Memory,
        _ report: @escaping Listener
    ) async throws -> Disposition {
        let job = try jobs.next()
        let holder = names.claim.map { _ in "\(policy.claimHolder) \(job)" }
        let write = EntryWrite.claim(status, holder: holder, names: names)
        switch try await committer.commit(write, to: status.key) {
        case .written(let csn):
            if let csn { await report(.wrote(csn: csn)) }
            let request = ProvisioningRequest(operation: operation, entry: entry, job: job, attempt: 1)
            return try await run(request, status.claimed(by: holder), failures: 0, report)
        case .lost: return .lost
        case .gone: return .settled
        case .refused(let error):
            logger.log(level: memory.level, "\(status.dn) cannot be claimed: \(error)")
            return .trouble
        }
    }

    private func resume(
        _ status: AccountStatus, _ entry: Entry, _ operation: Operation, _ record: AttemptRecord?,
        _ report: @escaping Listener
    ) async throws -> Disposition {
        let last = try record.map { ($0.job, $0.attempt) } ?? jobs.unfinished(status.uuid, logger: logger)
        if record == nil { logger.notice("\(status.dn) was left in \(status.mode) and is resumed") }
        let request = ProvisioningRequest(
            operation: operation, entry: entry, job: try last?.0 ?? jobs.next(), attempt: (last?.1 ?? 1) + 1)
        return try await run(request, status, failures: record?.failures ?? 0, report)
    }

    private func run(
        _ request: ProvisioningRequest, _ status: AccountStatus, failures: Int,
        _ report: @escaping Listener
    ) async throws -> Disposition {
        try await withLogger(mergingMetadata: [
            "job": "\(request.job)", "account": "\(status.dn)", "attempt": "\(request.attempt)",
        ]) { logger in
            try jobs.begin(status.uuid, job: request.job, attempt: request.attempt)
            await report(
                .started(
                    JobSummary(
                        job: request.job, key: status.key, operation: request.operation, attempt: request.attempt,
                        started: clock.now)))
            logger.info("\(request.operation) begins")
            let failure = Mutex<ProvisioningFailure?>(nil)
            let job = await executor.open(job(request, status))
            let outcome = try await executor.attempt(job, number: request.attempt) { attempt in
                do {
                    try await carryOut(request, attempt, report)
                    return .success
                } catch let error as ProvisioningFailure {
                    failure.withLock { $0 = error }
                    return JobOutcome(error)
                }
            }
            guard outcome.result.isSuccess else {
                let failure = ProvisioningFailure(outcome, of: failure.withLock { $0 })
                return try await failed(request, status, failure, outcome, failures: failures + 1, report)
            }
            let write = EntryWrite.finish(status, at: ProvisioningTimestamp(clock.now), names: names)
            let ended = Outcome(write: write, code: .success, job: job, result: outcome)
            return try await settle(ended, status, Memory(), report) {
                logger.notice("\(request.operation) is done")
            }
        }
    }

    private func carryOut(
        _ request: ProvisioningRequest, _ attempt: RunningAttempt, _ report: @escaping Listener
    ) async throws {
        for step in try await service.plan(request) {
            try Task.checkCancellation()
            await report(.step(step.name))
            Logger.current.debug("step: \(step.name)")
            try await attempt.step(step.name) { try await step.perform(in: attempt) }
        }
    }

    private func job(_ request: ProvisioningRequest, _ status: AccountStatus) -> Job {
        Job(
            id: request.job, type: .provisioning, name: request.operation.rawValue, level: request.operation.rawValue,
            subject: JobSubject(status.uuid), client: status.dn.accountName, created: clock.now)
    }

    /// When jobs may begin; nil: now.
    private func opening(_ ignoringWindow: Bool) -> WallTime? {
        let now = clock.now
        let opening = executor.opening(for: .provisioning, after: now)
        return ignoringWindow || opening <= now ? nil : opening
    }

    /// A job that waited for another attempt, or to have its outcome written, and is not wanted any more.
    private func abandon(_ account: EntryUUID, _ memory: Memory, _ reason: String) async throws {
        var id = memory.record?.job ?? memory.outcome?.job?.id
        // Of a job that trouble came between nothing else is remembered.
        if id == nil, memory.troubles > 0 { id = try jobs.unfinished(account, logger: logger)?.0 }
        guard let id else { return }
        jobs.end(account, logger: logger)
        guard let live = executor.board.live(id) else { return }
        await executor.close(live.job, JobOutcome(.aborted, message: "the job is over: \(reason)"))
    }

    private func failed(
        _ request: ProvisioningRequest, _ status: AccountStatus, _ failure: ProvisioningFailure, _ outcome: JobOutcome,
        failures: Int, _ report: @escaping Listener
    ) async throws -> Disposition {
        var generator = SystemRandomNumberGenerator()
        if failure.failureClass == .retryable, let delay = retry.delay(afterAttempt: failures, using: &generator) {
            let due = clock.now + delay
            logger.warning("\(request.operation) failed and is tried again: \(failure)", metadata: failure.metadata)
            executor.board.write("failed and is tried again: \(failure)", to: request.job, source: .daemon)
            executor.board.status(request.job, .waitingForStartTime)
            return .retry(
                AttemptRecord(
                    job: request.job, attempt: request.attempt, failures: failures, notBefore: due, failure: failure))
        }
        let ended = Outcome(
            write: .fail(status, failure.code, names: names), code: failure.code, job: job(request, status),
            result: outcome)
        let disposition = try await settle(ended, status, Memory(), report) {
            logger.error("\(request.operation) failed: \(failure)", metadata: failure.metadata)
        }
        guard names.returnValue == nil, case .settled = disposition else { return disposition }
        // Without a place for the outcome the entry still asks for it; going on at once would be a busy loop.
        return .retry(
            AttemptRecord(
                job: request.job, attempt: request.attempt, failures: failures,
                notBefore: clock.now + retry.maximumDelay, failure: failure))
    }

    private func refuse(
        _ status: AccountStatus, _ failure: ProvisioningFailure, _ memory: Memory,
        _ report: @escaping Listener
    ) async throws -> Disposition {
        let write =
            status.phase == .wished
            ? EntryWrite.refuse(status, failure.code, names: names) : .fail(status, failure.code, names: names)
        return try await settle(Outcome(write: write, code: failure.code), status, memory, report) {
            logger.error("\(failure)", metadata: ["account": "\(status.dn)"])
        }
    }

    /// Writes an outcome. One that is refused is kept: the work is done and must not be done again for want of a write.
    private func settle(
        _ ended: Outcome, _ status: AccountStatus, _ memory: Memory, _ report: @escaping Listener,
        written: () -> Void
    ) async throws -> Disposition {
        switch try await committer.commit(ended.write, to: status.key) {
        case .written(let csn):
            if let csn { await report(.wrote(csn: csn)) }
            written()
            await report(.ended(ended.code))
            jobs.end(status.uuid, logger: logger)
            await close(ended.job, ended.result)
            return .settled
        case .lost:
            logger.notice("the entry was changed meanwhile: what stands there now is looked at")
            jobs.end(status.uuid, logger: logger)
            await close(ended.job, ended.result)
            return .lost
        case .gone:
            let code = ProvisioningExitCode.userNotPresentInBackend
            logger.error("\(status.dn) has gone while it was worked on (\(code.name), \(code.rawValue))")
            await report(.ended(code))
            jobs.end(status.uuid, logger: logger)
            await close(ended.job, JobOutcome(.failed, message: "the entry has gone meanwhile"))
            return .settled
        case .refused(let error):
            logger.log(
                level: memory.level,
                "\(status.dn): the outcome cannot be written, and is tried again: \(error)")
            guard status.phase != .wished else { return .trouble }
            if let job = ended.job { executor.board.status(job.id, .blocked) }
            return .unwritten(ended)
        }
    }

    private func close(_ job: Job?, _ outcome: JobOutcome) async {
        if let job { await executor.close(job, outcome) }
    }

    private var logger: Logger { .current }
}

extension DN {
    /// What people call the account: the value of its entry's own name.
    fileprivate var accountName: String { rdns.first?.assertions.first?.value.text ?? description }
}

extension JobOutcome {
    fileprivate init(_ failure: ProvisioningFailure) {
        self.init(
            failure.failureClass == .configuration ? .wrongConfiguration : .failed, failureClass: failure.failureClass,
            message: "\(failure)")
    }
}

extension ProvisioningFailure {
    /// What goes onto the entry for a job that did not succeed.
    /// - Parameter own: what the service said; nil when it had nothing to say, or was not asked.
    fileprivate init(_ outcome: JobOutcome, of own: ProvisioningFailure?) {
        if let own, outcome.result != .aborted {
            self = own
        } else {
            self.init(
                .undefinedError, outcome.failureClass ?? .permanent, reason: outcome.message,
                cure: "look at what the job says (jobs show), and then: accounts retry UID")
        }
    }
}

extension AccountStatus {
    var key: AccountKey { AccountKey(uuid: uuid, dn: dn) }

    /// As the entry stands after a claim of ours.
    func claimed(by holder: String?) -> Self {
        var status = self
        status.mode = ProvisioningMode(mode.operation, .claimed)
        status.returnValue = nil
        status.claim = holder
        return status
    }
}

extension ProvisioningFailure {
    var metadata: Logger.Metadata { output.isEmpty ? [:] : ["output": "\(output)"] }
}
