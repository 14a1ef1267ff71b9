public import SystemPackage

/// A program and all that it is given: nothing passes through a shell. Umask and resource limits are those of this process, and so is the user
/// unless one is given here.
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
    /// As whom it runs; nil: as this process. With a user, the environment may hold none of the dynamic loader's variables (`LD_…`).
    public var user: ScriptUser?
    /// Whether descriptors 3 and 4 are the writing end of a pipe, whose contents are ``ScriptResult/reports``.
    ///
    /// They are read when the program has ended: it must not write more than the pipe holds (64 KiB).
    public var hasReports: Bool
    /// Whether it is started by a thread that lives as long as this process. A program that asks the kernel for a signal at its
    /// parent's death (PR_SET_PDEATHSIG) gets it when the thread that started it ends. Below an init process it is killed when this process ends.
    public var isTiedToProcess: Bool

    /// - Parameters:
    ///   - environment: nothing is added to it: without PATH a shell has its own idea of one.
    ///   - timeLimit: from the start; negative counts as zero.
    ///   - grace: from SIGTERM; negative counts as zero.
    public init(
        executable: FilePath, arguments: [String] = [], environment: [String: String] = [:],
        workingDirectory: FilePath = "/", timeLimit: Duration, grace: Duration,
        user: ScriptUser? = nil, hasReports: Bool = false, isTiedToProcess: Bool = false
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.timeLimit = timeLimit
        self.grace = grace
        self.user = user
        self.hasReports = hasReports
        self.isTiedToProcess = isTiedToProcess
    }
}
