import Glibc

/// One try of a job while it runs: what the job's work is done with.
///
/// Programs that are run through it can be followed while they run, can report on the job, and stand in its history.
public final class RunningAttempt: Sendable {
    /// The job, with the level it has now.
    public let job: Job
    /// 1 for the first.
    public let number: Int
    /// What every program of the job finds in its environment: PROV_JOB_ID, PROV_ATTEMPT, and where it can report PROV_REPORT_SOCKET
    /// and PROV_JOB_TOKEN.
    public let environment: [String: String]

    private let board: JobBoard
    private let runner: ScriptRunner
    private let clock: any WallClock

    init(
        _ job: Job, number: Int, token: JobToken, reportSocket: String?, board: JobBoard, runner: ScriptRunner,
        clock: any WallClock
    ) {
        self.job = job
        self.number = number
        self.board = board
        self.runner = runner
        self.clock = clock
        var environment = ["PROV_JOB_ID": "\(job.id)", "PROV_ATTEMPT": "\(number)"]
        if let reportSocket {
            environment["PROV_REPORT_SOCKET"] = reportSocket
            environment["PROV_JOB_TOKEN"] = token.text
        }
        self.environment = environment
    }

    /// Adds lines to the job's report.
    public func write(_ text: String) { board.write(text, to: job.id, source: .daemon) }

    /// - Parameter percent: out of range counts as the nearest in range.
    public func progress(_ percent: Int) { board.progress(job.id, percent) }

    /// Does work that needs no program, as a step.
    /// - Throws: what the work throws; the step then counts as failed.
    public func step<Value: Sendable>(
        _ name: String, isolation: isolated (any Actor)? = #isolation, _ work: () async throws -> Value
    ) async throws -> Value {
        board.step(job.id, name)
        let began = clock.now
        let start = ContinuousClock.now
        var result = JobResult.failed
        defer {
            board.step(job.id, nil)
            board.record(
                .stepEnded(
                    JobStep(
                        name: name, attempt: number, began: began, duration: ContinuousClock.now - start, result: result
                    )), of: job.id)
        }
        let value = try await work()
        result = .success
        return value
    }

    /// Runs a program as a step. Whether it can be trusted is for the caller to check.
    /// - Parameter profile: by which its end is read, and what it reports.
    /// - Throws: ``ScriptError`` when it could not be started.
    public func run(
        _ invocation: ScriptInvocation, step name: String, profile: ExitProfile
    ) async throws(ScriptError) -> (result: ScriptResult, reading: ExitReading) {
        var invocation = invocation
        invocation.environment.merge(environment) { _, ours in ours }
        let live = LiveOutput()
        board.step(job.id, name)
        board.programRuns(job.id, output: live, profile: profile, user: invocation.user?.uid)
        let began = clock.now
        let start = ContinuousClock.now
        var run = ScriptRun(
            identity: await ScriptFingerprint.identity(of: invocation.executable),
            arguments: [invocation.executable.string] + invocation.arguments)
        var result = JobResult.failed
        defer {
            board.programEnded(job.id)
            board.step(job.id, nil)
            board.record(
                .stepEnded(
                    JobStep(
                        name: name, attempt: number, began: began, duration: ContinuousClock.now - start,
                        result: result, script: run)), of: job.id)
        }
        do throws(ScriptError) {
            let ended = try await runner.run(invocation, live: live)
            run.ended = ended
            let reading = profile.reading(of: ended)
            result = reading.result
            if !ended.survivors.isEmpty {
                write("\(name) left processes behind, which were ended: \(ended.survivors.joined(separator: ", "))")
            }
            return (ended, reading)
        } catch {
            run.refusal = "\(error)"
            write("\(name): \(error)")
            throw error
        }
    }
}
