import JobCore
import Provisioning

/// Brings an account's snapshots to where the setting SNAPSHOTS wants them, and has its home show them or not.
struct SnapshotStoreStep: ProvisioningStep {
    let store: SnapshotStore
    let access: SnapshotAccess
    let name = "snapshots"
    /// What is to be done, as far as it was known when the plan was made.
    let calls: [SnapshotStore.Call]

    /// - Parameters:
    ///   - condition: as it is when the plan is made; nil where there is no whole home yet.
    init(store: SnapshotStore, access: SnapshotAccess, condition: SnapshotStore.Condition?) {
        self.store = store
        self.access = access
        let condition = condition ?? .init(isInStore: false, point: .absent)
        calls = SnapshotStore.calls(from: condition, to: access, moves: true)
    }

    var preview: String {
        calls.isEmpty ? "as SNAPSHOTS says" : calls.map(store.text).joined(separator: "\n")
    }

    func perform(in attempt: RunningAttempt) async throws {
        let (store, access) = (store, access)
        try await BlockingWork.run { _ in try store.settle(access) }
    }
}
