/// What the end of a program means, with what the kernel said of it.
public struct ExitReading: Hashable, Sendable {
    /// What the end says of the work.
    public var result: JobResult
    /// What another try can be expected to bring; nil after a success.
    public var failureClass: FailureClass?
    /// The raw exit code or signal.
    public var termination: ScriptResult.Termination
    /// What the profile calls the code.
    public var title: String
    /// The profile's name.
    public var profile: String

    init(
        _ result: JobResult, _ failureClass: FailureClass?, _ termination: ScriptResult.Termination, title: String,
        profile: String
    ) {
        self.result = result
        self.failureClass = failureClass
        self.termination = termination
        self.title = title
        self.profile = profile
    }
}

extension ExitReading: CustomStringConvertible {
    /// `failed (exit code 9, profile posix)`
    public var description: String { "\(title) (\(termination), profile \(profile))" }
}

extension ScriptResult.Termination: CustomStringConvertible {
    /// `exit code 9` or `signal 15`
    public var description: String {
        switch self {
        case .exited(let code): "exit code \(code)"
        case .signaled(let number): "signal \(number)"
        }
    }
}
