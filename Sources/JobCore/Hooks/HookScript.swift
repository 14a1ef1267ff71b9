import Glibc
public import SystemPackage

/// How a pre or post script ended, and why.
struct HookEnd: Hashable, Sendable {
    var status: ScriptStatus
    /// Whether a retry may help if the job is left out because of it.
    var failureClass: FailureClass?
    /// The error and its hint; empty if there was none.
    var message = ""
}

extension RunningAttempt {
    /// Runs a pre or post script if it exists and can be trusted. Cancelling the task stops it, and it counts as failed.
    /// - Parameter name: of its step.
    func run(
        hook name: String, _ path: FilePath, _ arguments: [String], _ settings: HookSettings
    ) async -> HookEnd {
        do throws(FileTrustError) {
            try await FileTrust.checkInBackground(path)
        } catch {
            let message = "\(name): \(error)"
            write(message)
            switch error.problem {
            case .unreachable(.noSuchFileOrDirectory), .notExecutable:
                return HookEnd(status: .skipped, failureClass: .configuration, message: message)
            default:
                return HookEnd(status: .failed, failureClass: error.failureClass, message: message)
            }
        }
        let invocation = ScriptInvocation(
            executable: path, arguments: arguments, environment: executor.environment,
            timeLimit: settings.timeLimit, grace: settings.grace)
        do throws(ScriptError) {
            let (_, reading) = try await run(invocation, step: name, profile: .posix)
            guard !reading.result.isSuccess else { return HookEnd(status: .successful) }
            let message = "\(name) \(path): \(reading)"
            write(message)
            return HookEnd(status: .failed, failureClass: reading.failureClass, message: message)
        } catch {
            return HookEnd(status: .failed, failureClass: error.failureClass, message: "\(name): \(error)")
        }
    }
}

/// Pre and post scripts of a job type (specification: rows.md D3).
public struct HookSettings: Hashable, Sendable {
    /// The only directory in which `pre_script.sh` and `post_script.sh` are searched (specification: rows.md D2).
    public var directory: FilePath
    /// Whether the job is left out if its pre script fails or is missing.
    public var skipsJob: Bool
    /// The time limit of each script.
    public var timeLimit: Duration
    /// The grace period after SIGTERM.
    public var grace: Duration

    /// The default time limit.
    public static let longestTime = Duration.seconds(365 * 86_400)

    /// The settings of a section `[Hooks TYPE]`.
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

/// The status of a pre or post script (Druva's terms).
public enum ScriptStatus: String, CaseIterable, Hashable, Sendable, Codable {
    /// It ended with 0.
    case successful = "Successful"
    /// It ended with another code, or was stopped.
    case failed = "Failed"
    /// It is missing, or was left out.
    case skipped = "Skipped"
    /// Hooks are disabled, or nothing was reported (specification: rows.md D14).
    case notAvailable = "N/A"

    /// The number that a post script receives (specification: rows.md D4).
    public var integer: Int32 {
        switch self {
        case .successful: 0
        case .failed: 1
        case .skipped: 4
        case .notAvailable: 255
        }
    }
}
