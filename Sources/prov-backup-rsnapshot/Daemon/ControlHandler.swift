import DaemonKit
import DirectoryModel
import Glibc
import JobCore
import Provisioning

/// Answers what comes over the control socket.
struct ControlHandler: Sendable {
    let engine: Engine
    let started: WallTime
    var desk: (any JobDesk)?

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
            return .refused(
                DaemonReply.Refusal(reason: failure.reason, cure: failure.cure, status: failure.status.rawValue))
        } catch {
            return .refused(DaemonReply.Refusal(reason: "\(error)", cure: "see the daemon's log", status: 1))
        }
    }

    private func answer(to request: DaemonRequest) async throws -> DaemonReply {
        switch request {
        case .status:
            let snapshot = await engine.snapshot()
            let now = SystemWallClock().now
            return .status(
                DaemonStatus(snapshot, jobs: desk?.live().map { JobLine($0, now: now) } ?? [], started: started))
        case .provision(let uuid, let dn):
            guard let uuid = EntryUUID(text: uuid) else {
                throw CommandFailure("\(uuid) is no entryUUID", cure: "see the daemon's log")
            }
            return .provisioned(await engine.provision(AccountKey(uuid: uuid, dn: try DN(parsing: dn)))?.rawValue)
        case .jobs(let query): return .jobs(try await catalog.list(query))
        case .theseJobs(let ids):
            return .jobs(JobList(lines: try await catalog.lines(of: ids.map { JobID($0) })))
        case .job(let id): return .job(try await catalog.details(JobID(id)))
        case .cancel(let id): return .cancelled(try theDesk.cancel(JobID(id)))
        case .run(let name): return .asked([try await theDesk.run(name).number])
        case .backup(let level, let accounts):
            // Jobs wait for a directory that is away; nobody at a terminal is to.
            try await CommandFailure.translating { try await engine.reachDirectory() }
            return .asked(try await theDesk.backup(level, accounts: accounts).map(\.number))
        case .scripts: return .scripts(try await theDesk.scripts())
        case .restartScripts: return .restarted(try await theDesk.restartHandlers())
        }
    }

    private var catalog: JobCatalog { JobCatalog(desk: desk, history: desk?.history) }

    private var theDesk: any JobDesk {
        get throws {
            guard let desk else {
                throw CommandFailure("this daemon runs no such jobs", cure: "restart it: it may be of another version")
            }
            return desk
        }
    }
}

extension DaemonStatus {
    init(_ snapshot: EngineSnapshot, jobs: [JobLine], started: WallTime) {
        func text(_ time: WallTime) -> String { ProvisioningTimestamp(time).description }
        self.init(
            pid: getpid(), version: Version.description, since: text(started),
            isDirectoryAvailable: snapshot.isDirectoryAvailable,
            running: snapshot.running.map {
                Running(
                    job: $0.job.number, uuid: $0.key.uuid.description, dn: $0.key.dn.description,
                    operation: $0.operation.rawValue, attempt: $0.attempt, step: $0.step, since: text($0.started))
            },
            retrying: snapshot.retrying.map {
                Retrying(
                    job: $0.record.job.number, uuid: $0.key.uuid.description, dn: $0.key.dn.description,
                    attempt: $0.record.attempt, next: text($0.record.notBefore), failure: "\($0.record.failure)")
            },
            jobs: jobs, waiting: snapshot.waiting, nextDue: snapshot.nextDue.map(text), succeeded: snapshot.succeeded,
            failed: snapshot.failed)
    }
}
