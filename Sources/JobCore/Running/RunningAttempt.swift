import Glibc
import Synchronization

/// One try of a job while it runs: what the job's work is done with.
///
/// Programs that are run through it can be followed while they run, can report on the job, and stand in its history.
@MainActor public final class RunningAttempt {
    /// The job, with the level it has now.
    public nonisolated let job: Job
    /// 1 for the first.
    public nonisolated let number: Int
    /// What every program of the job finds in its environment: PROV_JOB_ID, PROV_ATTEMPT, and where it can report PROV_REPORT_SOCKET
    /// and PROV_JOB_TOKEN.
    public nonisolated let environment: [String: String]

    /// The variable that says where scripts report. By it the next daemon finds what this one leaves running, too.
    public nonisolated static let reportSocketVariable = "PROV_REPORT_SOCKET"

    private let registry: JobRegistry
    private let runner: ScriptRunner
    private let clock: any WallClock
    private let notice: NoticeHandler
    /// What has been run within the step that is under way; nil: no step is.
    private var underWay: Job.Program??

    package init(
        _ job: Job, number: Int, token: JobToken, reportSocket: String?, registry: JobRegistry, runner: ScriptRunner,
        clock: any WallClock, notice: @escaping NoticeHandler
    ) {
        self.job = job
        self.number = number
        self.registry = registry
        self.runner = runner
        self.clock = clock
        self.notice = notice
        var environment = ["PROV_JOB_ID": "\(job.id)", "PROV_ATTEMPT": "\(number)"]
        if let reportSocket {
            environment[Self.reportSocketVariable] = reportSocket
            environment["PROV_JOB_TOKEN"] = token.text
        }
        self.environment = environment
    }

    /// Adds lines to the job's report.
    public func write(_ text: String) { registry.write(text, to: job.id, source: .daemon) }

    /// - Parameter percent: out of range counts as the nearest in range.
    public func progress(_ percent: Int) { registry.progress(job.id, percent) }

    /// Does some work as a step; the first program that is run within belongs to it.
    /// - Throws: what the work throws; the step then counts as failed.
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

    /// Runs a program. Whether it can be trusted is for the caller to check.
    /// - Parameters:
    ///   - name: of the step that it is; nil: it belongs to the step that is under way.
    ///   - profile: by which its end is read, and what it reports.
    ///   - live: takes the output as it comes; one for each run.
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
            let ended = try await runner.run(invocation, live: live) { [path = invocation.executable] in
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
                notice(CoreNotice(.warning, warning, job: job.id))
            }
            return (ended, reading)
        } catch {
            run.refusal = "\(error)"
            write("\(name): \(error)")
            throw error
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

/// By which a script proves that it speaks of its own job: 128 random bits, in hexadecimal, for one attempt.
package struct JobToken: Hashable, Sendable {
    let text: String
    /// As whom the job's script runs; nil: as the daemon itself.
    var user: UInt32?

    package init() {
        var generator = SystemRandomNumberGenerator()
        let halves = (0..<2).map { _ in String(generator.next() as UInt64, radix: 16) }
        text = halves.map { String(repeating: "0", count: 16 - $0.count) + $0 }.joined()
    }

    /// Whether a process of this user may speak for the job: the script's own, the daemon's, and root.
    func allows(_ peer: UInt32) -> Bool { peer == 0 || peer == geteuid() || peer == user }
}
