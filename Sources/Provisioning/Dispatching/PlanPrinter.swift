import LDAP
import JobCore

/// Shows what would be done for an account, for a dry run.
public struct PlanPrinter: Sendable {
    private let output: @Sendable (String) -> Void

    /// - Parameter output: gets one account's plan at a time, as lines of text.
    public init(output: @escaping @Sendable (String) -> Void) { self.output = output }

    func show(
        _ decision: Decision, _ status: AccountStatus, _ entry: Entry, service: any ProvisioningService,
        names: AttributeNames
    ) async throws -> AccountTurn.Disposition {
        switch decision {
        case .leave: return .settled
        case .wait(let start):
            output("\(status.dn): waits until \(start.text)")
            return .again(at: start)
        case .waitForClock:
            output("\(status.dn): waits until the machine's clock can be relied on")
        case .refuse(let failure):
            output("\(status.dn): would be refused: \(failure)")
        case .claim(let operation):
            await output(plan(operation, status, entry, service: service, names: names, claims: true))
        case .resume(let operation):
            await output(plan(operation, status, entry, service: service, names: names, claims: false))
        }
        return .settled
    }

    private func plan(
        _ operation: Operation, _ status: AccountStatus, _ entry: Entry, service: any ProvisioningService,
        names: AttributeNames, claims: Bool
    ) async -> String {
        var lines = ["\(status.dn): \(operation)\(claims ? "" : " (resumed)")"]
        if claims { lines.append("  claim: \(EntryWrite.claim(status, holder: nil, names: names))") }
        do {
            let request = ProvisioningRequest(
                operation: operation, entry: entry, job: JobID(0), attempt: claims ? 1 : 2)
            for step in try await service.plan(request) {
                lines.append("  \(step.name):")
                lines += step.preview.split(separator: "\n", omittingEmptySubsequences: false).map { "    \($0)" }
            }
            lines.append("  outcome: \(ProvisioningMode(operation, .done))")
        } catch {
            lines.append("  would fail: \(error)")
        }
        return lines.joined(separator: "\n")
    }
}
