import Daemon
import EventLoop
import Glibc
import JobCore
import LDAP
import Provisioning
import Synchronization

/// Answers the requests over the control socket.
@MainActor final class ControlHandler {
    /// Clients that may wait for the end of a request, of all that the control socket takes, so that others have room.
    private static let mostWaiting = 48

    private let engine: Engine
    private let started: Timestamp
    private let jobs: DaemonJobs
    private let reload: @MainActor () async -> ReloadOutcome
    private var waiting = 0

    init(
        engine: Engine, started: Timestamp, jobs: DaemonJobs, reload: @escaping @MainActor () async -> ReloadOutcome
    ) {
        (self.engine, self.started, self.jobs, self.reload) = (engine, started, jobs, reload)
    }

    func answer(_ request: ControlRequest) async -> ControlReply {
        let question: DaemonRequest
        do { question = try request.decode(DaemonRequest.self) } catch {
            return .refusal("the request is not understood: \(error)")
        }
        do { return try await reply(to: question) } catch {
            let refused = DaemonReply<String>.refused(CommandFailure(inDaemon: error))
            return (try? ControlReply(encoding: refused)) ?? .refusal("\(error)")
        }
    }

    private func reply(to request: DaemonRequest) async throws -> ControlReply {
        switch request {
        case .status:
            let snapshot = await engine.snapshot()
            let now = SystemWallClock().now
            return try Self.done(
                DaemonStatus(
                    snapshot, jobs: jobs.registry.live().map { JobLine($0.seen(at: now)) }, started: started,
                    clockDoubtedUntil: jobs.clockDoubtedUntil,
                    backups: jobs.health.summary, backupSlots: jobs.backupSlots))
        case .health: return try Self.done(await health())
        case .unfinishedAccounts: return try Self.done(try await unfinishedAccounts())
        case .reload: return try Self.done(await reload())
        case .provision(let uuid, let dn):
            guard let uuid = EntryUUID(text: uuid) else {
                throw CommandFailure("\(uuid) is no entryUUID", hint: "see the daemon's log")
            }
            return try Self.done(try await provision(AccountKey(uuid: uuid, dn: try DN(parsing: dn)))?.rawValue)
        case .jobs(let query):
            let list = try await queries.list(query)
            // A long list takes long. Nothing else waits for a thread that may block, so that it is answered while the disk hangs.
            return try await BlockingWork.run { try Self.done(list) }
        case .theseJobs(let ids): return try Self.done(JobList(try await queries.jobs(ids.map { JobID($0) })))
        case .job(let id): return try Self.done(try await queries.job(JobID(id)))
        case .cancel(let id): return try Self.done(jobs.registry.cancel(JobID(id)))
        case .run(let name): return try Self.done(await recorded([try await jobs.run(name)]))
        case .backup(let level, let accounts, let isForced):
            let (jobs, recent) = try await jobs.backup(level, accounts: accounts, isForced: isForced)
            return try Self.done(await recorded(jobs, recent: recent))
        case .scripts: return try Self.done(await jobs.scripts())
        case .restartScripts: return try Self.done(try await jobs.restartHandlers())
        }
    }

    private nonisolated static func done(_ value: some Codable & Sendable) throws -> ControlReply {
        try ControlReply(encoding: DaemonReply.done(value))
    }

    /// Waits for the end of a request, or until the client disconnects.
    private func provision(_ key: AccountKey) async throws -> ProvisioningExitCode? {
        guard waiting < Self.mostWaiting else {
            throw CommandFailure(
                "\(waiting) commands already wait for the end of a request",
                hint: "try again when one of them has ended; the daemon works without being asked", status: .tryAgain)
        }
        waiting += 1
        defer { waiting -= 1 }
        await jobs.started()
        try Task.checkCancellation()
        let end = Waiters<ProvisioningExitCode>()
        Task { end.resume(await engine.provision(key)) }
        let code = await end.wait()
        if code == nil, engine.isStopping { throw DaemonJobs.stopping }
        return code
    }

    private func health() async -> DaemonHealth {
        let snapshot = await engine.snapshot()
        var health = DaemonHealth(
            isDirectoryAvailable: snapshot.isLDAPAvailable, directoryError: snapshot.refusedCredentials,
            shortages: snapshot.shortages.map(ShortageLine.init),
            backups: jobs.health.summary, openJobs: jobs.registry.live().count,
            deletes: WaitingDeletes(snapshot.deletes), behind: snapshot.behind.count)
        guard health.isDirectoryAvailable else { return health }
        do {
            let failed = try await failedAccounts()
            (health.failedAccounts, health.failedUIDs) = (failed?.count, failed?.first ?? [])
        } catch {
            health.directoryError = "\(error)"
        }
        return health
    }

    /// The number, and the uids of the first; nil: RETURN_VALUE is empty.
    private func failedAccounts() async throws -> (count: Int, first: [String])? {
        guard let accounts = engine.failedAccounts(attributes: [Self.uid]) else { return nil }
        // Monitoring plug-ins usually have ten seconds.
        return try await Self.within(.seconds(5)) { _ in
            var (count, first): (Int, [String]) = (0, [])
            for try await account in accounts {
                count += 1
                if first.count < BackupHealth.listLimit { first.append(account.entry.text(Self.uid) ?? "?") }
            }
            return (count, first)
        }
    }

    private func unfinishedAccounts() async throws -> UnfinishedAccounts {
        let pending = engine.pendingAccounts(attributes: [])
        let failed = engine.failedAccounts(attributes: [Self.uid])
        return try await Self.within(.seconds(60)) { progress in
            var unfinished = UnfinishedAccounts()
            for try await account in pending {
                unfinished.add(pending: account.status)
                progress.note()
            }
            guard let failed else { return unfinished }
            for try await account in failed {
                unfinished.add(failed: account.entry.text(Self.uid) ?? "?")
                progress.note()
            }
            return unfinished
        }
    }

    private nonisolated static let uid: AttributeName = "uid"

    /// Counts the results of a search.
    private final class Progress: Sendable {
        private let found = Atomic(0)
        var count: Int { found.load(ordering: .relaxed) }
        func note() { found.add(1, ordering: .relaxed) }
    }

    /// Fails if a search takes longer than the limit or finds nothing for ten seconds: searches wait for an unavailable LDAP server.
    private static func within<Value: Sendable>(
        _ limit: Duration, _ search: @escaping @Sendable (Progress) async throws -> Value
    ) async throws -> Value {
        let progress = Progress()
        return try await withThrowingTaskGroup(of: Value.self) { tasks in
            tasks.addTask { try await search(progress) }
            tasks.addTask {
                let end = ContinuousClock.now + limit
                var before: Int
                repeat {
                    before = progress.count
                    try await Task.sleep(for: min(limit, .seconds(10)))
                } while progress.count > before && ContinuousClock.now < end
                throw CommandFailure(
                    "the LDAP server does not answer, or does not list all accounts within \(limit)",
                    hint: "try again; if that does not help, check the load of the LDAP server", status: .unavailable)
            }
            defer { tasks.cancelAll() }
            guard let value = try await tasks.next() else { throw CancellationError() }
            return value
        }
    }

    /// Waits until the jobs are in the history's file, or reports why they are not.
    private func recorded(_ ids: [JobID], recent: Int = 0) async -> AcceptedJobs {
        var accepted = AcceptedJobs(jobs: ids.map(\.number), recent: recent)
        do throws(HistoryError) {
            try await jobs.history.confirm(ids)
        } catch {
            accepted.unrecorded = "\(error)"
        }
        return accepted
    }

    private var queries: JobQueries { JobQueries(registry: jobs.registry, history: jobs.history) }
}

extension DaemonStatus {
    init(
        _ snapshot: EngineSnapshot, jobs: [JobLine], started: Timestamp, clockDoubtedUntil: Timestamp?,
        backups: BackupHealth.Summary, backupSlots: Int?
    ) {
        func text(_ time: Timestamp) -> String { time.text }
        self.init(
            pid: getpid(), version: Version.description, since: text(started),
            isDirectoryAvailable: snapshot.isLDAPAvailable, refusedCredentials: snapshot.refusedCredentials,
            running: snapshot.running.map {
                Running(
                    job: $0.job.number, uuid: $0.key.uuid.description, dn: $0.key.dn.description,
                    operation: $0.operation.rawValue, attempt: $0.attempt, step: $0.step, since: text($0.started))
            },
            retrying: snapshot.retrying.map {
                Retrying(
                    job: $0.record.job.number, uuid: $0.key.uuid.description, dn: $0.key.dn.description,
                    attempt: $0.record.attempt, next: text($0.record.notBefore), failure: "\($0.record.failure)",
                    shortageSince: $0.record.failures.shortageBegan.map(text))
            },
            shortages: snapshot.shortages.map(ShortageLine.init), jobs: jobs, waiting: snapshot.waiting,
            nextDue: snapshot.nextDue.map(text),
            behind: snapshot.behind.prefix(1_000).map { Behind(uuid: $0.uuid.description, dn: $0.dn.description) },
            deletes: WaitingDeletes(snapshot.deletes), clockDoubtedUntil: clockDoubtedUntil.map(text),
            succeeded: snapshot.succeeded, failed: snapshot.failed, backups: backups, backupSlots: backupSlots)
    }
}

extension ShortageLine {
    fileprivate init(_ shortage: MachineShortage) {
        self.init(
            accounts: shortage.accounts, since: shortage.since.text,
            reason: shortage.text)
    }
}
