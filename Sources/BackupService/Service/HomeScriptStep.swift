import EventLoop
import JobCore
import Logging
import Provisioning
import SystemPackage

/// Runs the site's chroot/home script (specification: contracts.md#home-script): `SCRIPT UID HOME UIDNUMBER GIDNUMBER`, never through a shell.
///
/// Environment: PROV_ACTION (add, modify, delete), PROV_JOB_ID, PROV_ATTEMPT, PROV_DN, PROV_UID, PROV_HOME, PROV_UID_NUMBER,
/// PROV_GID_NUMBER, PROV_QUOTA_BYTES (0: no limit), PROV_REPORT_SOCKET, PROV_OWNERSHIP (account, none: whether the script is to give
/// directories to the account), PATH, LANG and LC_ALL; nothing else.
/// Diagnostics: code 5 for everything but exit code 0, with the end of the output; exit code 75 is worth another try.
struct HomeScriptStep: ProvisioningStep {
    let script: FilePath
    let account: BackupAccount
    let home: HomePath
    let request: ProvisioningRequest
    let configuration: BackupConfiguration
    /// Why it runs, for the dry run.
    let occasion: String

    var name: String { "home script" }

    var preview: String {
        let invocation = invocation
        return "because \(occasion)\n"
            + "\(CommandText([script.string] + invocation.arguments, environment: invocation.environment))"
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
        environment["PROV_QUOTA_BYTES"] = "\(account.quota ?? ByteCount(0))"
        environment["PROV_REPORT_SOCKET"] = configuration.reportSocket
        environment["PROV_OWNERSHIP"] = configuration.ownership.rawValue
        return ScriptInvocation(
            executable: script, arguments: [account.uid, home.text, uidNumber, gidNumber], environment: environment,
            timeLimit: configuration.scriptTimeout, grace: configuration.scriptGrace)
    }

    func perform(in attempt: RunningAttempt) async throws {
        // A site's script may remove the home.
        if request.operation == .delete { try await request.demandUnique() }
        let script = script
        try await BlockingWork.run { _ in try Self.checkPermissions(script) }
        let result = try await attempt.run(
            invocation, profile: .provisioning, code: .cannotCreateHomeDir,
            hint: "correct HOME_SCRIPT, or the script's first line")
        guard let complaint = result.complaint else { return }
        throw ProvisioningFailure(
            .cannotCreateHomeDir, ExitProfile.provisioning.reading(of: result).failureClass ?? .permanent,
            reason: "\(script) \(request.operation) \(account.uid) \(complaint)",
            hint: result.cause == .timeLimit
                ? "fix what the script waits for, or raise SCRIPT_TIMEOUT"
                : "fix what its output names; it can be run by hand with the arguments that a dry run shows",
            output: result.outputTail)
    }

    /// - Throws: code 5, class configuration, for a script that others could write.
    static func checkPermissions(_ script: FilePath) throws(ProvisioningFailure) {
        try FileTrust.demand(script, setting: "HOME_SCRIPT", code: .cannotCreateHomeDir)
    }
}
