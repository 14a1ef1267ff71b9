import Daemon
import LDAP
import Glibc
import JobCore
import Provisioning
import Synchronization

/// Answers what comes over the control socket.
@MainActor struct ControlHandler {
    let engine: Engine
    let started: Timestamp
    var desk: (any JobDesk)?
    var reloader: SettingsReloader?

    func answer(_ request: ControlRequest) async -> ControlReply {
        do {
            return try ControlReply(encoding: await reply(to: try request.decode(DaemonRequest.self)))
        } catch {
            return .refusal("the request is not understood: \(error)")
        }
    }

    private func reply(to request: DaemonRequest) async -> DaemonReply {
        do {
            return try await answer(to: request)
        } catch let failure as CommandFailure {
            return .refused(DaemonReply.Refusal(failure))
        } catch {
            return .refused(DaemonReply.Refusal(CommandFailure("\(error)", hint: "see the daemon's log")))
        }
    }

    private func answer(to request: DaemonRequest) async throws -> DaemonReply {
        switch request {
        case .status:
            let snapshot = await engine.snapshot()
            let now = SystemWallClock().now
            return .status(
                DaemonStatus(
                    snapshot, jobs: desk?.live().map { JobLine($0.seen(at: now)) } ?? [], started: started,
                    clockDoubtedUntil: desk?.clockDoubtedUntil,
                    backups: desk?.health.summary ?? BackupHealth.Summary(), backupSlots: desk?.backupSlots))
        case .health: return .health(await health())
        case .unfinishedAccounts: return .unfinishedAccounts(try await unfinishedAccounts())
        case .reload:
            guard let reloader else { throw cannot("reload its settings") }
            return .reloaded(await reloader.reload())
        case .provision(let uuid, let dn):
            guard let uuid = EntryUUID(text: uuid) else {
                throw CommandFailure("\(uuid) is no entryUUID", hint: "see the daemon's log")
            }
            return .provisioned(await engine.provision(AccountKey(uuid: uuid, dn: try DN(parsing: dn)))?.rawValue)
        case .jobs(let query): return .jobs(try await catalog.list(query))
        case .theseJobs(let ids):
            return .jobs(JobList(try await catalog.jobs(ids.map { JobID($0) })))
        case .job(let id): return .job(try await catalog.job(JobID(id)))
        case .cancel(let id): return .cancelled(try theDesk.cancel(JobID(id)))
        case .run(let name): return .asked(await recorded([try await theDesk.run(name)]))
        case .backup(let level, let accounts, let isForced):
            let (jobs, recent) = try await theDesk.backup(level, accounts: accounts, isForced: isForced)
            return .asked(await recorded(jobs, recent: recent))
        case .scripts: return .scripts(try await theDesk.scripts())
        case .restartScripts: return .restarted(try await theDesk.restartHandlers())
        }
    }

    private func health() async -> DaemonHealth {
        let snapshot = await engine.snapshot()
        var health = DaemonHealth(
            isDirectoryAvailable: snapshot.isDirectoryAvailable, ldapError: snapshot.refusedCredentials,
            shortages: snapshot.shortages.map(ShortageLine.init),
            backups: desk?.health.summary ?? BackupHealth.Summary(), openJobs: desk?.live().count ?? 0,
            deletes: WaitingDeletes(snapshot.deletes), behind: snapshot.behind.count)
        guard health.isDirectoryAvailable else { return health }
        do {
            let failed = try await failedAccounts()
            (health.failedAccounts, health.failedUIDs) = (failed?.count, failed?.first ?? [])
        } catch {
            health.ldapError = "\(error)"
        }
        return health
    }

    /// How many there are, and the uids of the first; nil where the directory has no place to say so.
    private func failedAccounts() async throws -> (count: Int, first: [String])? {
        guard let accounts = engine.failedAccounts(attributes: [Self.uid]) else { return nil }
        // A monitoring plug-in is usually given ten seconds.
        return try await Self.within(.seconds(5)) { _ in
            var (count, first): (Int, [String]) = (0, [])
            for try await account in accounts {
                count += 1
                if first.count < BackupHealth.mostNamed { first.append(account.entry.text(Self.uid) ?? "?") }
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

    /// What a search has found so far.
    private final class Progress: Sendable {
        private let found = Atomic(0)
        var count: Int { found.load(ordering: .relaxed) }
        func note() { found.add(1, ordering: .relaxed) }
    }

    /// A search waits for an LDAP server that is away. This one ends at the limit, and when it has found nothing further for ten seconds.
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
                    hint: "try again, or look at its load", status: .unavailable)
            }
            defer { tasks.cancelAll() }
            guard let value = try await tasks.next() else { throw CancellationError() }
            return value
        }
    }

    private func cannot(_ what: String) -> CommandFailure {
        CommandFailure("this daemon cannot \(what)", hint: "restart it: it may be of another version")
    }

    /// Accepted means recorded: the answer is sent once the jobs are in the history's file, or says why they are not.
    private func recorded(_ jobs: [JobID], recent: Int = 0) async -> AcceptedJobs {
        var accepted = AcceptedJobs(jobs: jobs.map(\.number), recent: recent)
        do throws(HistoryError) {
            try await desk?.history?.confirm(jobs)
        } catch {
            accepted.unrecorded = "\(error)"
        }
        return accepted
    }

    private var catalog: JobCatalog { JobCatalog(desk: desk, history: desk?.history) }

    private var theDesk: any JobDesk {
        get throws {
            guard let desk else {
                throw cannot("run such jobs")
            }
            return desk
        }
    }
}

extension DaemonStatus {
    init(
        _ snapshot: EngineSnapshot, jobs: [JobLine], started: Timestamp, clockDoubtedUntil: Timestamp?,
        backups: BackupHealth.Summary, backupSlots: Int?
    ) {
        func text(_ time: Timestamp) -> String { time.text }
        self.init(
            pid: getpid(), version: Version.description, since: text(started),
            isDirectoryAvailable: snapshot.isDirectoryAvailable, refusedCredentials: snapshot.refusedCredentials,
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
