import EventLoop
import JobCore
import LDAP

extension AccountReconciler {
    /// Prints the plan for an account, as lines of text.
    func printPlan(
        _ decision: Decision, _ status: AccountStatus, _ entry: Entry, to output: @Sendable (String) -> Void
    ) async throws -> ReconcileResult {
        switch decision {
        case .leave: break
        case .wait(let start):
            output("\(status.dn): waits until \(start.text)")
            return .requeue(at: start)
        case .waitForClock:
            output("\(status.dn): waits until the machine's clock can be relied on")
        case .refuse(let failure):
            output("\(status.dn): would be refused: \(failure)")
        case .claim(let operation):
            await output(plan(operation, status, entry, claims: true))
        case .resume(let operation):
            await output(plan(operation, status, entry, claims: false))
        }
        return .done
    }

    private func plan(
        _ operation: Operation, _ status: AccountStatus, _ entry: Entry, claims: Bool
    ) async -> String {
        var lines = ["\(status.dn): \(operation)\(claims ? "" : " (resumed)")"]
        if claims { lines.append("  claim: \(EntryWrite.claim(status, holder: nil, names: policy.names))") }
        do {
            let request = ProvisioningRequest(
                operation: operation, entry: entry, job: JobID(0), attempt: claims ? 1 : 2)
            for step in try await service.plan(request) {
                lines.append("  \(step.name):")
                let preview = await BlockingWork.run { step.preview }
                lines += preview.split(separator: "\n", omittingEmptySubsequences: false).map { "    \($0)" }
            }
            lines.append("  outcome: \(ProvisioningMode(operation, .done))")
        } catch {
            lines.append("  would fail: \(error)")
        }
        return lines.joined(separator: "\n")
    }
}
