public import JobCore

/// Why an account could not be provisioned: what goes onto the entry, and what the operator reads.
public struct ProvisioningFailure: Error, Hashable, Sendable {
    /// What goes onto the entry.
    public var code: ProvisioningExitCode
    /// Whether another try may help.
    public var failureClass: FailureClass
    /// What was wrong and where: a DN and attribute, a path component, a program and its exit status.
    public var reason: String
    /// The command or setting that mends it.
    public var cure: String
    /// The last output of a program that failed; empty where there was none.
    public var output: String

    /// A failure is permanent unless said otherwise.
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
    /// Reason, code and cure in one line.
    public var description: String { "\(reason) (\(code.name), \(code.rawValue)); \(cure)" }
}
