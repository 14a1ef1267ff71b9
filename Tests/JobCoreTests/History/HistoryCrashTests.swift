import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

@Suite struct HistoryCrashTests {
    /// The jobs are the first that were recorded, and only the last of them can be half told.
    private func expectPrefix(_ file: FilePath) async throws -> Int {
        let reader = try HistoryReader(file: file)
        let jobs = try reader.jobs(matching: JobFilter(limit: .max)).reversed()
        #expect(jobs.map(\.id.number) == Array(1..<UInt64(jobs.count + 1)))
        for job in jobs.dropLast() {
            #expect(job.ended != nil, "job \(job.id)")
            #expect(job.attempt == 1)
        }
        for id in jobs.dropLast().suffix(20).map(\.id) {
            let job = try #require(try reader.job(id))
            #expect(job.steps.count == 1)
            #expect(job.report.count == 1)
            #expect(job.statuses.count == 2)
        }
        return jobs.count
    }

    @Test("a crash at any moment leaves a prefix of the records")
    func copies() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        await history.flush()
        // Without checkpoints all that is written goes to the end of the log, so a copy is what a crash leaves at that moment.
        await history.stopCheckpoints()
        _ = try await history.withDatabase { try $0.execute("PRAGMA wal_checkpoint(TRUNCATE)") }
        var most = 0
        for round in 0..<10 {
            // A few in each round: with ever more of them, the retention would remove the first.
            let writer = Task {
                for number in (round * 400 + 1)...(round * 400 + 400) {
                    history.record(whole: Story(number))
                    if number % 20 == 0 { await history.flush() }
                }
            }
            try await eventually("this round's first job is written") {
                try await history.jobs(matching: JobFilter(limit: 1)).first.map { $0.id.number > round * 400 } ?? false
            }
            let copy = bench.directory.appending("copy-\(round)")
            try FileManager.default.createDirectory(
                atPath: copy.string, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
            for suffix in ["", "-wal"] {
                try FileManager.default.copyItem(
                    atPath: bench.file.string + suffix, toPath: copy.appending("history.sqlite" + suffix).string)
            }
            // In the copy the torn end is of no use to anybody.
            let wal = copy.appending("history.sqlite-wal").string
            let size = try #require(try FileManager.default.attributesOfItem(atPath: wal)[.size] as? Int)
            if size > 1_000 { #expect(truncate(wal, size - round * 37) == 0) }
            let revived = bench.history(file: copy.appending("history.sqlite"))
            await revived.close()
            let count = try await expectPrefix(copy.appending("history.sqlite"))
            most = max(most, count)
            await writer.value
        }
        #expect(most > 3_000)
        #expect(try bench.aside().isEmpty)
        await history.close()
    }

    @Test(
        "kill -9 during a write leaves a prefix of the records", arguments: [1_000, 3_000, 9_000])
    func killed(_ jobs: Int) async throws {
        let bench = try HistoryBench()
        let file = bench.file.string
        // Exit tests hand nothing over; the child finds its orders in a file named after its parent.
        let orders = URL(filePath: "/tmp/history-kill-\(getpid())-\(jobs)")
        try Data("\(file)\n\(jobs)".utf8).write(to: orders)
        defer { do { try FileManager.default.removeItem(at: orders) } catch { Issue.record("\(error)") } }
        switch jobs {
        case 1_000:
            await #expect(processExitsWith: .signal(SIGKILL)) { try await HistoryCrashTests.recordAndDie(1_000) }
        case 3_000:
            await #expect(processExitsWith: .signal(SIGKILL)) { try await HistoryCrashTests.recordAndDie(3_000) }
        default: await #expect(processExitsWith: .signal(SIGKILL)) { try await HistoryCrashTests.recordAndDie(9_000) }
        }
        let revived = bench.history()
        await revived.close()
        #expect(try await expectPrefix(bench.file) > jobs / 2)
        #expect(try bench.aside().isEmpty)
    }

    /// In a process of its own.
    static func recordAndDie(_ jobs: Int) async throws {
        let text = try String(contentsOfFile: "/tmp/history-kill-\(getppid())-\(jobs)", encoding: .utf8)
        let path = try #require(text.split(separator: "\n").first)
        let history = JobHistory(file: FilePath(String(path)), ids: nil) { _ in }
        for number in 1...jobs {
            history.record(whole: Story(number))
            if number == jobs * 2 / 3 { await history.flush() }
        }
        let before = try log(of: path)
        // Of the rest the first is written, and there is always more to come.
        var last = jobs
        while try log(of: path) == before {
            last += 1
            history.record(whole: Story(last))
            try await Task.sleep(for: .milliseconds(1))
        }
        kill(getpid(), SIGKILL)
    }

    /// Changes with every write of SQLite.
    private static func log(of file: Substring) throws -> [AnyHashable?] {
        let attributes = try FileManager.default.attributesOfItem(atPath: file + "-wal")
        return [attributes[.size] as? Int, attributes[.modificationDate] as? Date]
    }

    @Test(
        "an attempt that a crash interrupted is marked lost, its job is listed as unfinished, and can be resumed or closed"
    )
    func rescue() async throws {
        let bench = try HistoryBench()
        let before = bench.history()
        let resumed = Story(1, created: Timestamp(nanosecondsSince1970: 1_790_000_000_123_456_000))
        let abandoned = Story(2)
        let stopped = Story(3)
        before.record(resumed.began().step("home"))
        before.record(abandoned.began())
        var cutOff = stopped.began()
        cutOff.job.attempts[0].fate = .cutOff
        before.record(cutOff)
        before.record(whole: Story(4))
        #expect(try await before.unfinished().isEmpty)
        await before.close()

        let history = bench.history()
        let left = try await history.unfinished()
        #expect(left.map(\.id.number) == [1, 2, 3])
        #expect(bench.complaints.count == 1)
        #expect(bench.complaints.first?.text.contains("2 attempts") == true)
        #expect(left.map { $0.attempts.map(\.fate) } == [[.lost], [.lost], [.cutOff]])
        #expect(left[0].steps.count == 1 && left[0].interruptions == 1)
        #expect(left[0].created == resumed.job.created, "to the microsecond")
        #expect(try await history.job(JobID(4))?.attempts.map(\.fate) == [.ended])

        // The registry goes on with what was left.
        var again = resumed
        again.job = left[0].reopened
        again = again.began(2).step("home")
        history.record(again)
        #expect(try await history.unfinished().map(\.id.number) == [2, 3])
        #expect(try await history.job(JobID(1))?.attempts.map(\.fate) == [.lost, .running])
        history.record(again.ended())
        var closed = abandoned
        closed.job = left[1].reopened
        history.record(closed.ended(.aborted, "it is not resumed"))
        #expect(try await history.unfinished().map(\.id.number) == [3])
        let job = try #require(try await history.job(JobID(1)))
        #expect(job.attempts.map(\.fate) == [.lost, .ended])
        #expect(job.steps.map(\.attempt) == [1, 2])
        #expect(try await history.job(JobID(2))?.status == .canceled)
        await history.close()
    }
}
