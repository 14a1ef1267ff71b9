import Foundation
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// A core with an own directory, whose changes a test can look through.
final class JobBench: Sendable {
    let directory: FilePath
    /// The records of the registry.
    let recorder = ChangeRecorder()
    /// The notices.
    let notices = Mutex<[CoreNotice]>([])
    let registry: JobRegistry
    let ids: JobIDSource
    /// Every job that ended, in order.
    let ends: EndRecorder
    let clock: any WallClock

    init(clock: any WallClock = SystemWallClock()) throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "jobs-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        directory = FilePath(url.resolvingSymlinksInPath().path(percentEncoded: false))
        #expect(chmod(directory.string, 0o755) == 0)
        let ends = EndRecorder()
        self.ends = ends
        registry = JobRegistry(recorder: recorder, clock: clock) { ends.add($0, scriptFailures: $1) }
        ids = try JobIDSource(file: directory.appending("job-number"))
        self.clock = clock
    }

    deinit {
        do { try FileManager.default.removeItem(atPath: directory.string) } catch {
            Issue.record("left behind: \(error)")
        }
    }

    func executor(_ policy: JobPolicy = JobPolicy(), scripts: ScriptRunner = ScriptRunner()) -> JobExecutor {
        var executor = JobExecutor(
            registry: registry, policies: [.admin: policy], environment: ["PATH": "/usr/bin:/bin"],
            reportSocket: directory.appending("report.sock").string, clock: clock,
            notice: { notice in self.notices.withLock { $0.append(notice) } })
        executor.runner = scripts
        return executor
    }

    /// - Parameter scheduler: nil: one of its own.
    func runner(_ policy: JobPolicy = JobPolicy(), slots: Int = 4, scheduler: JobScheduler? = nil) -> JobRunner {
        let executor = executor(policy)
        return JobRunner(
            executor: { executor }, ids: ids, scheduler: scheduler ?? JobScheduler(clock: clock), slots: { slots })
    }

    func job(_ name: String = "job") async throws -> Job {
        Job(
            id: try await ids.next(), type: .admin, name: name, subject: JobSubject("job \(name)"), client: name,
            created: clock.now)
    }

    func request(
        _ name: String = "job", subject: String? = nil, priority: Int = 10, due: Timestamp = .distantPast,
        attempts: Int = 1, work: @escaping @Sendable (RunningAttempt) async throws -> JobOutcome
    ) -> JobRequest {
        JobRequest(
            type: .admin, name: name, subject: JobSubject(subject ?? "job \(name)"), client: name, priority: priority,
            due: due,
            retry: RetryPolicy(maximumAttempts: attempts, delay: .milliseconds(1), maximumDelay: .milliseconds(1)),
            work: work)
    }

    /// Writes a script of the hooks' directory.
    func script(_ name: String, _ body: String, mode: mode_t = 0o755) throws {
        let file = directory.appending(name)
        try Data("#!/bin/sh\ncd \(directory)\n\(body)\n".utf8).write(to: URL(filePath: file.string))
        try makeExecutable(file.string, mode: mode)
    }

    func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: directory.appending(name).string) }

    func touch(_ name: String) throws { try Data().write(to: URL(filePath: directory.appending(name).string)) }

    func append(_ line: String, to name: String) throws {
        let before = try lines(name)
        try Data((before + [line, ""]).joined(separator: "\n").utf8).write(
            to: URL(filePath: directory.appending(name).string))
    }

    /// The lines of a file; none when it is not there.
    func lines(_ name: String) throws -> [String] {
        guard exists(name) else { return [] }
        return try String(contentsOfFile: directory.appending(name).string, encoding: .utf8).split(separator: "\n").map(
            String.init)
    }

    /// A job of an earlier run, with attempts of which this became.
    func left(_ fates: Job.Attempt.Fate...) async throws -> Job {
        var left = try await job()
        left.attempts = fates.enumerated().map { Job.Attempt(number: $0 + 1, began: left.created, fate: $1) }
        left.attempt = fates.count
        return left
    }

    /// The last attempt of a job, as the history learns it.
    func attempt(of id: JobID) throws -> (pre: ScriptStatus, body: Job.Attempt, post: ScriptStatus) {
        let ended = try #require(recorder.job(id)?.attempts.last { $0.ended != nil })
        return (pre: try #require(ended.pre), body: ended, post: try #require(ended.post))
    }

    func letters(of id: JobID) -> String { recorder.letters(of: id) }
}

/// Keeps what it is told of jobs that ended.
final class EndRecorder: Sendable {
    private let kept = Mutex<[(job: Job, scriptFailures: [String])]>([])
    var all: [Job] { kept.withLock { $0.map(\.job) } }
    /// Those with failed scripts.
    var alerts: [(job: Job, scriptFailures: [String])] { kept.withLock { $0.filter { !$0.scriptFailures.isEmpty } } }
    func add(_ job: Job, scriptFailures: [String]) { kept.withLock { $0.append((job, scriptFailures)) } }
}
