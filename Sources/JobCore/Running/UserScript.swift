public import SystemPackage

/// A user's own script as a job (specification: rows.md L1): the program, its user, and the meaning of its exit codes. A section `[Job NAME]`.
///
/// The job runs exactly as long as the script and its session live. The script is checked just before each start (specification: rows.md L2).
public struct UserScript: Hashable, Sendable {
    /// The name of the job.
    public var name = ""
    /// Its absolute path.
    public var path: FilePath = ""
    /// ``path`` in the settings, where it must be set.
    package var script: FilePath?
    /// When it runs; nil: only on request.
    public var schedule: CronSchedule?
    /// How long it may run.
    public var timeLimit = JobPolicy.longestTime
    /// The grace period, from SIGTERM to SIGKILL.
    public var grace = Duration.seconds(10)
    /// The meaning of its exit codes.
    public var profile = ExitProfile.lightsOutServer
    /// The name of ``profile`` in the settings.
    package var profileName = ExitProfile.lightsOutServer.name
    /// 1 is more urgent than 10.
    public var priority = Job.usualPriority
    /// The login name of its user; nil: the daemon's.
    public var user: String?
    /// Its environment besides the variables of the job: at least PATH.
    public var environment: [String: String] = [:]
    /// The number of attempts and the delays between them, when its exit code asks for another one.
    public var retry = RetryPolicy(maximumAttempts: 1, delay: .zero, maximumDelay: .zero)
    /// What follows an attempt that the end of the daemon interrupted.
    public var interruption = InterruptionPolicy.repeats

    /// A script that needs a name and a path.
    package init() {}

    /// The defaults of all else are those of the settings.
    public init(name: String, path: FilePath, environment: [String: String] = [:], retry: RetryPolicy) {
        (self.name, self.path, self.environment, self.retry) = (name, path, environment, retry)
    }

    /// A job that runs it.
    public var request: JobRequest { request { self } }

    /// A job that runs it as the settings have it when an attempt begins.
    /// - Parameter current: nil: they no longer contain it.
    package func request(_ current: @escaping @MainActor () -> UserScript?) -> JobRequest {
        JobRequest(
            type: .admin, name: name, subject: JobSubject("job \(name)"), client: name, priority: priority,
            retry: (current() ?? self).retry, interruption: interruption
        ) { attempt in
            guard let script = current() else { return Self.removed }
            return try await script.run(in: attempt)
        }
    }

    /// The end of a job whose script was removed from the settings.
    package static let removed = JobOutcome(.aborted, message: "the settings no longer contain it")

    @MainActor private func run(in attempt: RunningAttempt) async throws -> JobOutcome {
        let user: ScriptUser?
        do {
            try await FileTrust.checkInBackground(path)
            user = if let name = self.user { try await ScriptUser.named(name) } else { nil }
        } catch let error as FileTrustError {
            return JobOutcome(failed: error.failureClass, message: "SCRIPT is refused: \(error)")
        } catch let error as ScriptUserError {
            return JobOutcome(failed: error.failureClass, message: "RUN_AS: \(error)")
        }
        let invocation = ScriptInvocation(
            executable: path, environment: environment, timeLimit: timeLimit, grace: grace, user: user)
        let reading = try await attempt.run(invocation, profile: profile).reading
        return JobOutcome(reading, message: reading.result == .success ? "" : "\(path): \(reading)")
    }
}
