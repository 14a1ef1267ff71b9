package import LDAP
import JobCore
package import Provisioning
import SystemPackage

/// Provisions anything kept in LDAP: add, modify and delete are nothing but three scripts of the site.
///
/// The contract with a script:
/// - It is run as `SCRIPT NAME`, never through a shell. NAME is the entry's `uid` where it has just one, else the first value of its
///   relative name: 1 to 255 bytes of text without control characters that begins with no hyphen. It may hold `/`.
/// - Its environment is PROV_ACTION (add, modify, delete), PROV_JOB_ID, PROV_ATTEMPT, PROV_DN, what the reporter needs, PATH, LANG and LC_ALL,
///   and for each attribute that the settings name the variables that ``EntryVariables`` tells of; nothing else.
/// - It must bring about a state: after a failure or a crash the same operation is run again.
/// - Its exit code is read by the exit profile of the settings. Success and warnings: done. A code that may be retried: another attempt.
///   1 to 7 of the profile `provisioning`: that code on the entry. Everything else, a signal and running out of time included: code 1.
///
/// An operation without a script is a success, and nothing is done.
/// Diagnostics: code 1 for an entry whose name or values cannot be handed over, code 3 for a script that is not there, cannot be started or
/// could be written by others.
package struct ScriptService: ProvisioningService {
    /// The settings.
    package let configuration: ScriptServiceConfiguration
    private let problem: ProvisioningFailure?

    /// A service of these settings.
    package init(configuration: ScriptServiceConfiguration) {
        self.configuration = configuration
        problem = configuration.problem.map {
            ProvisioningFailure(.undefinedError, .configuration, reason: $0.reason, hint: $0.hint)
        }
    }

    /// What a plan reads of an entry.
    package var requestedAttributes: [AttributeName] { [EntryName.attribute] + configuration.attributes }

    /// - Throws: `ProvisioningFailure`, see the type's diagnostics.
    package func plan(_ request: ProvisioningRequest) async throws(ProvisioningFailure) -> [any ProvisioningStep] {
        if let problem { throw problem }
        guard let script = configuration.script(for: request.operation) else {
            return [NothingStep(operation: request.operation)]
        }
        let step = try ScriptStep(script: script, request: request, configuration: configuration)
        do {
            try await step.checkPermissions()
        } catch let failure as ProvisioningFailure {
            throw failure
        } catch {
            throw ProvisioningFailure(.undefinedError, reason: "\(error)", hint: "report this as a bug, with the log")
        }
        return [step]
    }
}

/// Says that there is nothing to do, so that a dry run shows why.
struct NothingStep: ProvisioningStep {
    let operation: Operation
    var name: String { "no script" }
    var preview: String { "nothing: \(operation.setting) is empty" }
    func perform(in attempt: RunningAttempt) async throws {}
}
