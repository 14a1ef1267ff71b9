import EventLoop
import JobCore
import Provisioning
import SystemPackage

/// Runs the site's home script (specification: contracts.md#home-script): `SCRIPT UID HOME UIDNUMBER GIDNUMBER`, without a shell.
///
/// The environment holds only the variables of `invocation` and of ``BackupConfiguration/baseEnvironment``.
/// Errors: code 5 for every end but exit code 0, with the end of the output; exit code 75 is retryable.
struct HomeScriptStep: ProvisioningStep {
    let script: FilePath
    let account: BackupAccount
    let home: HomePath
    let request: ProvisioningRequest
    let configuration: BackupConfiguration
    /// Why it runs, for the dry run.
    let occasion: String
    /// Whether the step is the plan's first, so that nothing changes between the plan, which has checked the script, and the step.
    let isFirst: Bool

    let name = "home script"

    var preview: String {
        let invocation = invocation
        return "because \(occasion)\n"
            + ([script.string] + invocation.arguments).commandText(environment: invocation.environment)
    }

    private var invocation: ScriptInvocation {
        let uidNumber = String(account.uidNumber)
        let gidNumber = String(account.gidNumber)
        var environment = configuration.baseEnvironment
        environment["PROV_ACTION"] = request.operation.rawValue
        environment["PROV_JOB_ID"] = "\(request.job)"
        environment["PROV_ATTEMPT"] = String(request.attempt)
        environment["PROV_DN"] = "\(account.dn)"
        environment["PROV_UID"] = account.uid
        environment["PROV_HOME"] = home.text
        environment["PROV_UID_NUMBER"] = uidNumber
        environment["PROV_GID_NUMBER"] = gidNumber
        // 0: no limit.
        environment["PROV_QUOTA_BYTES"] = "\(account.quota ?? 0)"
        environment["PROV_REPORT_SOCKET"] = configuration.reportSocket
        // Whether the script gives directories to the account: account or none.
        environment["PROV_OWNERSHIP"] = configuration.ownership.rawValue
        return ScriptInvocation(
            executable: script, arguments: [account.uid, home.text, uidNumber, gidNumber], environment: environment,
            timeLimit: configuration.scriptTimeout, grace: configuration.scriptGrace)
    }

    func perform(in attempt: RunningAttempt) async throws {
        // The script may remove the home.
        if request.operation == .delete { try await request.demandUnique() }
        if !isFirst {
            try await BlockingWork.run { [script] () throws(ProvisioningFailure) in try Self.checkPermissions(script) }
        }
        let result = try await attempt.run(
            invocation, profile: .provisioning, code: .cannotCreateHomeDir,
            hint: "correct HOME_SCRIPT, or the script's first line")
        guard let complaint = result.complaint else { return }
        throw ProvisioningFailure(
            .cannotCreateHomeDir, ExitProfile.provisioning.reading(of: result).failureClass ?? .permanent,
            reason: "\(script) \(request.operation) \(account.uid) \(complaint)",
            hint: result.failureHint(limit: "SCRIPT_TIMEOUT", job: request.job),
            output: result.outputTail)
    }

    /// - Throws: code 5, class configuration, for a script that others could write.
    static func checkPermissions(_ script: FilePath) throws(ProvisioningFailure) {
        try FileTrust.demand(script, setting: "HOME_SCRIPT", code: .cannotCreateHomeDir)
    }
}
