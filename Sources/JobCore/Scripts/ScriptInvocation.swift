public import SystemPackage

/// What is to be run, whole: nothing is inherited, nothing passes through a shell.
public struct ScriptInvocation: Hashable, Sendable {
    /// The program's absolute path; it is also argument 0.
    public var executable: FilePath
    /// Arguments after argument 0, each handed over as it is. None may hold a NUL.
    public var arguments: [String]
    /// The whole environment of the program.
    public var environment: [String: String]
    /// An absolute path.
    public var workingDirectory: FilePath
    /// How long it may run before its session is ended.
    public var timeLimit: Duration
    /// How long it may take to leave after SIGTERM before SIGKILL.
    public var grace: Duration
    /// As whom it runs; nil: as this process.
    public var user: ScriptUser?

    /// - Parameters:
    ///   - environment: nothing is added to it: without PATH a shell has its own idea of one.
    ///   - timeLimit: from the start; negative counts as zero.
    ///   - grace: from SIGTERM; negative counts as zero.
    public init(
        executable: FilePath, arguments: [String] = [], environment: [String: String] = [:],
        workingDirectory: FilePath = "/", timeLimit: Duration, grace: Duration
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.timeLimit = timeLimit
        self.grace = grace
    }
}
