import LDAP
import JobCore
import Logging

/// Claims the account, and runs its job.
extension AccountReconciler {
    func claim(_ account: Account, _ operation: Operation) async throws -> ReconcileResult {
        let write = EntryWrite.claim(account.status, holder: newHolder(), names: names)
        return try await writeClaim(write, account) { claimed in
            let note = operation == .delete ? claimed.entry.lastChange : nil
            return try await run(try await newJob(operation, claimed), attempt: 1, operation, claimed, note: note)
        }
    }

    /// Continues a claimed account. Between the attempts of a job the claim stays; otherwise it is written again, so that late writes of the
    /// process that wrote it fail.
    func resume(_ account: Account, _ operation: Operation) async throws -> ReconcileResult {
        guard let record = memory.record else {
            let write = EntryWrite.resume(account.status, holder: newHolder(), names: names)
            return try await writeClaim(write, account) { claimed in
                logger.log(
                    level: memory.requeues == 0 ? .notice : .debug,
                    "\(claimed.status.dn) was interrupted in \(claimed.status.mode) and is resumed")
                return try await runNextAttempt(claimed, operation)
            }
        }
        do {
            try await demandUnique(account)
        } catch let failure as ProvisioningFailure {
            return try await refuse(account.status, failure)
        }
        return try await runNextAttempt(account, operation, after: record.failures)
    }

    private func runNextAttempt(
        _ account: Account, _ operation: Operation, after failures: FailedAttempts = FailedAttempts()
    ) async throws -> ReconcileResult {
        let unfinished = unfinishedJob
        let job = if let unfinished { unfinished } else { try await newJob(operation, account) }
        // The entry was claimed before: if no attempt is recorded, this one is the second or a later one.
        return try await run(job, attempt: max(1, job.attempt) + 1, operation, account, failures: failures)
    }

    /// The job that the claim belongs to, as far as it is known.
    var unfinishedJob: Job? {
        switch memory.lastJob {
        case .retrying(let record): return registry.live(record.job)
        case .interrupted(let job): return job
        case .none, .pausing, .unwritten:
            // A job of this process whose attempt was interrupted by something outside of it is still open.
            let subject = JobSubject(key.uuid)
            return registry.live(with: subject).last { $0.type == .provisioning }
        }
    }

    private func newJob(_ operation: Operation, _ account: Account) async throws -> Job {
        Job(
            id: try await context.ids?.next() ?? JobID(0), type: .provisioning, name: operation.rawValue,
            level: operation.rawValue, subject: JobSubject(key.uuid), client: account.entry.accountName,
            created: clock.now)
    }

    // MARK: - The claim

    /// The value of the claim attribute; each claim has a token of its own.
    private func newHolder() -> String? {
        names.claim.map { _ in
            "\(configuration.policy.claimHolder) \(String(UInt64.random(in: .min ... .max), radix: 16))"
        }
    }

    /// Writes a claim (again), and does the work under it. A search for another entry with the same unique value is sent together with the write, and
    /// the work begins when both have been answered.
    private func writeClaim(
        _ write: EntryWrite, _ account: Account, _ work: (_ claimed: Account) async throws -> ReconcileResult
    ) async throws -> ReconcileResult {
        let status = account.status
        // After a failed reconcile the search comes first, so that the entry is not changed while the server refuses the search.
        if memory.requeues > 0 { do { try await demandUnique(account) } catch is ProvisioningFailure {} }
        async let isUnique: Void = demandUnique(account)
        var claimed = account
        beginWrite()
        switch try await entries.write(write, to: status.key) {
        case .written(let csn?):
            wrote(csn)
            claimed.status.follow(write, csn)
        case .written(nil):
            guard let entry = try await entries.entry(status.key, attributes: []),
                let found = AccountStatus(entry, names: names), write.isFulfilled(by: found)
            else { return .conflict }
            claimed.status = found
        case .lost, .contended: return .conflict
        case .gone where EntryVersion.isRecent(status.csn, now: clock.now) && memory.requeues < Self.readsOfMissing:
            return .stale
        case .gone:
            await abandonLastJob(nil)
            return .done
        case .refused(let error): return .failed(cause(of: error, "\(status.dn) cannot be claimed"))
        }
        do {
            try await isUnique
        } catch let failure as ProvisioningFailure {
            return try await refuse(claimed.status, failure)
        }
        return try await work(claimed)
    }

    /// Removes a claim of ours from an entry that asks us for nothing: its job has ended, or was interrupted before the request was withdrawn.
    /// Another daemon may wait for that.
    func releaseClaim(_ status: AccountStatus) async throws {
        // If it fails, the next reconcile tries again.
        if status.phase != .claimed { _ = try await release(status) }
    }

    /// Removes a claim of ours from an entry that another daemon is asked for now, which would wait for this one. Afterwards nothing shows the entry
    /// to this daemon again.
    /// - Returns: nil when there is none any more.
    func releaseToOthers(_ status: AccountStatus) async throws -> ReconcileResult? {
        switch try await release(status) {
        case nil, .written, .gone: return nil
        case .lost, .contended: return .failed(nil)
        case .refused(let error): return .failed(cause(of: error, "\(status.dn): its claim cannot be removed"))
        }
    }

    /// - Returns: nil if there is no claim of ours.
    private func release(_ status: AccountStatus) async throws -> WriteResult? {
        guard let claim = status.claim, configuration.policy.isOwn(claim),
            let write = EntryWrite.release(status, names: names)
        else { return nil }
        beginWrite()
        let result = try await entries.write(write, to: status.key)
        if case .written(let csn?) = result { wrote(csn) }
        return result
    }

    /// - Throws: `ProvisioningFailure` with code 1 while another entry has a value that only this one may have; `CancellationError`, or the error
    ///   of the search.
    private func demandUnique(_ account: Account) async throws {
        guard let unique = service.uniqueAttribute else { return }
        let values = service.uniqueValues(of: account.entry, for: account.status.mode.operation)
        let others = try await entries.others(
            than: account.status.uuid, with: values, attributes: Array(values.keys),
            meeting: [.present(unique)] + (service.isUniqueAmongAll ? [] : [entries.scope.accounts]))
        guard let other = others.first else { return }
        // The server compares without regard to case, and also finds the value of a subtype (`uid;lang-de`), which is not read.
        let shared = ([unique] + values.keys.filter { $0 != unique }).lazy.compactMap { name in
            other[name].first { found in values[name]?.contains { $0.folded == found.folded } == true }
                .map { (name: name, value: $0) }
        }.first
        let (name, value) = shared ?? (unique, values[unique]?.first ?? "")
        let own = account.entry.attributes.filter { $0.values.contains { $0.folded == value.folded } }.map(\.name)
        let place = own.contains(unique) ? unique : own.first ?? name
        throw ProvisioningFailure(
            .undefinedError,
            reason:
                "\(others.map(\.dn.description).joined(separator: " and ")) has the \(name) \(value), which \(account.status.dn) names \(place == name ? "as well" : "as its \(place)")",
            hint: "remove all but one, or give them different values; then write the requests of those that stay again")
    }

    /// Whether no other entry has the same unique value, so that the request will not be refused for that; false if the search fails.
    func isUnique(_ account: Account) async throws -> Bool {
        do {
            try await demandUnique(account)
            return true
        } catch let error where !(error is CancellationError) {
            return false
        }
    }

    /// Calls `demandUnique` during an attempt: if the LDAP server refuses the search, another attempt follows.
    private func demandUniqueInAttempt(_ account: Account) async throws {
        do {
            try await demandUnique(account)
        } catch let error as LDAPError {
            throw ProvisioningFailure(
                .undefinedError, .retryable,
                reason: "it cannot be told whether another entry names what \(account.status.dn) names: \(error)",
                hint: "see the messages of the LDAP server")
        }
    }

    // MARK: - An attempt

    /// Runs an attempt, and writes the outcome if it is the last one.
    /// - Parameters:
    ///   - failures: before it.
    ///   - note: a line for the job's report.
    private func run(
        _ job: Job, attempt number: Int, _ operation: Operation, _ account: Account,
        failures: FailedAttempts = FailedAttempts(), note: String? = nil
    ) async throws -> ReconcileResult {
        let status = account.status
        return try await withLogger(mergingMetadata: [
            "job": "\(job.id)", "account": "\(status.dn)", "attempt": "\(number)",
        ]) { logger in
            memory = AccountMemory()
            reconciler.forgetLastJob(of: key.uuid)
            summary = JobSummary(
                job: job.id, uuid: status.uuid, dn: status.dn, operation: operation, attempt: number, since: clock.now)
            logger.log(level: failures.shortageBegan == nil ? .info : .debug, "\(operation) begins")
            let request = ProvisioningRequest(
                operation: operation, entry: account.entry, job: job.id, attempt: number,
                demandUnique: { try await self.demandUniqueInAttempt(account) })
            let outcome = try await executor.run(job, attempt: number, note: note) { attempt in
                do {
                    try await self.runSteps(request, attempt)
                    return .success
                } catch let error as ProvisioningFailure {
                    self.ownFailure = error
                    return JobOutcome(error)
                }
            }
            guard outcome.result.isSuccess else {
                return try await failed(job, attempt: number, status, outcome, before: failures)
            }
            let write = EntryWrite.finish(status, at: clock.now, names: names)
            return try await self.write(AccountOutcome(write: write, code: .success, job: job, result: outcome), status)
        }
    }

    private func runSteps(_ request: ProvisioningRequest, _ attempt: RunningAttempt) async throws {
        for step in try await service.plan(request) {
            try Task.checkCancellation()
            summary?.step = step.name
            logger.debug("step: \(step.name)")
            try await attempt.step(step.name) { try await step.perform(in: attempt) }
        }
    }
}

extension AccountStatus {
    var key: AccountKey { AccountKey(uuid: uuid, dn: dn) }

    /// The entry was claimed.
    /// - Parameter csn: the entryCSN of the claim.
    fileprivate mutating func follow(_ claim: EntryWrite, _ csn: AttributeValue) {
        (mode, returnValue, self.claim, self.csn) = (claim.mode, nil, claim.claim, csn)
    }
}
