import LDAP
import JobCore
import Provisioning
import Synchronization

/// A service that does what a test says, and records its calls.
final class RecordingService: ProvisioningService {
    struct Call: Hashable, Sendable {
        var uid: String
        var operation: Provisioning.Operation
        var attempt: Int
        var job: UInt64
        var quota: String?
    }

    typealias Work = @Sendable (Call) async throws -> Void

    let requestedAttributes: [AttributeName] = ["uid", "sstQuota"]
    /// No two accounts may have the same.
    let unique = Mutex<AttributeName?>(nil)
    var uniqueAttribute: AttributeName? { unique.withLock(\.self) }
    /// Another attribute whose values name the same, except for deletions.
    let alsoUnique = Mutex<AttributeName?>(nil)
    func uniqueValues(
        of entry: Entry, for operation: Provisioning.Operation
    ) -> [AttributeName: [AttributeValue]] {
        guard let unique = uniqueAttribute else { return [:] }
        guard operation != .delete, let other = alsoUnique.withLock(\.self) else { return [unique: entry[unique]] }
        return [unique: entry[unique] + entry[other], other: entry[unique]]
    }
    /// Why nothing can be locked; nil: it can.
    let lockFailure = Mutex<ProvisioningFailure?>(nil)
    /// Whether another daemon holds the lock.
    let isLocked = Mutex(false)
    private let calls = Mutex<[Call]>([])
    private let work: Mutex<Work>
    private let concurrency = Mutex((now: 0, most: 0, perAccount: [String: Int](), overlapped: false))

    init(_ work: @escaping Work = { _ in }) { self.work = Mutex(work) }

    var asked: [Call] { calls.withLock { $0 } }
    var mostAtOnce: Int { concurrency.withLock { $0.most } }
    /// Whether ever two ran at once for one account.
    var hasOverlapped: Bool { concurrency.withLock { $0.overlapped } }

    func doing(_ work: @escaping Work) { self.work.withLock { $0 = work } }

    func lock(_ entry: Entry) async throws(ProvisioningFailure) -> (any Sendable)? {
        if let failure = lockFailure.withLock(\.self) { throw failure }
        return isLocked.withLock(\.self) ? nil : ()
    }

    func plan(_ request: ProvisioningRequest) async throws(ProvisioningFailure) -> [any ProvisioningStep] {
        let call = Call(
            uid: request.entry.text("uid") ?? "", operation: request.operation, attempt: request.attempt,
            job: request.job.number, quota: request.entry.text("sstQuota"))
        return [Step(service: self, call: call, work: work.withLock { $0 }, demandUnique: request.demandUnique)]
    }

    private struct Step: ProvisioningStep {
        let service: RecordingService
        let call: Call
        let work: Work
        let demandUnique: @Sendable () async throws -> Void
        var name: String { "work" }
        var preview: String { "would work on \(call.uid)" }

        func perform(in attempt: RunningAttempt) async throws {
            service.calls.withLock { $0.append(call) }
            service.concurrency.withLock { state in
                state.now += 1
                state.most = max(state.most, state.now)
                state.perAccount[call.uid, default: 0] += 1
                if state.perAccount[call.uid, default: 0] > 1 { state.overlapped = true }
            }
            defer {
                service.concurrency.withLock { state in
                    state.now -= 1
                    state.perAccount[call.uid, default: 0] -= 1
                }
            }
            try await work(call)
            // As a service does before it removes something.
            try await demandUnique()
        }
    }
}
