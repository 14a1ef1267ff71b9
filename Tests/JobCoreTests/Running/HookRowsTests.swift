import Foundation
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// Specification: rows.md D1 to D14, each against real processes. ``HookMatrixTests`` goes through their combinations.
@Suite struct HookRowsTests {
    /// A job with both scripts in the bench's directory.
    private func run(
        _ bench: JobBench, in directory: FilePath? = nil, skips: Bool = false, timeLimit: Duration = .seconds(300),
        attempts: Int = 1,
        result: JobOutcome = .success, work: @escaping @Sendable (RunningAttempt) async throws -> Void = { _ in }
    ) async throws -> JobID {
        let runner = bench.runner(
            JobPolicy(
                hooks: directory ?? bench.directory, skipsJob: skips, timeLimit: timeLimit))
        let job = try #require(
            try await runner.submit(
                bench.request(attempts: attempts) { attempt in
                    try await work(attempt)
                    return result
                }))
        _ = await job.outcome()
        return job.id
    }

    @Test("D1 scripts are off by default, and then both statuses are N/A")
    func off() async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "touch ran")
        let runner = bench.runner()
        let job = try #require(try await runner.submit(bench.request { _ in .success }))
        _ = await job.outcome()
        let ended = try bench.attempt(of: job.id)
        #expect(ended.pre == .notAvailable && ended.post == .notAvailable)
        #expect(!bench.exists("ran"))
    }

    @Test("D2 only executable files of the two names in the one directory are run, and nothing from PATH")
    func places() async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "touch ran", mode: 0o644)
        try bench.script("pre_script", "touch ran")
        try FileManager.default.createDirectory(
            atPath: bench.directory.appending("sub").string, withIntermediateDirectories: true)
        let id = try await run(bench)
        #expect(try bench.attempt(of: id).pre == .skipped)
        #expect(!bench.exists("ran"))
        let report = bench.recorder.lines.map(\.text)
        #expect(
            report.contains { $0.contains("pre_script.sh") && $0.contains("chmod u+x") }, "\(report)")
    }

    @Test(
        "D3 a script is ended at its time limit, and a job is left out for it where that is set",
        arguments: [true, false])
    func settings(skips: Bool) async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "exec sleep 3600")
        let hasRun = Mutex(false)
        let id = try await run(bench, skips: skips, timeLimit: .zero) { _ in hasRun.withLock { $0 = true } }
        #expect(try bench.attempt(of: id).pre == .failed)
        #expect(hasRun.withLock { $0 } == !skips)
        #expect(JobPolicy().timeLimit == .seconds(365 * 86_400))
    }

    @Test("D4 argument 0 is the absolute path, then the job's number, then for the post script both statuses")
    func arguments() async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", #"echo "$0 $# $*" > pre"#)
        try bench.script("post_script.sh", #"echo "$0 $# $*" > post"#)
        let id = try await run(bench, result: JobOutcome(.warnings))
        #expect(try bench.lines("pre") == ["\(bench.directory.appending("pre_script.sh")) 1 \(id)"])
        #expect(try bench.lines("post") == ["\(bench.directory.appending("post_script.sh")) 3 \(id) 0 3"])
    }

    @Test("D5 after a successful pre script the job and the post script run; a missing post script is Skipped")
    func successful() async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "echo pre >> order")
        let work: @Sendable (RunningAttempt) async throws -> Void = { _ in try bench.append("job", to: "order") }
        #expect(try bench.attempt(of: try await run(bench, work: work)).post == .skipped)
        try bench.script("post_script.sh", "echo post >> order")
        #expect(try bench.attempt(of: try await run(bench, work: work)).post == .successful)
        #expect(try bench.lines("order") == ["pre", "job", "pre", "job", "post"])
    }

    @Test(
        "D6 after a failed pre script the job runs or not as configured, and the post script in both cases",
        arguments: [true, false])
    func failed(skips: Bool) async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "exit 1")
        try bench.script("post_script.sh", "echo $2 $3 > post")
        let id = try await run(bench, skips: skips) { _ in try bench.touch("job") }
        #expect(bench.exists("job") == !skips)
        #expect(try bench.lines("post") == [skips ? "1 4" : "1 0"])
        #expect(try bench.attempt(of: id).body.result == (skips ? .missed : .success))
    }

    @Test(
        "D7 without a pre script the job runs or not as configured, and the post script does not",
        arguments: [true, false], [".", "no-such-directory"])
    func missing(skips: Bool, directory: String) async throws {
        let bench = try JobBench()
        try bench.script("post_script.sh", "touch post")
        let id = try await run(bench, in: bench.directory.pushing(FilePath(directory)), skips: skips) { _ in
            try bench.touch("job")
        }
        #expect(bench.exists("job") == !skips)
        #expect(!bench.exists("post"))
        let ended = try bench.attempt(of: id)
        #expect(ended.pre == .skipped && ended.post == .skipped)
        #expect(ended.body.result == (skips ? .wrongConfiguration : .success))
        #expect(!skips || ended.body.message.contains("pre_script.sh"))
    }

    @Test("D8 on every retry both run again, and there is one alert, after the last")
    func retries() async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "echo pre >> order; exit 1")
        try bench.script("post_script.sh", "echo post >> order; exit 2")
        let id = try await run(
            bench, attempts: 3, result: JobOutcome(.failed, failureClass: .retryable, message: "not yet"))
        #expect(try bench.lines("order") == ["pre", "post", "pre", "post", "pre", "post"])
        let alerts = bench.ends.alerts
        #expect(alerts.map(\.job.id) == [id])
        #expect(alerts.first?.scriptFailures.count == 2)
    }

    @Test("D8 a script that failed only in an earlier attempt raises no alert")
    func recovered() async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "[ -e second ]")
        let runner = bench.runner(JobPolicy(hooks: bench.directory))
        let job = try #require(
            try await runner.submit(
                bench.request(attempts: 2) { attempt in
                    try bench.touch("second")
                    return attempt.number == 1 ? JobOutcome(.failed, failureClass: .retryable, message: "x") : .success
                }))
        #expect(await job.outcome() == .success)
        #expect(bench.ends.alerts.isEmpty)
    }

    @Test(
        "L8 what a pre or post script reports is its own status and not the job's",
        arguments: [("pre", 1, ScriptStatus.failed), ("post", 75, .failed), ("pre", 3, .successful)])
    func reports(_ script: String, _ number: Int32, _ status: ScriptStatus) async throws {
        let bench = try JobBench()
        for name in ["pre", "post"] {
            let wait =
                "echo $PROV_JOB_TOKEN > new; mv new token; while [ ! -e go ] && [ -e \"$0\" ]; do sleep 0.01; done"
            try bench.script("\(name)_script.sh", name == script ? wait : ":")
        }
        let runner = bench.runner(JobPolicy(hooks: bench.directory))
        let job = try #require(try await runner.submit(bench.request { _ in .success }))
        try await eventually("the script runs") { bench.exists("token") }
        try await bench.registry.report(
            .finished(number), token: try #require(try bench.lines("token").first), user: geteuid())
        try bench.touch("go")
        #expect(await job.outcome() == .success)
        let ended = try bench.attempt(of: job.id)
        #expect((script == "pre" ? ended.pre : ended.post) == status)
        #expect((script == "pre" ? ended.post : ended.pre) == .successful)
        #expect(bench.ends.alerts.count == (status == .failed ? 1 : 0))
    }

    @Test("D8 a failed script of an attempt that ended before a crash is told of when the next run closes the job")
    func failedBeforeCrash() async throws {
        let bench = try JobBench()
        var left = try await bench.left(.ended)
        (left.attempts[0].post, left.attempts[0].result) = (.failed, .success)
        (left.result, left.message) = (.success, "")
        let job = try #require(
            try await bench.runner().submit(
                bench.request { _ in JobOutcome(.failed, message: "not again") }, resuming: left))
        #expect(await job.outcome() == .success)
        #expect(bench.ends.alerts.map(\.scriptFailures) == [["the post script failed in attempt 1"]])
    }

    @Test(
        "D9 cancel during a script: it finishes, the job is canceled, and the post script runs",
        arguments: ["pre", "post"])
    func cancel(during script: String) async throws {
        let bench = try JobBench()
        for name in ["pre", "post"] {
            let wait = name == script ? "touch waits; while [ ! -e go ] && [ -e \"$0\" ]; do sleep 0.01; done" : ":"
            try bench.script("\(name)_script.sh", "\(wait); echo \(name) >> order")
        }
        let runner = bench.runner(JobPolicy(hooks: bench.directory))
        let job = try #require(
            try await runner.submit(
                bench.request { _ in
                    try bench.append("job", to: "order")
                    return .success
                }))
        try await eventually("the script runs") { bench.exists("waits") }
        #expect(await bench.registry.cancel(job.id))
        try bench.touch("go")
        #expect(await job.outcome()?.result == .aborted)
        #expect(try bench.lines("order") == (script == "pre" ? ["pre", "post"] : ["pre", "job", "post"]))
        #expect(bench.letters(of: job.id) == "RA")
    }

    @Test("D10 a window that ends during the pre script ends it as Failed: the job does not run, the post script does")
    func window() async throws {
        let clock = ManualClock(Timestamp(secondsSince1970: 1_800_000_000))
        let bench = try JobBench(clock: clock)
        try bench.script("pre_script.sh", "touch waits; exec sleep 3600")
        try bench.script("post_script.sh", "echo $2 $3 > post")
        let runner = bench.runner(
            JobPolicy(hooks: bench.directory, window: try TimeWindow(parsing: "00:00-23:59")))
        let job = try #require(
            try await runner.submit(
                bench.request { _ in
                    try bench.touch("job")
                    return .success
                }))
        try await eventually("the script runs") { bench.exists("waits") && !clock.deadlines.isEmpty }
        clock.advance(to: try #require(clock.deadlines.first))
        #expect(await job.outcome()?.result == .missed)
        #expect(!bench.exists("job"))
        #expect(try bench.lines("post") == ["1 4"])
    }

    @Test("D10 outside its window a job waits, with the status letter for that, until the window opens")
    func windowClosed() async throws {
        let now = Timestamp(secondsSince1970: 1_800_000_000)
        let clock = ManualClock(now)
        let bench = try JobBench(clock: clock)
        // Begins two hours from now in any zone.
        let local = DayCalendar.system.localTime(at: now)
        let (first, last) = ((local.hour + 2) % 24, (local.hour + 3) % 24)
        let window = try TimeWindow(parsing: "\(first < 10 ? "0" : "")\(first):00-\(last < 10 ? "0" : "")\(last):00")
        let runner = bench.runner(JobPolicy(window: window))
        let job = try #require(try await runner.submit(bench.request { _ in .success }))
        #expect(await bench.registry.live(job.id)?.status == .waitingForStartTime)
        clock.advance(to: window.opening(after: now))
        #expect(await job.outcome() == .success)
        #expect(bench.letters(of: job.id) == "tRT")
    }

    @Test("D11 a job that is requested by hand runs both as usual")
    func byHand() async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "echo pre >> order")
        try bench.script("post_script.sh", "echo post >> order")
        let script = bench.directory.appending("by_hand.sh")
        try bench.script("by_hand.sh", "echo job >> order")
        let runner = bench.runner(JobPolicy(hooks: bench.directory))
        let user = UserScript(
            name: "by_hand", path: script, environment: ["PATH": "/usr/bin:/bin"],
            retry: RetryPolicy(maximumAttempts: 1, delay: .zero, maximumDelay: .zero))
        let job = try #require(try await runner.submit(user.request))
        #expect(await job.outcome()?.result == .success)
        #expect(try bench.lines("order") == ["pre", "job", "post"])
    }

    @Test("D12 a script that is killed from outside counts as Failed, and the attempt continues")
    func killed() async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "echo $$ > number.new; mv number.new number; exec sleep 3600")
        try bench.script("post_script.sh", "echo $2 $3 > post")
        async let running = run(bench)
        let process = try await processNumber(in: bench.directory.appending("number"))
        kill(process, SIGKILL)
        let id = try await running
        #expect(try bench.attempt(of: id).pre == .failed)
        #expect(try bench.lines("post") == ["1 0"])
        #expect(!isAlive(process))
    }

    @Test("D13 leftover processes are ended before the job continues, and named in the report")
    func leftovers() async throws {
        let bench = try JobBench()
        try bench.script(
            "pre_script.sh",
            ScriptDirectory.note + "setsid sleep 3600 & runs sleep $!; echo $! > number.new; mv number.new number")
        let id = try await run(bench)
        let process = try await processNumber(in: bench.directory.appending("number"))
        #expect(!isAlive(process))
        let report = bench.recorder.lines.map(\.text)
        #expect(
            report.contains { $0.contains("sleep") && $0.contains("left processes behind") }, "\(report)")
        #expect(try bench.attempt(of: id).pre == .successful)
    }

    @Test("D14 without a report the status is N/A and its number 255")
    func noReport() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let job = try #require(try await runner.submit(bench.request { _ in .success }))
        _ = await job.outcome()
        #expect(try bench.attempt(of: job.id).pre == .notAvailable)
        #expect(ScriptStatus.allCases.map(\.integer) == [0, 1, 4, 255])
    }

    @Test("a script that others can write is not run, and counts as a wrong configuration")
    func untrusted() async throws {
        let bench = try JobBench()
        try bench.script("pre_script.sh", "touch ran", mode: 0o777)
        let runner = bench.runner(JobPolicy(hooks: bench.directory, skipsJob: true))
        let job = try #require(try await runner.submit(bench.request { _ in .success }))
        #expect(await job.outcome()?.failureClass == .configuration)
        let ended = try bench.attempt(of: job.id)
        #expect(ended.pre == .failed)
        #expect(ended.body.message.contains("chmod go-w"))
        #expect(!bench.exists("ran"))
    }
}
