import LDAP
import JobCore
import Logging
import Synchronization

/// Reconciles one account: reads its entry, decides, and does what the entry asks for.
@MainActor struct AccountReconciler {
    let reader: AccountReader
    let writer: EntryWriter
    let outcomes: OutcomeWriter
    let policy: DecisionPolicy
    let service: any ProvisioningService
    let retry: RetryPolicy
    /// nil for a dry run, in which no job starts.
    let ids: JobIDSource?
    let executor: JobExecutor
    let scheduler: JobScheduler
    /// How many accounts may be deleted within an hour.
    let deletes: HourlyLimit
    let clock: any WallClock
    /// When the engine started.
    let start: Timestamp
    /// Whether the clock may be wrong.
    let isClockDoubted: @Sendable () -> Bool
    /// For a dry run: called with each plan, and nothing is done.
    let planPrinter: (@Sendable (String) -> Void)?

    private var names: AttributeNames { policy.names }

    /// - Parameters:
    ///   - seen: the newest known entryCSN of the entry.
    ///   - now: the time for delays between attempts; the date of a request is compared with the clock.
    /// - Throws: `CancellationError` when the daemon stops; the account can be resumed then.
    func reconcile(
        _ key: AccountKey, _ memory: AccountMemory, seen: AttributeValue?, now: Timestamp, ignoringDate: Bool = false,
        report: @escaping ProgressListener
    ) async throws -> ReconcileResult {
        let condition = reader.scope.condition
        let attributes = service.requestedAttributes + RequestOrigin.attributes
        guard let entry = try await reader.entry(key, attributes: attributes, meeting: condition) else {
            if let seen, memory.requeues < Self.readsOfMissing, EntryVersion.isRecent(seen, now: clock.now) {
                logger.debug("\(key.dn) was there at \(seen), and this server does not have it: asking again")
                return .stale
            }
            logger.notice(
                "\(key.dn) is gone from LDAP\(condition == nil ? "" : ", or no longer meets SEARCH_FILTER"); nothing is deleted for that"
            )
            await outcomes.abandon(memory.lastJob, of: key.dn, nil, report)
            return .done
        }
        guard let status = AccountStatus(entry, names: names) else {
            let hidden = AccountReader.hiddenAttributes(of: entry)
            if hidden.isEmpty {
                logger.debug("\(entry.dn) takes no part in provisioning")
            } else {
                logger.error("\(entry.dn) cannot be worked on: \(AccountReader.hidden(hidden))")
            }
            await outcomes.abandon(memory.lastJob, of: key.dn, nil, report)
            return .done
        }
        if let seen, EntryVersion.isOlder(status.csn, than: seen) {
            logger.log(
                level: memory.requeues == 0 ? .warning : .debug,
                """
                \(status.dn) is shown as it was at \(status.csn), and has been changed at \(seen): the server lags behind another one, and \
                is asked again; if it was restored from a backup, see: prov-backup-rsnapshot accounts explain
                """)
            return .stale
        }
        let decision = decide(status, ignoringDate)
        if let planPrinter {
            return try await printPlan(decision, status, entry, to: planPrinter)
        }
        if decision != .claim(.delete), decision != .resume(.delete) { deletes.withdraw(key.uuid.description) }
        var memory = memory
        switch decision {
        case .resume: break
        default:
            await outcomes.abandon(memory.lastJob, of: key.dn, status, report)
            memory.lastJob = .none
        }
        switch decision {
        case .leave, .wait, .waitForClock: try await releaseClaim(status, report)
        case .claim, .resume, .refuse: break
        }
        switch decision {
        case .leave(let reason):
            let level: Logger.Level =
                switch reason {
                case .sharedHosts: .error
                case .overdue: .notice
                default: .debug
                }
            logger.log(level: level, "\(status.dn) is left alone: \(reason)")
            return .done
        case .wait(let start):
            logger.info("\(status.dn) waits for its date", metadata: ["until": "\(start.text)"])
            return .requeue(at: start)
        case .waitForClock:
            logger.info("\(status.dn) waits although its date has come: the machine's clock may be wrong")
            return .requeue(at: clock.now + Self.clockCheckInterval)
        case .refuse(let failure):
            return try await outcomes.refuse(status, failure, memory, report)
        case .claim(let operation):
            if let opening = opening(ignoringDate) { return .requeue(at: opening) }
            if operation == .delete, !ignoringDate, let time = deletes.wait(key.uuid.description, now: clock.now) {
                logger.debug("\(status.dn) is not deleted before \(time.text): too many deletes")
                return .requeue(at: time)
            }
            return try await withExclusionKeys(status, entry) {
                if let time = try await admit(operation, status, entry, isUrgent: ignoringDate) {
                    return .requeue(at: time)
                }
                return try await claim(status, entry, operation, memory, report)
            }
        case .resume(let operation):
            return try await continueClaimed(
                status, entry, operation, memory, now: now, ignoringDate: ignoringDate, report)
        }
    }

    /// Does work while no other job works on what the entry names by the service's unique attribute.
    private func withExclusionKeys(
        _ status: AccountStatus, _ entry: Entry, _ work: () async throws -> ReconcileResult
    ) async throws -> ReconcileResult {
        guard let attribute = service.uniqueAttribute else { return try await work() }
        let subjects = service.uniqueValues(of: entry).compactMap(\.text).map { JobSubject(attribute, $0) }
        guard scheduler.acquire(subjects, for: .subject(JobSubject(status.uuid))) else {
            logger.debug("\(status.dn) waits for another job that works on its \(attribute)")
            return .blocked(by: subjects)
        }
        // Daemons that share accounts may share their homes as well, and the claim is removed together with the entry.
        let lock: any Sendable
        do {
            guard let held = self.names.claim == nil ? () : try await service.lock(entry) else {
                logger.debug("\(status.dn) waits for another daemon that works on its \(attribute)")
                return .lockedElsewhere(until: clock.now + Self.lockRetryInterval)
            }
            lock = held
        } catch {
            return .shortage(MachineShortages.Cause(text: "\(error.reason); \(error.hint)", hint: error.hint))
        }
        defer { withExtendedLifetime(lock) {} }
        return try await work()
    }

    /// - Parameter isOurs: the daemon itself has claimed the account, so the delete was admitted and its origin logged.
    /// - Returns: when a delete may begin because of the hourly limit; nil: now.
    private func admit(
        _ operation: Operation, _ status: AccountStatus, _ entry: Entry, isUrgent: Bool, isOurs: Bool = false
    ) async throws -> Timestamp? {
        guard operation == .delete else { return nil }
        let subject = status.uuid.description
        if let time = try await deletes.admit(subject, now: clock.now, isUrgent: isUrgent || isOurs) { return time }
        if !isOurs { logger.notice("\(operation) of \(status.dn): \(RequestOrigin(entry))") }
        return nil
    }

    private func decide(_ status: AccountStatus, _ ignoringDate: Bool) -> Decision {
        policy.decide(
            status, now: clock.now, start: start, ignoringDate: ignoringDate, isClockDoubted: isClockDoubted)
    }

    private static let clockCheckInterval = Duration.seconds(600)

    /// An entry that has just been seen may be missing because the server that is asked lags behind another one. So often it is read again.
    private static let readsOfMissing = 3

    /// After an entry was removed and added again during its job.
    private static let lockRetryInterval = Duration.seconds(1)

    /// - Throws: `ProvisioningFailure` with code 1 while another entry has the same unique value; `CancellationError`, or the error of the search.
    private func demandUnique(_ entry: Entry, _ status: AccountStatus) async throws {
        guard let attribute = service.uniqueAttribute else { return }
        let values = service.uniqueValues(of: entry)
        let others = try await reader.others(than: status.uuid, with: values, of: attribute, attributes: [attribute])
        guard let other = others.first else { return }
        let shared = other[attribute].first(where: values.contains)?.text ?? ""
        throw ProvisioningFailure(
            .undefinedError,
            reason:
                "\(others.map(\.dn.description).joined(separator: " and ")) has the \(attribute) \(shared), which \(status.dn) names as well",
            hint: "remove all but one, or give them other numbers; then write the request of that one again")
    }

    /// The same during an attempt: if the LDAP server refuses the search, another attempt follows.
    private func demandUniqueInAttempt(_ entry: Entry, _ status: AccountStatus) async throws {
        do {
            try await demandUnique(entry, status)
        } catch let error as LDAPError {
            throw ProvisioningFailure(
                .undefinedError, .retryable,
                reason: "it cannot be told whether another entry names what \(status.dn) names: \(error)",
                hint: "see the messages of the LDAP server")
        }
    }

    /// Whether the entry has a request that is due, or a claimed one. Changes nothing: another job works on the account.
    /// - Throws: `CancellationError`, or the error of the search.
    func hasWork(on key: AccountKey, _ memory: AccountMemory, ignoringDate: Bool) async throws -> Bool {
        guard planPrinter == nil,
            let entry = try await reader.entry(
                key, attributes: [], meeting: reader.scope.condition),
            let status = AccountStatus(entry, names: names)
        else { return false }
        switch decide(status, ignoringDate) {
        case .leave, .wait, .waitForClock, .refuse: return false
        case .claim(let operation):
            guard operation != .delete || ignoringDate || deletes.wait(key.uuid.description, now: clock.now) == nil
            else { return false }
            return opening(ignoringDate) == nil
        case .resume: break
        }
        switch memory.lastJob {
        case .unwritten: return false
        case .retrying(let record) where record.notBefore > clock.now: return ignoringDate
        case .pausing(let until) where until > clock.now: return ignoringDate
        case .retrying, .pausing, .interrupted, .none: return opening(ignoringDate) == nil
        }
    }

    /// The account is claimed and not finished: its job continues as soon as it may.
    private func continueClaimed(
        _ status: AccountStatus, _ entry: Entry, _ operation: Operation, _ memory: AccountMemory, now: Timestamp,
        ignoringDate: Bool, _ report: @escaping ProgressListener
    ) async throws -> ReconcileResult {
        let isCanceled = memory.record.flatMap { executor.registry.live($0.job)?.isCanceled } ?? false
        let isUrgent = ignoringDate || isCanceled
        switch memory.lastJob {
        case .unwritten(let outcome):
            return try await outcomes.write(outcome, status, memory, report)
        case .retrying(var record):
            if record.notBefore > now, !isUrgent { return .retry(record) }
            if let opening = opening(isUrgent) {
                record.notBefore = opening
                return .retry(record)
            }
        case .pausing(let until) where until > now && !isUrgent: return .pause(until: until)
        case .pausing, .interrupted, .none:
            if let opening = opening(isUrgent) { return .requeue(at: opening) }
        }
        return try await withExclusionKeys(status, entry) {
            let isOurs =
                switch memory.lastJob {
                case .retrying, .interrupted, .unwritten: true
                case .none, .pausing: openJob(of: status.uuid) != nil
                }
            if let time = try await admit(operation, status, entry, isUrgent: isUrgent, isOurs: isOurs) {
                return .requeue(at: time)
            }
            if case .retrying = memory.lastJob {
                do {
                    try await demandUnique(entry, status)
                } catch let failure as ProvisioningFailure {
                    return try await outcomes.refuse(status, failure, memory, lastJob: memory.lastJob, report)
                }
                return try await resume(status, entry, operation, memory, report)
            }
            let write = EntryWrite.resume(status, holder: newHolder(), names: names)
            return try await writeClaim(write, status, entry, memory, report) { claimed in
                try await resume(claimed, entry, operation, memory, report)
            }
        }
    }

    private func claim(
        _ status: AccountStatus, _ entry: Entry, _ operation: Operation, _ memory: AccountMemory,
        _ report: @escaping ProgressListener
    ) async throws -> ReconcileResult {
        let write = EntryWrite.claim(status, holder: newHolder(), names: names)
        return try await writeClaim(write, status, entry, memory, report) { claimed in
            let request = ProvisioningRequest(
                operation: operation, entry: entry, job: try await nextJob(), attempt: 1,
                demandUnique: { try await demandUniqueInAttempt(entry, claimed) })
            let origin = operation == .delete ? RequestOrigin(entry) : nil
            return try await run(
                request, job(request, status), claimed, failures: FailedAttempts(), of: origin, report)
        }
    }

    /// The value of the claim attribute; each claim has a token of its own.
    private func newHolder() -> String? {
        names.claim.map { _ in "\(policy.claimHolder) \(String(UInt64.random(in: .min ... .max), radix: 16))" }
    }

    /// Removes a claim of ours from an entry that asks us for nothing: its job has ended, or was interrupted before the request was withdrawn.
    /// Another daemon may wait for that.
    private func releaseClaim(_ status: AccountStatus, _ report: @escaping ProgressListener) async throws {
        guard status.phase != .claimed, let claim = status.claim, policy.isOwn(claim),
            let write = EntryWrite.release(status, names: names)
        else { return }
        // If it fails, the next reconcile tries again.
        if case .written(let csn?) = try await writer.write(write, to: status.key) {
            await report(.wrote(csn: csn))
        }
    }

    /// Writes a claim (again), and does the work under it. A search for another entry with the same unique value is sent together with the write, and
    /// the work begins when both have been answered.
    private func writeClaim(
        _ write: EntryWrite, _ status: AccountStatus, _ entry: Entry, _ memory: AccountMemory,
        _ report: @escaping ProgressListener,
        _ work: (AccountStatus) async throws -> ReconcileResult
    ) async throws -> ReconcileResult {
        // After a failed reconcile the search comes first, so that the entry is not changed while the server refuses the search.
        if memory.requeues > 0 { do { try await demandUnique(entry, status) } catch is ProvisioningFailure {} }
        async let isUnique: Void = demandUnique(entry, status)
        let claimed: AccountStatus
        switch try await writer.write(write, to: status.key) {
        case .written(let csn?):
            await report(.wrote(csn: csn))
            claimed = status.claimed(by: write, csn)
        case .written(nil):
            guard let entry = try await reader.entry(status.key, attributes: []),
                let found = AccountStatus(entry, names: names), write.isFulfilled(by: found)
            else { return .conflict }
            claimed = found
        case .lost, .contended: return .conflict
        case .gone where EntryVersion.isRecent(status.csn, now: clock.now) && memory.requeues < Self.readsOfMissing:
            return .stale
        case .gone:
            await outcomes.abandon(memory.lastJob, of: status.dn, nil, report)
            return .done
        case .refused(let error):
            logger.log(level: memory.level, "\(status.dn) cannot be claimed: \(error)")
            return .failed
        }
        do {
            try await isUnique
        } catch let failure as ProvisioningFailure {
            return try await outcomes.refuse(claimed, failure, memory, lastJob: memory.lastJob, report)
        }
        return try await work(claimed)
    }

    private func resume(
        _ status: AccountStatus, _ entry: Entry, _ operation: Operation, _ memory: AccountMemory,
        _ report: @escaping ProgressListener
    ) async throws -> ReconcileResult {
        var last: (job: JobID, attempt: Int)?
        var failures = FailedAttempts()
        var interrupted: Job?
        var isRetry = false
        switch memory.lastJob {
        case .retrying(let record):
            isRetry = true
            last = (record.job, record.attempt)
            failures = record.failures
        case .interrupted(let job):
            interrupted = job
            last = (job.id, job.attempt)
        case .none, .pausing, .unwritten:
            last = openJob(of: status.uuid).map { ($0.id, $0.attempt) }
        }
        if !isRetry {
            logger.log(
                level: memory.requeues == 0 ? .notice : .debug,
                "\(status.dn) was interrupted in \(status.mode) and is resumed")
        }
        let number = if let last { last.job } else { try await nextJob() }
        let request = ProvisioningRequest(
            operation: operation, entry: entry, job: number,
            // The entry was claimed before: if no attempt is recorded, this one is the second or a later one.
            attempt: max(1, last?.attempt ?? 1) + 1,
            demandUnique: { try await demandUniqueInAttempt(entry, status) })
        return try await run(request, interrupted ?? job(request, status), status, failures: failures, report)
    }

    private func run(
        _ request: ProvisioningRequest, _ job: Job, _ status: AccountStatus, failures: FailedAttempts,
        of origin: RequestOrigin? = nil, _ report: @escaping ProgressListener
    ) async throws -> ReconcileResult {
        try await withLogger(mergingMetadata: [
            "job": "\(request.job)", "account": "\(status.dn)", "attempt": "\(request.attempt)",
        ]) { logger in
            await report(
                .started(
                    JobSummary(
                        job: request.job, key: status.key, operation: request.operation, attempt: request.attempt,
                        started: clock.now)))
            logger.log(level: failures.shortageBegan == nil ? .info : .debug, "\(request.operation) begins")
            let failure = Mutex<ProvisioningFailure?>(nil)
            let job = await executor.open(job)
            // The job is in the registry now, and is closed there.
            await report(.lastJobHandled)
            if let origin { executor.registry.write("\(origin)", to: job.id, source: .daemon) }
            let outcome = try await executor.attempt(job, number: request.attempt) { attempt in
                do {
                    try await runSteps(request, attempt, report)
                    return .success
                } catch let error as ProvisioningFailure {
                    failure.withLock { $0 = error }
                    return JobOutcome(error)
                }
            }
            guard outcome.result.isSuccess else {
                let failure = ProvisioningFailure(outcome, of: failure.withLock { $0 })
                return try await outcomes.failed(
                    job, attempt: request.attempt, status, failure, outcome, before: failures, report)
            }
            let write = EntryWrite.finish(status, at: clock.now, names: names)
            let ended = AccountOutcome(write: write, code: .success, job: job, result: outcome)
            return try await outcomes.write(ended, status, AccountMemory(), report)
        }
    }

    private func runSteps(
        _ request: ProvisioningRequest, _ attempt: RunningAttempt, _ report: @escaping ProgressListener
    ) async throws {
        for step in try await service.plan(request) {
            try Task.checkCancellation()
            await report(.step(step.name))
            Logger.current.debug("step: \(step.name)")
            try await attempt.step(step.name) { try await step.perform(in: attempt) }
        }
    }

    private func nextJob() async throws -> JobID { try await ids?.next() ?? JobID(0) }

    /// A job of this process whose attempt was interrupted by something outside of it, so that it is still open.
    private func openJob(of account: EntryUUID) -> Job? {
        let subject = JobSubject(account)
        return executor.registry.live().last { $0.type == .provisioning && $0.subject == subject }
    }

    private func job(_ request: ProvisioningRequest, _ status: AccountStatus) -> Job {
        Job(
            id: request.job, type: .provisioning, name: request.operation.rawValue, level: request.operation.rawValue,
            subject: JobSubject(status.uuid), client: status.dn.accountName, created: clock.now)
    }

    /// When the time window of provisioning opens; nil: it is open.
    private func opening(_ ignoringWindow: Bool) -> Timestamp? {
        let now = clock.now
        let opening = executor.opening(for: .provisioning, after: now)
        return ignoringWindow || opening <= now ? nil : opening
    }

    private var logger: Logger { .current }
}

extension DN {
    /// The value of the entry's own RDN.
    fileprivate var accountName: String { rdns.first?.assertions.first?.value.text ?? description }
}

extension JobOutcome {
    init(_ failure: ProvisioningFailure) {
        self.init(
            failure.failureClass == .configuration ? .wrongConfiguration : .failed, failureClass: failure.failureClass,
            message: "\(failure)" + (failure.lastLine.map { "; its last output: \($0)" } ?? ""))
    }
}

extension ProvisioningFailure {
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

extension AccountStatus {
    var key: AccountKey { AccountKey(uuid: uuid, dn: dn) }

    /// The entry after a claim of ours.
    /// - Parameter csn: the entryCSN of the claim.
    func claimed(by write: EntryWrite, _ csn: AttributeValue) -> Self {
        var status = self
        (status.mode, status.returnValue, status.claim, status.csn) = (write.mode, nil, write.claim, csn)
        return status
    }
}
