/// The exit codes of provisioning: on the entry as ReturnValue, and the status of a one-shot run (specification, section 2).
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
