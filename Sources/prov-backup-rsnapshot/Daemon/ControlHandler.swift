import Daemon
import EventLoop
import Glibc
import JobCore
import LDAP
import Provisioning
import Synchronization

/// Answers the requests over the control socket.
@MainActor final class ControlHandler {
    /// Clients that may wait for jobs, of all that the control socket takes, so that others have room.
    private static let mostWaiting = 48
    /// `status` lists so many jobs and accounts of each kind.
    private static let mostListed = 1_000

    private let engine: Engine
    private let started: Timestamp
    private let jobs: DaemonJobs
    private let reloader: SettingsReloader
    private var waitingCount = 0

    init(engine: Engine, started: Timestamp, jobs: DaemonJobs, reloader: SettingsReloader) {
        (self.engine, self.started, self.jobs, self.reloader) = (engine, started, jobs, reloader)
    }

    func answer(_ request: ControlRequest) async -> ControlReply {
        let question: DaemonRequest
        do { question = try request.decode(DaemonRequest.self) } catch {
            return .refusal(
                CommandFailure(
                    "the request is not understood: \(error)", hint: "use the same version as the daemon"))
        }
        do { return try await reply(to: question) } catch { return .refusal(CommandFailure(inDaemon: error)) }
    }

    private func reply(to request: DaemonRequest) async throws -> ControlReply {
        switch request {
        case .status(let account):
            let status = await status(
                of: account, jobs: account == nil ? Self.mostListed : 0, accounts: Self.mostListed)
            return try await BlockingWork.run { try ControlReply(done: status) }
        case .health: return try ControlReply(done: await health())
        case .unfinishedAccounts: return try ControlReply(done: try await unfinishedAccounts())
        case .reload: return try ControlReply(done: await reloader.reload().value)
        case .provision(let key):
            return try await waiting { try ControlReply(done: try await provision(key)?.rawValue) }
        case .jobs(let query):
            let list = await jobs.list(query)
            // A long list takes long. Nothing else waits for a thread that may block, so that it is answered while the disk hangs.
            return try await BlockingWork.run { try ControlReply(done: list) }
        case .theseJobs(let ids): return try ControlReply(done: JobList(try await jobs.jobs(ids.map { JobID($0) })))
        case .job(let id): return try ControlReply(done: try await jobs.job(JobID(id)))
        case .cancel(let id):
            // Interrupted jobs are opened at the end of the start.
            await jobs.started()
            try Task.checkCancellation()
            guard jobs.registry.cancel(JobID(id)) else { return try ControlReply(done: CanceledJob(isOpen: false)) }
            // A crash right after the answer must not resume the job.
            await jobs.registry.recorded(JobID(id))
            return try ControlReply(done: CanceledJob(isOpen: true, unrecorded: jobs.history.hindrance))
        case .run(let name):
            return try await waiting { try ControlReply(done: await recorded([try await jobs.run(name)])) }
        case .backup(let level, let accounts, let isForced):
            return try await waiting {
                // Scheduled jobs wait for an unavailable LDAP server; operators do not.
                try await engine.reachLDAP()
                let (jobs, recent) = try await jobs.backup(level, accounts: accounts, isForced: isForced)
                return try ControlReply(done: await recorded(jobs, recent: recent))
            }
        case .scripts: return try ControlReply(done: await jobs.scripts())
        case .restartScripts: return try ControlReply(done: try await jobs.restartHandlers())
        }
    }

    /// Work that may take as long as a job or its event handlers. It leaves connections for other commands.
    private func waiting(_ work: () async throws -> ControlReply) async throws -> ControlReply {
        guard waitingCount < Self.mostWaiting else {
            throw CommandFailure(
                "\(waitingCount) commands already wait for jobs",
                hint: "try again when one of them has ended; the daemon works without being asked", status: .tryAgain)
        }
        waitingCount += 1
        defer { waitingCount -= 1 }
        return try await work()
    }

    /// Waits for the end of a request, or until the client disconnects.
    private func provision(_ key: AccountKey) async throws -> ProvisioningExitCode? {
        await jobs.started()
        try Task.checkCancellation()
        let end = Waiters<ProvisioningExitCode>()
        Task { end.resume(await engine.provision(key)) }
        let code = await end.wait()
        if code == nil, engine.isStopping { throw DaemonJobs.stopping }
        return code
    }

    /// - Parameters:
    ///   - account: whose details are listed; nil: those of all accounts.
    ///   - mostJobs: of the list of open jobs.
    ///   - mostAccounts: of each list of accounts.
    private func status(
        of account: EntryUUID? = nil, jobs mostJobs: Int, accounts mostAccounts: Int
    ) async -> DaemonStatus {
        let snapshot = await engine.snapshot(of: account, most: mostAccounts)
        let now = SystemWallClock().now
        return DaemonStatus(
            pid: getpid(), version: Version.description, since: started,
            isDirectoryAvailable: snapshot.isLDAPAvailable, refusedCredentials: snapshot.refusedCredentials,
            ldapError: snapshot.ldapError.map {
                "\($0)" + ($0.hint == nil ? "; run: prov-backup-rsnapshot check" : "")
            },
            running: snapshot.running, retrying: snapshot.retrying,
            shortages: snapshot.shortages, lockWaits: snapshot.lockWaits.isEmpty ? nil : snapshot.lockWaits,
            delayedJobs: jobs.delays.isEmpty ? nil : jobs.delays.values.sorted { $0.work < $1.work },
            jobs: jobs.registry.live(most: mostJobs).map { JobLine($0.seen(at: now)) },
            openJobs: jobs.registry.count, waiting: snapshot.waiting, nextDue: snapshot.nextDue,
            behind: snapshot.behind, behindCount: snapshot.behindCount, deletes: snapshot.deletes,
            clockDoubtedUntil: jobs.clockDoubtedUntil, succeeded: snapshot.succeeded, failed: snapshot.failed,
            backups: jobs.backupProblems, backupSlots: jobs.configuration.backupJobs.slots,
            historyError: jobs.history.hindrance, scriptingError: jobs.parts.handlers.scriptingError,
            reloadError: reloader.refusal)
    }

    private func health() async -> DaemonHealth {
        var health = DaemonHealth(status: await status(jobs: 0, accounts: 0))
        let now = SystemWallClock().now
        let lockWaits = (health.status.lockWaits ?? []).filter { now - $0.since > HealthReport.longestWait }
        health.status.lockWaits = lockWaits.isEmpty ? nil : lockWaits
        guard health.status.isDirectoryAvailable else { return health }
        let claimed = engine.claimedAccounts(attributes: [Entry.nameAttribute])
        do {
            // Monitoring plug-ins usually have ten seconds.
            let found = try await count([claimed].compactMap(\.self), within: .seconds(5))
            health.failedAccounts = engine.names.returnValue == nil ? nil : found.counts.failed
            health.failedUIDs = Array(found.failedUIDs.prefix(BackupHealth.listLimit))
            health.invalidAccounts = found.counts.invalid
            health.invalidUIDs = Array(found.invalidUIDs.prefix(BackupHealth.listLimit))
            let old = found.othersClaims.filter { $0.isOld(at: now) }
            health.othersClaims = old.isEmpty ? nil : old
        } catch {
            health.searchError = "\(error)"
        }
        return health
    }

    private func unfinishedAccounts() async throws -> UnfinishedAccounts {
        try await count([engine.pendingAccounts(attributes: [Entry.nameAttribute])], within: .seconds(60))
    }

    /// Counts the results of a search.
    private final class Progress: Sendable {
        private let found = Atomic(0)
        var count: Int { found.load(ordering: .relaxed) }
        func note() { found.add(1, ordering: .relaxed) }
    }

    /// Counts these pending accounts, and those that have failed or are invalid. Fails if the search takes longer than the limit or finds nothing for
    /// ten seconds: searches wait for an unavailable LDAP server.
    private func count(_ pending: [AccountList], within limit: Duration) async throws -> UnfinishedAccounts {
        let (troubled, names) = (engine.failedOrInvalid(attributes: [Entry.nameAttribute]), engine.names)
        let progress = Progress()
        let policy = jobs.configuration.engine.policy
        return try await withThrowingTaskGroup(of: UnfinishedAccounts.self) { tasks in
            tasks.addTask {
                var unfinished = UnfinishedAccounts()
                for list in pending {
                    for try await account in list {
                        unfinished.add(pending: account.status, uid: account.entry.accountReference, policy)
                        progress.note()
                    }
                }
                for try await entry in troubled {
                    unfinished.add(failedOrInvalid: entry, names: names)
                    progress.note()
                }
                return unfinished
            }
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
}
