import DaemonKit
import DirectoryModel
import Glibc
import JobCore
import Provisioning

/// Answers what comes over the control socket.
struct ControlHandler: Sendable {
    let engine: Engine
    let started: WallTime

    func answer(_ request: ControlRequest) async -> ControlReply {
        do {
            return try ControlReply(encoding: await reply(to: try request.decode(DaemonRequest.self)))
        } catch {
            return .refusal("the request is not understood: \(error)")
        }
    }

    private func reply(to request: DaemonRequest) async -> DaemonReply {
        switch request {
        case .status:
            return .status(DaemonStatus(await engine.snapshot(), started: started))
        case .provision(let uuid, let dn):
            do {
                guard let uuid = EntryUUID(text: uuid) else { return .refused("\(uuid) is no entryUUID") }
                let key = AccountKey(uuid: uuid, dn: try DN(parsing: dn))
                return .provisioned(await engine.provision(key)?.rawValue)
            } catch {
                return .refused("\(error)")
            }
        }
    }
}

extension DaemonStatus {
    init(_ snapshot: EngineSnapshot, started: WallTime) {
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
            waiting: snapshot.waiting, nextDue: snapshot.nextDue.map(text), succeeded: snapshot.succeeded,
            failed: snapshot.failed)
    }
}
