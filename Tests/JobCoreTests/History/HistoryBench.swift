import Foundation
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// A private folder with a history in it, and what the operator was told.
final class HistoryBench: Sendable {
    let folder: FilePath
    let clock: ManualClock
    private let told = Mutex<[CoreNotice]>([])

    static let start = WallTime(secondsSince1970: 1_790_000_000)

    init() throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "history-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        folder = FilePath(url.resolvingSymlinksInPath().path(percentEncoded: false))
        #expect(chmod(folder.string, 0o700) == 0)
        clock = ManualClock(Self.start)
    }

    deinit {
        do { try FileManager.default.removeItem(atPath: folder.string) } catch { Issue.record("left behind: \(error)") }
    }

    var file: FilePath { folder.appending("history.sqlite") }
    var notices: [CoreNotice] { told.withLock { $0 } }
    /// Warnings and errors.
    var complaints: [CoreNotice] { notices.filter { $0.level == .error || $0.level == .warning } }

    func history(
        file: FilePath? = nil, retention: HistoryRetention = HistoryRetention(), bound: HistoryBuffer.Bound = .init()
    ) -> JobHistory {
        JobHistory(file: file ?? self.file, retention: retention, clock: clock, bound: bound) { notice in
            self.told.withLock { $0.append(notice) }
        }
    }

    /// What lies in the folder and begins with the history's name.
    func files() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.string)
            .filter { $0.hasPrefix("history.sqlite") }.sorted()
    }

    func aside() throws -> [String] { try files().filter { $0.contains(".damaged-") } }

    func write(_ bytes: some Sequence<UInt8>, to path: FilePath) throws {
        try Data(bytes).write(to: URL(filePath: path.string))
    }
}

/// What happens to a job that runs through.
struct Story {
    var job: Job

    init(
        _ number: Int, type: JobType = .provisioning, name: String = "add", client: String = "u1",
        created: WallTime? = nil
    ) {
        job = Job(
            id: JobID(UInt64(number)), type: type, name: name, level: "add", subject: JobSubject("subject-\(client)"),
            client: client, created: created ?? HistoryBench.start + .seconds(number))
    }

    func change(_ event: JobChange.Event, _ seconds: Int = 0) -> JobChange {
        JobChange(event, of: job.id, at: job.created + .seconds(seconds))
    }

    var opened: JobChange { change(.opened(job)) }

    func began(_ attempt: Int = 1) -> [JobChange] {
        [change(.attemptBegan(number: attempt), 1), change(.status(.running), 1)]
    }

    func step(_ name: String, attempt: Int = 1, script: ScriptRun? = nil) -> JobChange {
        change(
            .stepEnded(
                JobStep(
                    name: name, attempt: attempt, began: job.created + .seconds(2), duration: .milliseconds(1_500),
                    result: .success, script: script)), 3)
    }

    func ended(_ outcome: JobOutcome = .success, attempt: Int = 1) -> [JobChange] {
        [
            change(.attemptEnded(number: attempt, pre: .successful, body: outcome, post: .failed), 4),
            change(.status(outcome.result.status), 5), change(.closed(outcome), 5),
        ]
    }

    func whole(_ outcome: JobOutcome = .success) -> [JobChange] {
        [opened] + began() + [step("home"), change(.reported(ReportLine(.daemon, "line")), 3)] + ended(outcome)
    }
}

extension JobHistory {
    func record(_ changes: [JobChange]) { changes.forEach(record) }
}
