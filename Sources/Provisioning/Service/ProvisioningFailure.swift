public import JobCore
package import SystemPackage

/// Why an account could not be provisioned: what goes onto the entry, and what the operator reads.
public struct ProvisioningFailure: Error, Hashable, Sendable {
    /// What goes onto the entry.
    public var code: ProvisioningExitCode
    /// Whether another try may help.
    public var failureClass: FailureClass
    /// What was wrong and where: a DN and attribute, a path component, a program and its exit status.
    public var reason: String
    /// The command or setting that mends it.
    public var hint: String
    /// The last output of a program that failed; empty where there was none.
    public var output: String

    /// A failure is permanent unless said otherwise.
    public init(
        _ code: ProvisioningExitCode, _ failureClass: FailureClass = .permanent, reason: String, hint: String,
        output: String = ""
    ) {
        self.code = code
        self.failureClass = failureClass
        self.reason = reason
        self.hint = hint
        self.output = output
    }
}

extension ProvisioningFailure: CustomStringConvertible {
    /// Reason, code and hint in one line.
    public var description: String { "\(reason) (\(code.name), \(code.rawValue)); \(hint)" }
}

/// The exit codes of provisioning: on the entry as ReturnValue, and the status of a one-shot run (specification: contracts.md#provisioning-codes).
public enum ProvisioningExitCode: Int32, CaseIterable, Hashable, Sendable {
    case success = 0
    /// Anything not listed.
    case undefinedError = 1
    /// The entry has gone, or the system's user database does not know the account.
    case userNotPresentInBackend = 2
    /// A runtime requirement is not satisfied: a program is missing or too old. The old name keeps its spelling.
    case runtimeRequirementNotSatisfied = 3
    case cannotCheckHomeDirPresence = 4
    case cannotCreateHomeDir = 5
    case cannotSetQuota = 6
    case cannotCreateRsnapshotConfiguration = 7

    /// The name by which the old programs know the code.
    public var name: String {
        switch self {
        case .success: "SUCCESS"
        case .undefinedError: "UNDEFINED_ERROR"
        case .userNotPresentInBackend: "USER_NOT_PRESENT_IN_BACKEND"
        case .runtimeRequirementNotSatisfied: "PERL_VERSION_NOT_STATISFIED"
        case .cannotCheckHomeDirPresence: "CANNOT_CHECK_HOME_DIR_PRESENCE"
        case .cannotCreateHomeDir: "CANNOT_CREATE_HOME_DIR"
        case .cannotSetQuota: "CANNOT_SET_QUOTA"
        case .cannotCreateRsnapshotConfiguration: "CANNOT_CREATE_RSNAPSHOT_CONFIGURATION"
        }
    }
}

extension ExitProfile {
    /// The codes of provisioning, by which a home script's end is read; 75 asks for another try.
    public static let provisioning = ExitProfile(name: "provisioning", codes: ProvisioningExitCode.allCases) { code in
        Meaning(code == .success ? .success : .failed, title: code.name)
    }
}

extension FileTrust {
    /// Refuses what others could change (specification: rows.md L2). It waits for the file systems it looks at.
    /// - Parameters:
    ///   - setting: the key of the settings that names it, or a program's name.
    ///   - code: that of the failure.
    /// - Throws: class configuration, or shortage where the machine could not look at it.
    package static func demand(
        _ path: FilePath, as kind: Kind = .program, setting: String, code: ProvisioningExitCode
    ) throws(ProvisioningFailure) {
        do {
            try check(path, as: kind)
        } catch {
            throw ProvisioningFailure(
                code, error.failureClass, reason: "\(setting) is refused: \(error.finding)",
                hint: error.isAbsent ? "put it there, or correct \(setting)" : error.hint)
        }
    }
}

extension RunningAttempt {
    /// Runs a program for an account, as the step that is under way.
    /// - Parameters:
    ///   - code: that of the failure when it cannot be started.
    ///   - hint: what mends that.
    /// - Throws: `ProvisioningFailure` when it could not be started, `CancellationError` when the daemon stops.
    package func run(
        _ invocation: ScriptInvocation, profile: ExitProfile = .posix, code: ProvisioningExitCode, hint: String
    ) async throws -> ScriptResult {
        let result: ScriptResult
        do throws(ScriptError) {
            result = try await run(invocation, profile: profile).result
        } catch {
            if error.code == .cancelled { throw CancellationError() }
            guard error.failureClass == .shortage else {
                throw ProvisioningFailure(code, error.failureClass, reason: "\(error)", hint: hint)
            }
            throw ProvisioningFailure(code, .shortage, reason: error.finding, hint: error.hint)
        }
        if result.cause == .cancellation { throw CancellationError() }
        return result
    }
}
