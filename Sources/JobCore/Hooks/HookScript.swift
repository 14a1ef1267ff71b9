import Glibc
public import SystemPackage

/// One of the two scripts around a job: whether it is there, how it is called, and what its end is worth.
struct HookScript: Sendable {
    /// What became of it, and why.
    struct Ended: Hashable, Sendable {
        var status: ScriptStatus
        /// What another try can be expected to bring where the job is left out for it.
        var failureClass: FailureClass?
        /// What was wrong and what mends it; empty when nothing was.
        var message = ""
    }

    let name: String
    let path: FilePath
    let arguments: [String]
    let settings: HookSettings
    let environment: [String: String]

    static func pre(_ settings: HookSettings, of job: Job, environment: [String: String]) -> Self {
        Self(
            name: "pre script", path: settings.preScript, arguments: ["\(job.id)"], settings: settings,
            environment: environment)
    }

    static func post(
        _ settings: HookSettings, of job: Job, pre: Int32, result: Int32, environment: [String: String]
    ) -> Self {
        Self(
            name: "post script", path: settings.postScript, arguments: ["\(job.id)", "\(pre)", "\(result)"],
            settings: settings, environment: environment)
    }

    /// Runs it, when it is there and can be trusted. Cancelling the task stops it, and it counts as failed.
    @MainActor func run(in attempt: RunningAttempt) async -> Ended {
        do throws(FileTrustError) {
            try await FileTrust.checkInBackground(path)
        } catch {
            let message = "\(name): \(error)"
            attempt.write(message)
            switch error.problem {
            case .unreachable(.noSuchFileOrDirectory), .notExecutable:
                return Ended(status: .skipped, failureClass: .configuration, message: message)
            default:
                return Ended(status: .failed, failureClass: error.failureClass, message: message)
            }
        }
        let invocation = ScriptInvocation(
            executable: path, arguments: arguments, environment: environment, timeLimit: settings.timeLimit,
            grace: settings.grace)
        do throws(ScriptError) {
            let (_, reading) = try await attempt.run(invocation, step: name, profile: .posix)
            guard !reading.result.isSuccess else { return Ended(status: .successful) }
            let message = "\(name) \(path): \(reading)"
            attempt.write(message)
            return Ended(status: .failed, failureClass: reading.failureClass, message: message)
        } catch {
            return Ended(status: .failed, failureClass: error.failureClass, message: "\(name): \(error)")
        }
    }
}

/// Pre and post scripts of a job type (specification: rows.md D3).
public struct HookSettings: Hashable, Sendable {
    /// Where `pre_script.sh` and `post_script.sh` are looked for, and nowhere else (specification: rows.md D2).
    public var directory: FilePath
    /// Whether the job is left out when its pre script fails or is not there.
    public var skipsJob: Bool
    /// How long each of the two may run.
    public var timeLimit: Duration
    /// How long they may take to leave after SIGTERM.
    public var grace: Duration

    /// Where no time limit is given: until the script is done, or a year, whichever is less.
    public static let longestTime = Duration.seconds(365 * 86_400)

    /// Settings as they stand in a section `[Hooks TYPE]`.
    public init(
        directory: FilePath, skipsJob: Bool = false, timeLimit: Duration = longestTime, grace: Duration = .seconds(10)
    ) {
        self.directory = directory
        self.skipsJob = skipsJob
        self.timeLimit = timeLimit
        self.grace = grace
    }

    /// The script that runs before the job: `pre_script.sh JOB_ID`.
    public var preScript: FilePath { directory.appending("pre_script.sh") }
    /// The script that runs after the job: `post_script.sh JOB_ID PRE_STATUS JOB_STATUS`.
    public var postScript: FilePath { directory.appending("post_script.sh") }
}

/// What became of a pre or post script (Druva's words).
public enum ScriptStatus: String, CaseIterable, Hashable, Sendable, Codable {
    /// It ended with 0.
    case successful = "Successful"
    /// It ended with another code, or was ended.
    case failed = "Failed"
    /// It is not there, or it was not its turn.
    case skipped = "Skipped"
    /// Such scripts are off, or nothing was reported (specification: rows.md D14).
    case notAvailable = "N/A"

    /// The number that a post script is given (specification: rows.md D4).
    public var integer: Int32 {
        switch self {
        case .successful: 0
        case .failed: 1
        case .skipped: 4
        case .notAvailable: 255
        }
    }
}
