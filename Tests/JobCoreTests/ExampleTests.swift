import Foundation
import JobCore
import SystemPackage
import Testing

/// The example of the core's own page, with nothing but its public interface.
@Suite struct ExampleTests {
    @Test("a daemon with its own job type: a job is run, retried, followed and recorded")
    func ownJobType() async throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "example-\(UUID().uuidString)")
        try FileManager.default.createDirectory(
            at: url, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        defer { try? FileManager.default.removeItem(at: url) }
        let directory = FilePath(url.resolvingSymlinksInPath().path(percentEncoded: false))

        let ids = try JobIDSource(file: directory.appending("job-number"))
        let history = JobHistory(file: directory.appending("history.sqlite"), ids: ids, notice: { print($0.text) })
        let executor = JobExecutor(registry: JobRegistry(recorder: history))
        let runner = JobRunner(
            executor: { executor }, ids: ids, scheduler: JobScheduler(), slots: { 2 })
        let request = JobRequest(
            type: JobType(rawValue: "Index"), name: "nightly", subject: JobSubject("library 7"), client: "library 7",
            retry: RetryPolicy(maximumAttempts: 3, delay: .milliseconds(1), maximumDelay: .milliseconds(1))
        ) { attempt in
            attempt.progress(10)
            let (_, reading) = try await attempt.run(
                ScriptInvocation(
                    executable: "/bin/sh",
                    arguments: ["-c", "echo shelf $PROV_ATTEMPT; [ $PROV_ATTEMPT -eq 2 ] || exit 75"],
                    timeLimit: .seconds(300), grace: .seconds(10)),
                step: "index", profile: .posix)
            return JobOutcome(reading)
        }
        let job = try #require(try await runner.submit(request))
        #expect(await job.outcome()?.result == .success)

        let recorded = try #require(try await history.job(job.id))
        #expect(recorded.client == "library 7" && recorded.status == .successful)
        #expect(recorded.attempts.map(\.number) == [1, 2])
        #expect(recorded.steps.map(\.name) == ["index", "index"])
        await runner.stop(grace: .zero)
        await history.close()
    }
}
