public import JobCore

/// Why an account could not be provisioned: what goes onto the entry, and what the operator reads.
public struct ProvisioningFailure: Error, Hashable, Sendable {
    public var code: ProvisioningExitCode
    public var failureClass: FailureClass
    /// What was wrong and where: a DN and attribute, a path component, a program and its exit status.
    public var reason: String
    /// The command or setting that mends it.
    public var cure: String
    /// The last output of a program that failed; empty where there was none.
    public var output: String

    public init(
        _ code: ProvisioningExitCode, _ failureClass: FailureClass = .permanent, reason: String, cure: String,
        output: String = ""
    ) {
        self.code = code
        self.failureClass = failureClass
        self.reason = reason
        self.cure = cure
        self.output = output
    }
}

extension ProvisioningFailure: CustomStringConvertible {
    public var description: String { "\(reason) (\(code.name), \(code.rawValue)); \(cure)" }
}
