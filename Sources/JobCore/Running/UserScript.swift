public import SystemPackage

/// A user's own script as a job (specification: rows.md L1): what is run, as whom, and how its end is read.
///
/// The job runs exactly as long as the script and its session live. The script is checked just before each start (specification: rows.md L2).
public struct UserScript: Hashable, Sendable {
    /// The name under which it is asked for.
    public var name: String
    /// Its absolute path.
    public var path: FilePath
    /// How long it may run.
    public var timeLimit: Duration
    /// How long it may take to leave after SIGTERM.
    public var grace: Duration
    /// How its exit codes are read.
    public var profile: ExitProfile
    /// 1 is more urgent than 10.
    public var priority: Int
    /// The login name of the user as whom it runs; nil: as the daemon.
    public var user: String?
    /// What it finds in its environment besides what is said of the job: at least PATH.
    public var environment: [String: String]
    /// How often and after which waits it is tried again when its exit code asks for it.
    public var retry: RetryPolicy
    /// What becomes of the job when the daemon ends before the script does.
    public var interruption: InterruptionPolicy

    /// A script as the settings declare it.
    public init(
        name: String, path: FilePath, timeLimit: Duration = HookSettings.longestTime, grace: Duration = .seconds(10),
        profile: ExitProfile = .lightsOutServer, priority: Int = Job.usualPriority, user: String? = nil,
        environment: [String: String] = [:], retry: RetryPolicy,
        interruption: InterruptionPolicy = .repeats
    ) {
        self.name = name
        self.path = path
        self.timeLimit = timeLimit
        self.grace = grace
        self.profile = profile
        self.priority = priority
        self.user = user
        self.environment = environment
        self.retry = retry
        self.interruption = interruption
    }

    /// A job that runs it.
    public var request: JobRequest {
        JobRequest(
            type: .admin, name: name, subject: JobSubject("job \(name)"), client: name, priority: priority,
            retry: retry, interruption: interruption,
            work: { try await run(in: $0) })
    }

    @MainActor private func run(in attempt: RunningAttempt) async throws -> JobOutcome {
        let user: ScriptUser?
        do {
            try await FileTrust.checkInBackground(path)
            user = if let name = self.user { try await ScriptUser.named(name) } else { nil }
        } catch let error as FileTrustError {
            return JobOutcome(.wrongConfiguration, failureClass: .configuration, message: "SCRIPT is refused: \(error)")
        } catch let error as ScriptUserError {
            return JobOutcome(.wrongConfiguration, failureClass: .configuration, message: "RUN_AS: \(error)")
        }
        let invocation = ScriptInvocation(
            executable: path, environment: environment, timeLimit: timeLimit, grace: grace, user: user)
        do throws(ScriptError) {
            let reading = try await attempt.run(invocation, profile: profile).reading
            return JobOutcome(reading, message: reading.result == .success ? "" : "\(path): \(reading)")
        } catch {
            return JobOutcome(
                error.failureClass == .configuration ? .wrongConfiguration : .failed, failureClass: error.failureClass,
                message: "\(error)")
        }
    }
}
