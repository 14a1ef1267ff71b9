import EventLoop
import JobCore
import LDAP

extension AccountReconciler {
    /// Prints the plan for an account, as lines of text.
    func printPlan(
        _ decision: Decision, _ account: Account, to output: @Sendable (String) -> Void
    ) async throws -> ReconcileResult {
        let status = account.status
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
            await output(plan(operation, account, claims: true))
        case .resume(let operation):
            await output(plan(operation, account, claims: false))
        }
        return .done
    }

    private func plan(_ operation: Operation, _ account: Account, claims: Bool) async -> String {
        var lines = ["\(account.status.dn): \(operation)\(claims ? "" : " (resumed)")"]
        if claims { lines.append("  claim: \(EntryWrite.claim(account.status, holder: nil, names: names))") }
        do {
            let request = ProvisioningRequest(
                operation: operation, entry: account.entry, job: JobID(0), attempt: claims ? 1 : 2)
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
