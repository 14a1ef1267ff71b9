import Foundation
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// A private directory with a history in it, and what the operator was told.
final class HistoryBench: Sendable {
    let directory: FilePath
    let clock: ManualClock
    private let told = Mutex<[CoreNotice]>([])

    static let start = Timestamp(secondsSince1970: 1_790_000_000)

    init() throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "history-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        directory = FilePath(url.resolvingSymlinksInPath().path(percentEncoded: false))
        #expect(chmod(directory.string, 0o700) == 0)
        clock = ManualClock(Self.start)
    }

    deinit {
        do { try FileManager.default.removeItem(atPath: directory.string) } catch {
            Issue.record("left behind: \(error)")
        }
    }

    var file: FilePath { directory.appending("history.sqlite") }
    var notices: [CoreNotice] { told.withLock { $0 } }
    /// Warnings and errors.
    var complaints: [CoreNotice] { notices.filter { $0.level == .error || $0.level == .warning } }

    func history(
        file: FilePath? = nil, retention: HistoryRetention = HistoryRetention(), ids: JobIDSource? = nil,
        isTimeTrusted: @escaping @Sendable () -> Bool = { true }, bound: HistoryQueue.Bound = .init()
    ) -> JobHistory {
        let history = JobHistory(
            file: file ?? self.file, retention: retention, ids: ids, isTimeTrusted: isTimeTrusted, clock: clock
        ) { notice in self.told.withLock { $0.append(notice) } }
        history.queue.withLock { $0.bound = bound }
        return history
    }

    /// The files in the directory whose names begin with the history's name.
    func files() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory.string)
            .filter { $0.hasPrefix("history.sqlite") }.sorted()
    }

    func aside(as kind: String = "damaged") throws -> [String] {
        try files().filter { $0.contains(".\(kind)-") }
    }

    func write(_ bytes: some Sequence<UInt8>, to path: FilePath) throws {
        try Data(bytes).write(to: URL(filePath: path.string))
    }
}

/// The events of a job that succeeds.
struct Story {
    var job: Job

    init(
        _ number: Int, type: JobType = .provisioning, name: String = "add", client: String = "u1",
        created: Timestamp? = nil
    ) {
        job = Job(
            id: JobID(UInt64(number)), type: type, name: name, level: "add", subject: JobSubject("subject-\(client)"),
            client: client, created: created ?? HistoryBench.start + .seconds(number))
    }

    /// When something happens, in seconds after the job was asked for.
    private func after(_ seconds: Int) -> Timestamp { job.created + .seconds(seconds) }

    /// The same with another attempt that has begun.
    func began(_ attempt: Int = 1) -> Story {
        var story = self
        story.job.attempts.append(Job.Attempt(number: attempt, began: after(1)))
        (story.job.attempt, story.job.started) = (attempt, story.job.started ?? after(1))
        return story.now(.running, 1)
    }

    /// The same with another letter.
    func now(_ status: JobStatus, _ seconds: Int = 0) -> Story {
        var story = self
        story.job.status = status
        story.job.statuses.append(Job.StatusChange(time: after(seconds), letter: status))
        return story
    }

    /// The same with another step that has ended.
    func step(_ name: String, program: Job.Program? = nil) -> Story {
        var story = self
        story.job.steps.append(
            Job.Step(
                name: name, attempt: job.attempt, began: after(2), seconds: 1.5, result: .success,
                script: program))
        return story
    }

    /// The same with its attempt, if there is one, and itself ended.
    func ended(_ result: JobResult = .success, _ message: String = "") -> Story {
        var story = self
        if var attempt = story.job.attempts.popLast() {
            (attempt.ended, attempt.fate) = (after(4), .ended)
            (attempt.pre, attempt.post) = (.successful, .failed)
            (attempt.result, attempt.message) = (result, message)
            story.job.attempts.append(attempt)
        }
        story = story.now(result.status, 5)
        (story.job.ended, story.job.result, story.job.message) = (after(5), result, message)
        story.job.seconds = 4
        return story
    }

    func line(_ text: String) -> ReportLine { ReportLine(.daemon, text, at: after(3)) }
}

extension JobHistory {
    nonisolated func record(_ story: Story) { record(story.job) }

    nonisolated func record(_ text: String, of story: Story) { record(story.line(text), of: story.job.id) }

    /// A job from its beginning to its end, with a step and a line.
    nonisolated func record(whole story: Story, _ result: JobResult = .success, _ message: String = "") {
        record(story)
        let begun = story.began()
        record(begun)
        record("line", of: story)
        record(begun.step("home").ended(result, message))
    }
}
