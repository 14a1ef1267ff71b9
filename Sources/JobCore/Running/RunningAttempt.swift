import Glibc
import Synchronization
import SystemPackage

/// A running attempt of a job: runs the programs and steps of the work.
///
/// Its programs can be followed while they run, can report on the job, and are in its history.
@MainActor public final class RunningAttempt {
    /// The job, with the level it has now.
    public nonisolated let job: Job
    /// 1 for the first.
    public nonisolated let number: Int
    /// The environment of every program of the job: PROV_JOB_ID, PROV_ATTEMPT, and if it can report PROV_REPORT_SOCKET
    /// and PROV_JOB_TOKEN.
    public nonisolated let environment: [String: String]

    /// The variable with the socket for reports. The next daemon also finds leftover processes of this one by it.
    public nonisolated static let reportSocketVariable = "PROV_REPORT_SOCKET"

    let executor: JobExecutor
    private var registry: JobRegistry { executor.registry }
    private var clock: any WallClock { executor.clock }
    /// The program that was run within the current step; nil: there is no current step.
    private var underWay: Job.Program??

    package init(_ job: Job, number: Int, token: JobToken, _ executor: JobExecutor) {
        self.job = job
        self.number = number
        self.executor = executor
        var environment = ["PROV_JOB_ID": "\(job.id)", "PROV_ATTEMPT": "\(number)"]
        if let reportSocket = executor.reportSocket {
            environment[Self.reportSocketVariable] = reportSocket
            environment["PROV_JOB_TOKEN"] = token.text
        }
        self.environment = environment
    }

    /// The open jobs with the same subject; this job is one of them.
    public var openJobs: [Job] { registry.live(with: job.subject) }

    /// Adds lines to the report of the job.
    public func write(_ text: String) { registry.write(text, to: job.id, source: .daemon) }

    /// - Parameter percent: clamped to 0…100.
    public func progress(_ percent: Int) { registry.progress(job.id, percent) }

    /// Does work as a step; the first program that is run within belongs to it.
    /// - Throws: the error of the work; the step is recorded as failed.
    public func step<Value>(
        _ name: String, _ work: @MainActor () async throws -> Value
    ) async throws -> Value {
        registry.step(job.id, name)
        let began = clock.now
        let start = ContinuousClock.now
        var result = JobResult.failed
        underWay = .some(nil)
        defer {
            let run = underWay ?? nil
            underWay = nil
            registry.step(job.id, nil)
            ended(name, began: began, start, result, run)
        }
        let value = try await work()
        result = .success
        return value
    }

    /// Runs a program. The caller checks whether it can be trusted: ``FileTrust/checkInBackground(_:as:)``.
    /// - Parameters:
    ///   - name: of a step for it; nil: it belongs to the current step.
    ///   - profile: the meaning of its exit codes and reports.
    ///   - live: gets the output as it comes; one for each run.
    /// - Throws: ``ScriptError`` when it could not be started.
    public func run(
        _ invocation: ScriptInvocation, step name: String? = nil, profile: ExitProfile, live: LiveOutput = LiveOutput()
    ) async throws(ScriptError) -> (result: ScriptResult, reading: ExitReading) {
        var invocation = invocation
        invocation.environment.merge(environment) { _, ours in ours }
        let name = name ?? invocation.executable.lastComponent?.string ?? invocation.executable.string
        let isWithinStep = underWay == .some(nil)
        if !isWithinStep { registry.step(job.id, name) }
        registry.programRuns(job.id, output: live, profile: profile, user: invocation.user?.uid)
        let began = clock.now
        let start = ContinuousClock.now
        let identity = Mutex<ScriptFingerprint?>(nil)
        var run = Job.Program(arguments: [invocation.executable.string] + invocation.arguments)
        var result = JobResult.failed
        defer {
            registry.programEnded(job.id)
            if let file = identity.withLock(\.self) { run.note(file) }
            if isWithinStep {
                underWay = .some(run)
            } else {
                registry.step(job.id, nil)
                self.ended(name, began: began, start, result, run)
            }
        }
        do throws(ScriptError) {
            let ended = try await executor.runner.run(invocation, live: live) { [path = invocation.executable] in
                let found = ScriptFingerprint(of: path)
                identity.withLock { $0 = found }
            }
            run.note(ended)
            let reading = profile.reading(of: ended)
            result = reading.result
            if !ended.leftovers.isEmpty {
                let names = ended.leftovers.joined(separator: ", ")
                let warning = "\(invocation.executable) left processes behind, which were ended: \(names)"
                write(warning)
                executor.notice(CoreNotice(.warning, warning, job: job.id))
            }
            return (ended, reading)
        } catch {
            run.refusal = "\(error)"
            write("\(name): \(error)")
            throw error
        }
    }

    /// Runs a pre or post script if it exists and can be trusted. Cancelling the task stops it, and it counts as failed.
    /// - Parameter name: of its step.
    func run(
        hook name: String, _ path: FilePath, _ arguments: [String], _ policy: JobPolicy
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
            timeLimit: policy.timeLimit, grace: policy.grace)
        registry.hookBegins(job.id)
        do throws(ScriptError) {
            let (_, exit) = try await run(invocation, step: name, profile: .posix)
            let reported = registry.hookEnded(job.id)
            let reading = reported.map(exit.heavier) ?? exit
            guard !reading.result.isSuccess else { return HookEnd(status: .successful) }
            let message = "\(name) \(path): " + (reading == exit ? "\(exit)" : "it reported: \(reading.title)")
            write(message)
            return HookEnd(status: .failed, failureClass: reading.failureClass, message: message)
        } catch {
            _ = registry.hookEnded(job.id)
            return HookEnd(status: .failed, failureClass: error.failureClass, message: "\(name): \(error)")
        }
    }

    private func ended(
        _ name: String, began: Timestamp, _ start: ContinuousClock.Instant, _ result: JobResult, _ program: Job.Program?
    ) {
        registry.stepEnded(
            job.id,
            Job.Step(
                name: name, attempt: number, began: began, seconds: (ContinuousClock.now - start).seconds,
                result: result, script: program))
    }
}

/// How a pre or post script ended, and why.
struct HookEnd: Hashable, Sendable {
    var status: ScriptStatus
    /// Whether a retry may help if the job is left out because of it.
    var failureClass: FailureClass?
    /// The error and its hint; empty if there was none.
    var message = ""
}

/// Proves that a report comes from the job's own script: 128 random bits in hexadecimal, for one attempt.
package struct JobToken: Hashable, Sendable {
    let text: String
    /// The user of the job's script; nil: the daemon's.
    var user: UInt32?

    package init() {
        var generator = SystemRandomNumberGenerator()
        let halves = (0..<2).map { _ in String(generator.next() as UInt64, radix: 16) }
        text = halves.map { String(repeating: "0", count: 16 - $0.count) + $0 }.joined()
    }

    /// Whether a process of this user may report: the script's user, the daemon's, and root.
    func allows(_ peer: UInt32) -> Bool { peer == 0 || peer == geteuid() || peer == user }
}
