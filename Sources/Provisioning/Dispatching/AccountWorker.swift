import LDAP
import JobCore
import Logging
import Synchronization

/// Looks at one account and does what its entry asks for.
@MainActor struct AccountWorker {
    let reader: AccountReader
    let committer: Committer
    let ending: JobEnding
    let policy: DecisionPolicy
    let service: any ProvisioningService
    let retry: RetryPolicy
    /// Gives each job its number; nil for a dry run, in which no job begins.
    let ids: JobIDSource?
    let executor: JobExecutor
    let scheduler: JobScheduler
    /// How many accounts may be deleted within an hour.
    let deletes: HourlyLimit
    let clock: any WallClock
    /// Whether the clock may be wrong.
    let isClockDoubted: @Sendable () -> Bool
    /// nil for a dry run: the plan goes there, and nothing is done.
    let planPrinter: PlanPrinter?

    private var names: AttributeNames { policy.names }

    /// - Parameters:
    ///   - seen: the newest entryCSN of the entry that is known of; nil: none is.
    ///   - now: by which the wait between two attempts is over; the day of a wish goes by the clock.
    /// - Throws: `CancellationError` when the daemon stops; the account is then resumable.
    func work(
        on key: AccountKey, _ memory: AccountMemory, seen: AttributeValue?, now: Timestamp, ignoringDate: Bool = false,
        report: @escaping AccountTurn.Listener
    ) async throws -> AccountTurn.Disposition {
        let condition = reader.scope.condition
        let attributes = service.requestedAttributes + RequestOrigin.attributes
        guard let entry = try await reader.entry(key, attributes: attributes, meeting: condition) else {
            logger.notice(
                "\(key.dn) is gone from the directory\(condition == nil ? "" : ", or no longer meets SEARCH_FILTER"); nothing is deleted for that"
            )
            await ending.abandon(memory.past, nil, report)
            return .settled
        }
        guard let status = AccountStatus(entry, names: names) else {
            let hidden = [AttributeNames.entryUUID, AttributeNames.entryCSN].filter { entry[$0].isEmpty }
            if hidden.isEmpty {
                logger.debug("\(entry.dn) takes no part in provisioning")
            } else {
                logger.error("\(entry.dn) cannot be worked on: \(AccountReader.hidden(hidden))")
            }
            await ending.abandon(memory.past, nil, report)
            return .settled
        }
        if let seen, EntryVersion.is(status.csn, olderThan: seen) {
            logger.log(
                level: memory.troubles == 0 ? .warning : .debug,
                """
                \(status.dn) is shown as it was at \(status.csn), and has been changed at \(seen): the server lags behind another one, and \
                is asked again; if it was restored from a backup, see: prov-backup-rsnapshot accounts explain
                """)
            return .behind
        }
        let decision = decide(status, ignoringDate)
        if let planPrinter {
            return try await planPrinter.show(decision, status, entry, service: service, names: names)
        }
        if decision != .claim(.delete), decision != .resume(.delete) { deletes.withdraw(key.uuid.description) }
        var memory = memory
        switch decision {
        case .resume: break
        default:
            await ending.abandon(memory.past, status, report)
            memory.past = .nothing
        }
        switch decision {
        case .leave, .wait, .waitForClock: try await giveBack(status, report)
        case .claim, .resume, .refuse: break
        }
        switch decision {
        case .leave(let reason):
            var level = Logger.Level.debug
            if case .sharedHosts = reason { level = .error }
            logger.log(level: level, "\(status.dn) is left alone: \(reason)")
            return .settled
        case .wait(let start):
            logger.info("\(status.dn) waits for its day", metadata: ["until": "\(start.text)"])
            return .again(at: start)
        case .waitForClock:
            logger.info("\(status.dn) waits although its day has begun: the machine's clock may be wrong")
            return .again(at: clock.now + Self.untilClockIsAskedAgain)
        case .refuse(let failure):
            return try await ending.refuse(status, failure, memory, report)
        case .claim(let operation):
            if let opening = opening(ignoringDate) { return .again(at: opening) }
            if operation == .delete, !ignoringDate, let time = deletes.wait(key.uuid.description, now: clock.now) {
                logger.debug("\(status.dn) is not deleted before \(time.text): too many deletes")
                return .again(at: time)
            }
            return try await alone(status, entry) {
                if let time = try await admit(operation, status, entry, isUrgent: ignoringDate) {
                    return .again(at: time)
                }
                return try await claim(status, entry, operation, memory, report)
            }
        case .resume(let operation):
            return try await goOn(status, entry, operation, memory, now: now, ignoringDate: ignoringDate, report)
        }
    }

    /// Works on what the entry names while no other job does.
    private func alone(
        _ status: AccountStatus, _ entry: Entry, _ work: () async throws -> AccountTurn.Disposition
    ) async throws -> AccountTurn.Disposition {
        guard let attribute = service.uniqueAttribute else { return try await work() }
        let subjects = service.uniqueValues(of: entry).compactMap(\.text).map { JobSubject(attribute, $0) }
        guard scheduler.acquire(subjects, for: .subject(JobSubject(status.uuid))) else {
            logger.debug("\(status.dn) waits for another job that works on its \(attribute)")
            return .blocked(by: subjects)
        }
        // Daemons that share accounts may share what these name as well, and an entry that is removed takes its claim along.
        let lock: any Sendable
        do {
            guard let held = self.names.claim == nil ? () : try await service.lock(entry) else {
                logger.debug("\(status.dn) waits for another daemon that works on its \(attribute)")
                return .busy(until: clock.now + Self.untilOthersHaveEnded)
            }
            lock = held
        } catch {
            return .obstructed(MachineShortages.Cause(text: "\(error.reason); \(error.hint)", hint: error.hint))
        }
        defer { withExtendedLifetime(lock) {} }
        return try await work()
    }

    /// - Parameter isOurs: whether the daemon itself has claimed it: then it was admitted, and who asked for it was told.
    /// - Returns: when a delete may begin because of their number; nil: now.
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
        policy.decide(status, now: clock.now, ignoringDate: ignoringDate, isClockDoubted: isClockDoubted)
    }

    private static let untilClockIsAskedAgain = Duration.seconds(600)

    /// For an entry that was removed and added again while its work went on.
    private static let untilOthersHaveEnded = Duration.seconds(1)

    /// - Throws: `ProvisioningFailure` with code 1 while other entries name what this one names; `CancellationError`, or what the directory says.
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

    /// The same during an attempt: where the LDAP server refuses to tell, another attempt is made.
    private func demandUniqueAgain(_ entry: Entry, _ status: AccountStatus) async throws {
        do {
            try await demandUnique(entry, status)
        } catch let error as LDAPError {
            throw ProvisioningFailure(
                .undefinedError, .retryable,
                reason: "it cannot be told whether another entry names what \(status.dn) names: \(error)",
                hint: "see what the LDAP server says")
        }
    }

    /// Whether the entry asks for work that may begin now. It is only looked at: another job works on the account.
    /// - Throws: `CancellationError`, or what the directory says.
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
        switch memory.past {
        case .unwritten: return false
        case .waits(let record) where record.notBefore > clock.now: return ignoringDate
        case .rests(let until) where until > clock.now: return ignoringDate
        case .waits, .rests, .left, .nothing: return opening(ignoringDate) == nil
        }
    }

    /// The account is claimed and not finished: goes on where its job stopped, as soon as that may be.
    private func goOn(
        _ status: AccountStatus, _ entry: Entry, _ operation: Operation, _ memory: AccountMemory, now: Timestamp,
        ignoringDate: Bool, _ report: @escaping AccountTurn.Listener
    ) async throws -> AccountTurn.Disposition {
        let isCanceled = memory.record.flatMap { executor.registry.live($0.job)?.isCanceled } ?? false
        let isUrgent = ignoringDate || isCanceled
        switch memory.past {
        case .unwritten(let outcome):
            return try await ending.settle(outcome, status, memory, report)
        case .waits(var record):
            if record.notBefore > now, !isUrgent { return .retry(record) }
            if let opening = opening(isUrgent) {
                record.notBefore = opening
                return .retry(record)
            }
        case .rests(let until) where until > now && !isUrgent: return .rest(until: until)
        case .rests, .left, .nothing:
            if let opening = opening(isUrgent) { return .again(at: opening) }
        }
        return try await alone(status, entry) {
            let isOurs =
                switch memory.past {
                case .waits, .left, .unwritten: true
                case .nothing, .rests: openJob(of: status.uuid) != nil
                }
            if let time = try await admit(operation, status, entry, isUrgent: isUrgent, isOurs: isOurs) {
                return .again(at: time)
            }
            if case .waits = memory.past {
                do {
                    try await demandUnique(entry, status)
                } catch let failure as ProvisioningFailure {
                    return try await ending.refuse(status, failure, memory, past: memory.past, report)
                }
                return try await resume(status, entry, operation, memory, report)
            }
            let write = EntryWrite.resume(status, holder: newHolder(), names: names)
            return try await take(status, entry, by: write, memory, report) { claimed in
                try await resume(claimed, entry, operation, memory, report)
            }
        }
    }

    private func claim(
        _ status: AccountStatus, _ entry: Entry, _ operation: Operation, _ memory: AccountMemory,
        _ report: @escaping AccountTurn.Listener
    ) async throws -> AccountTurn.Disposition {
        let write = EntryWrite.claim(status, holder: newHolder(), names: names)
        return try await take(status, entry, by: write, memory, report) { claimed in
            let request = ProvisioningRequest(
                operation: operation, entry: entry, job: try await nextJob(), attempt: 1,
                demandUnique: { try await demandUniqueAgain(entry, claimed) })
            let origin = operation == .delete ? RequestOrigin(entry) : nil
            return try await run(
                request, job(request, status), claimed, failures: FailedAttempts(), of: origin, report)
        }
    }

    /// Who holds a claim that is made now; each has a token of its own.
    private func newHolder() -> String? {
        names.claim.map { _ in "\(policy.claimHolder) \(String(UInt64.random(in: .min ... .max), radix: 16))" }
    }

    /// A claim of ours on an entry that asks us for nothing now is of a job that has ended, or was cut off before the request was withdrawn: another
    /// daemon may wait for it.
    private func giveBack(_ status: AccountStatus, _ report: @escaping AccountTurn.Listener) async throws {
        guard status.phase != .claimed, let claim = status.claim, policy.isOwn(claim),
            let write = EntryWrite.release(status, names: names)
        else { return }
        // Where it does not succeed, the next look at the entry tries it again.
        if case .written(let csn?) = try await committer.commit(write, to: status.key) {
            await report(.wrote(csn: csn))
        }
    }

    /// Writes a claim, or the same again, and does the work under it. Meanwhile it is looked whether another entry names the same: the work begins when
    /// both have been answered.
    private func take(
        _ status: AccountStatus, _ entry: Entry, by write: EntryWrite, _ memory: AccountMemory,
        _ report: @escaping AccountTurn.Listener,
        _ work: (AccountStatus) async throws -> AccountTurn.Disposition
    ) async throws -> AccountTurn.Disposition {
        // Where something stood in the way the last time, the entry stays as it is until that can be told.
        if memory.troubles > 0 { do { try await demandUnique(entry, status) } catch is ProvisioningFailure {} }
        async let isUnique: Void = demandUnique(entry, status)
        let claimed: AccountStatus
        switch try await committer.commit(write, to: status.key) {
        case .written(let csn?):
            await report(.wrote(csn: csn))
            claimed = status.claimed(by: write, csn)
        case .written(nil):
            guard let entry = try await reader.entry(status.key, attributes: []),
                let found = AccountStatus(entry, names: names), write.isFulfilled(by: found)
            else { return .lost }
            claimed = found
        case .lost, .disturbed: return .lost
        case .gone: return .settled
        case .refused(let error):
            logger.log(level: memory.level, "\(status.dn) cannot be claimed: \(error)")
            return .trouble
        }
        do {
            try await isUnique
        } catch let failure as ProvisioningFailure {
            return try await ending.refuse(claimed, failure, memory, past: memory.past, report)
        }
        return try await work(claimed)
    }

    private func resume(
        _ status: AccountStatus, _ entry: Entry, _ operation: Operation, _ memory: AccountMemory,
        _ report: @escaping AccountTurn.Listener
    ) async throws -> AccountTurn.Disposition {
        var last: (job: JobID, attempt: Int)?
        var failures = FailedAttempts()
        var left: Job?
        switch memory.past {
        case .waits(let record):
            last = (record.job, record.attempt)
            failures = record.failures
        case .left(let job):
            left = job
            last = (job.id, job.attempt)
        case .nothing, .rests, .unwritten:
            last = openJob(of: status.uuid).map { ($0.id, $0.attempt) }
        }
        if case .waits = memory.past {
        } else {
            logger.log(
                level: memory.troubles == 0 ? .notice : .debug,
                "\(status.dn) was left in \(status.mode) and is resumed")
        }
        let number = if let last { last.job } else { try await nextJob() }
        let request = ProvisioningRequest(
            operation: operation, entry: entry, job: number,
            // Something claimed the entry before: where nothing is recorded of that attempt, this one is the second or a later one.
            attempt: max(1, last?.attempt ?? 1) + 1,
            demandUnique: { try await demandUniqueAgain(entry, status) })
        return try await run(request, left ?? job(request, status), status, failures: failures, report)
    }

    private func run(
        _ request: ProvisioningRequest, _ job: Job, _ status: AccountStatus, failures: FailedAttempts,
        of origin: RequestOrigin? = nil, _ report: @escaping AccountTurn.Listener
    ) async throws -> AccountTurn.Disposition {
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
            // From here on the job stands on the registry, and what becomes of it is told.
            await report(.pastIsOver)
            if let origin { executor.registry.write("\(origin)", to: job.id, source: .daemon) }
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
                return try await ending.failed(
                    job, attempt: request.attempt, status, failure, outcome, before: failures, report)
            }
            let write = EntryWrite.finish(status, at: clock.now, names: names)
            let ended = AccountOutcome(write: write, code: .success, job: job, result: outcome)
            return try await ending.settle(ended, status, AccountMemory(), report)
        }
    }

    private func carryOut(
        _ request: ProvisioningRequest, _ attempt: RunningAttempt, _ report: @escaping AccountTurn.Listener
    ) async throws {
        for step in try await service.plan(request) {
            try Task.checkCancellation()
            await report(.step(step.name))
            Logger.current.debug("step: \(step.name)")
            try await attempt.step(step.name) { try await step.perform(in: attempt) }
        }
    }

    private func nextJob() async throws -> JobID { try await ids?.next() ?? JobID(0) }

    /// A job that this process opened and did not end, because something outside of it interrupted its attempt.
    private func openJob(of account: EntryUUID) -> Job? {
        let subject = JobSubject(account)
        return executor.registry.live().last { $0.type == .provisioning && $0.subject == subject }
    }

    private func job(_ request: ProvisioningRequest, _ status: AccountStatus) -> Job {
        Job(
            id: request.job, type: .provisioning, name: request.operation.rawValue, level: request.operation.rawValue,
            subject: JobSubject(status.uuid), client: status.dn.accountName, created: clock.now)
    }

    /// When jobs may begin; nil: now.
    private func opening(_ ignoringWindow: Bool) -> Timestamp? {
        let now = clock.now
        let opening = executor.opening(for: .provisioning, after: now)
        return ignoringWindow || opening <= now ? nil : opening
    }

    private var logger: Logger { .current }
}

extension DN {
    /// What people call the account: the value of its entry's own name.
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
    /// The last line that the failed program wrote, as far as it fits into a message.
    fileprivate var lastLine: Substring? {
        output.split(whereSeparator: \.isNewline).last { !$0.allSatisfy(\.isWhitespace) }?.prefix(200)
    }

    /// What goes onto the entry for a job that did not succeed.
    /// - Parameter own: what the service said; nil when it had nothing to say, or was not asked.
    fileprivate init(_ outcome: JobOutcome, of own: ProvisioningFailure?) {
        if let own, outcome.result != .aborted {
            self = own
        } else {
            self.init(
                .undefinedError, outcome.failureClass ?? .permanent, reason: outcome.message,
                hint: outcome.failureClass == .shortage
                    ? "look at what the job says (jobs show); it goes on by itself"
                    : "look at what the job says (jobs show), and then: accounts retry UID")
        }
    }
}

extension AccountStatus {
    var key: AccountKey { AccountKey(uuid: uuid, dn: dn) }

    /// As the entry stands after a claim of ours.
    /// - Parameter csn: that the claim has got.
    func claimed(by write: EntryWrite, _ csn: AttributeValue) -> Self {
        var status = self
        (status.mode, status.returnValue, status.claim, status.csn) = (write.mode, nil, write.claim, csn)
        return status
    }
}
