import EventLoop
import Foundation
import SystemPackage
import TestSupport
import Testing

import JobCore

/// The example of `JobCore.docc`, for daemons that use the library.
@Suite struct LibraryExampleTests {
    private static let source = URL(filePath: #filePath)
    private static let article = source.deletingLastPathComponent()
        .appending(path: "../../../Sources/JobCore/JobCore.docc/JobCore.md")

    @MainActor func work(_ directory: FilePath, _ program: FilePath) async throws -> JobOutcome? {
        let ids = try JobIDSource(file: directory.appending("job-number"))
        let history = JobHistory(file: directory.appending("history.sqlite"), ids: ids, notice: { print($0.text) })
        let executor = JobExecutor(registry: JobRegistry(recorder: history))
        let runner = JobRunner(
            executor: { executor }, ids: ids, scheduler: JobScheduler(), slots: { 2 })

        let job = try await runner.submit(
            JobRequest(
                type: JobType(rawValue: "Index"), name: "nightly", subject: JobSubject("library 7"),
                client: "library 7",
                retry: RetryPolicy(maximumAttempts: 3, delay: .seconds(10), maximumDelay: .seconds(600))
            ) { attempt in
                attempt.progress(10)
                let (_, reading) = try await attempt.run(
                    ScriptInvocation(
                        executable: program, arguments: ["7"], timeLimit: .seconds(3_600), grace: .seconds(10)),
                    step: "index", profile: .posix)
                return JobOutcome(reading)
            })
        let outcome = await job?.outcome()
        await history.close()
        return outcome
    }

    @Test(
        "the example runs, and is the one that is documented",
        arguments: [("exit 0", JobResult.success), ("exit 3", .failed)])
    func runs(script: String, result: JobResult) async throws {
        let directory = try ScriptDirectory()
        let outcome = try await work(directory.path, directory.script(script))
        #expect(outcome?.result == result)
        #expect(outcome?.message == (result == .success ? "" : "failed (exit code 3, profile posix)"))
        // Lines may be broken in other places.
        func body(_ url: URL) throws -> String {
            let text = try String(contentsOf: url, encoding: .utf8)
            let begin = try #require(text.firstRange(of: "let ids = ")).lowerBound
            let end = try #require(text[begin...].firstRange(of: "return outcome")).upperBound
            return text[begin..<end].filter { !$0.isWhitespace }
        }
        #expect(try body(Self.article) == body(Self.source))
    }
}
