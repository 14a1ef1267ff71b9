import Glibc
import SystemPackage

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
    func run(in attempt: RunningAttempt) async -> Ended {
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
