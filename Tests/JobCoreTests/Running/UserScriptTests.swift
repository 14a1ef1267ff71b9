import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// Users' own scripts as jobs (specification: rows.md L1, L2, L5 and L8), and what is the same for all of them.
@Suite struct UserScriptTests {
    private func script(
        _ bench: JobBench, _ body: String, profile: ExitProfile = .lightsOutServer, attempts: Int = 1,
        mode: mode_t = 0o755, timeLimit: Duration = .seconds(300)
    ) throws -> UserScript {
        try bench.script("user.sh", body, mode: mode)
        var script = UserScript(
            name: "user", path: bench.directory.appending("user.sh"), environment: ["PATH": "/usr/bin:/bin"],
            retry: RetryPolicy(maximumAttempts: attempts, delay: .milliseconds(1), maximumDelay: .milliseconds(1)))
        (script.timeLimit, script.grace, script.profile) = (timeLimit, .milliseconds(200), profile)
        return script
    }

    private func run(_ bench: JobBench, _ script: UserScript) async throws -> JobOutcome {
        let runner = bench.runner()
        let job = try #require(try await runner.submit(script.request))
        return try #require(await job.outcome())
    }

    @Test("L1 a job is running exactly as long as its script and the script's session")
    func tracked() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let user = try script(
            bench,
            "touch begun; while [ ! -e go ] && [ -e \"$0\" ]; do sleep 0.01; done; setsid sleep 3600 & echo $! > left; sync left"
        )
        let job = try #require(try await runner.submit(user.request))
        try await eventually("the script runs") { bench.exists("begun") }
        #expect(await bench.registry.live(job.id)?.status == .running)
        try bench.touch("go")
        #expect(await job.outcome()?.result == .success)
        let left = try #require(pid_t(try bench.lines("left").first ?? ""))
        #expect(!isAlive(left))
        #expect(bench.letters(of: job.id) == "RT")
    }

    @Test(
        "an attempt, and whether there is another one, follow the settings of that time; a removed script ends the job as aborted",
        arguments: [false, true])
    func changed(isRemoved: Bool) async throws {
        let bench = try JobBench()
        let old = try script(bench, "touch ran; exit 75", profile: .posix, attempts: isRemoved ? 2 : 1)
        var new = old
        (new.path, new.retry.maximumAttempts) = (bench.directory.appending("new.sh"), 2)
        try bench.script("new.sh", "exit 0")
        let runner = bench.runner()
        let request = old.request { [new] in bench.exists("ran") ? isRemoved ? nil : new : old }
        let job = try #require(try await runner.submit(request))
        let outcome = try #require(await job.outcome())
        #expect(outcome.result == (isRemoved ? .aborted : .success), "\(outcome)")
    }

    @Test("L2 a script that others can write ends the job as wrong configuration, with the hint in its report")
    func untrusted() async throws {
        let bench = try JobBench()
        let outcome = try await run(bench, try script(bench, "touch ran", mode: 0o775))
        #expect(outcome.result == .wrongConfiguration)
        #expect(outcome.failureClass == .configuration)
        #expect(outcome.message.contains("user.sh") && outcome.message.contains("chmod go-w"))
        #expect(!bench.exists("ran"))
        let missing = try await run(
            bench, UserScript(name: "none", path: "/nonexistent/none.sh", retry: try script(bench, "").retry))
        #expect(missing.result == .wrongConfiguration)
    }

    @Test(
        "L5 the exit codes of the profile lightsout-server",
        arguments: [
            (0, JobResult.success, "T"), (1, .failed, "E"), (2, .aborted, "A"), (3, .warnings, "e"),
            (4, .undefined, "E"),
            (9, .failed, "E"),
        ])
    func exitCodes(_ code: Int, _ result: JobResult, _ letter: String) async throws {
        let bench = try JobBench()
        let outcome = try await run(bench, try script(bench, "exit \(code)"))
        #expect(outcome.result == result)
        #expect(result.status.letter == letter)
    }

    @Test(
        "L8 a report and an exit status are both kept and the more severe one counts",
        arguments: [
            (0, 3, JobResult.warnings), (3, 0, .warnings), (0, 1, .failed), (1, 0, .failed),
            (0, 5, .wrongConfiguration),
        ])
    func heavier(_ exit: Int, _ reported: Int32, _ result: JobResult) async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let user = try script(
            bench,
            "echo $PROV_JOB_TOKEN > token.new; mv token.new token; while [ ! -e go ] && [ -e \"$0\" ]; do sleep 0.01; done; exit \(exit)"
        )
        let job = try #require(try await runner.submit(user.request))
        try await eventually("the script runs") { bench.exists("token") }
        let token = try #require(try bench.lines("token").first)
        try await bench.registry.report(.progress(40), token: token, user: geteuid())
        #expect(await bench.registry.live(job.id)?.progress == 40)
        try await bench.registry.report(.finished(reported), token: token, user: geteuid())
        try bench.touch("go")
        let outcome = await job.outcome()
        #expect(outcome?.result == result)
        let lines = bench.recorder.lines.filter { $0.source == .reporter }.map(\.text)
        #expect(lines.contains { $0.contains("(\(reported))") }, "\(lines)")
        await #expect(throws: ReporterRefusal.unknownToken) {
            try await bench.registry.report(.started, token: token, user: geteuid())
        }
    }

    @Test(
        "L8 a reported code that asks for another attempt gets one",
        arguments: [
            (75, ExitProfile.posix),
            (
                30,
                ExitProfile(
                    name: "own", meanings: [0: .init(.success), 30: .init(.failed, failureClass: .retryable)])
            ),
        ] as [(Int32, ExitProfile)])
    func reportedRetry(_ number: Int32, _ profile: ExitProfile) async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let user = try script(
            bench,
            "[ $PROV_ATTEMPT -eq 1 ] || exit 0; echo $PROV_JOB_TOKEN > new; mv new token; while [ ! -e go ] && [ -e \"$0\" ]; do sleep 0.01; done",
            profile: profile, attempts: 2)
        let job = try #require(try await runner.submit(user.request))
        try await eventually("the script runs") { bench.exists("token") }
        try await bench.registry.report(
            .finished(number), token: try #require(try bench.lines("token").first), user: geteuid())
        try bench.touch("go")
        #expect(await job.outcome()?.result == .success)
        #expect(bench.recorder.job(job.id)?.attempts.map(\.result) == [.failed, .success])
    }

    @Test("an exit code that asks for it is tried again, and the job keeps its number")
    func retried() async throws {
        let bench = try JobBench()
        let outcome = try await run(
            bench,
            try script(
                bench, "echo $PROV_JOB_ID $PROV_ATTEMPT >> tries; [ $PROV_ATTEMPT -eq 3 ] || exit 75", attempts: 5))
        #expect(outcome.result == .success)
        let tries = try bench.lines("tries")
        #expect(tries.count == 3 && Set(tries.map { $0.split(separator: " ")[0] }).count == 1)
    }

    @Test("the output of a running script can be followed, and is in the history at its end")
    func followed() async throws {
        let bench = try JobBench()
        let runner = bench.runner()
        let user = try script(bench, "echo first; while [ ! -e go ] && [ -e \"$0\" ]; do sleep 0.01; done; echo last")
        let job = try #require(try await runner.submit(user.request))
        try await eventually("its words are there while it runs") {
            await bench.registry.output(of: job.id)?.text == "first\n"
        }
        try bench.touch("go")
        _ = await job.outcome()
        #expect(bench.recorder.outputs.last?.text == "first\nlast\n")
        #expect(bench.recorder.job(job.id)?.steps.last?.script?.sha256?.count == 64)
        #expect(await bench.registry.output(of: job.id) == nil)
    }

    @Test("B9 every letter has its severity, and the letters of a job are seen while they change")
    func letters() async throws {
        #expect(JobStatus.allCases.count == 19)
        #expect(Set(JobStatus.allCases.map(\.rawValue)) == Set("CRBTEefDAFSmMsjcdtp".map(String.init)))
        let weights: [(JobStatus, Int)] = [
            (.successful, 10), (.running, 15), (.nonFatalError, 20), (.terminatedWithErrors, 25), (.canceled, 90),
            (.fatalError, 100),
        ]
        for (status, weight) in weights { #expect(status.weight == weight) }
        let bench = try JobBench()
        let runner = bench.runner()
        let job = try #require(
            try await runner.submit(
                try script(bench, "touch begun; while [ ! -e go ] && [ -e \"$0\" ]; do sleep 0.01; done; exit 3")
                    .request))
        try await eventually("it runs") { bench.exists("begun") }
        #expect(await bench.registry.live(job.id)?.status.letter == "R")
        try bench.touch("go")
        _ = await job.outcome()
        #expect(bench.letters(of: job.id) == "Re")
    }
}
