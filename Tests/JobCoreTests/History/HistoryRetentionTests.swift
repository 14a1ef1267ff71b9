import Foundation
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

@Suite struct HistoryRetentionTests {
    @Test("the newest of the ended jobs are kept, open jobs always, and the space of the others is freed")
    func count() async throws {
        let bench = try HistoryBench()
        let history = bench.history(retention: HistoryRetention(age: nil, jobs: nil))
        for number in 1...5 { history.record(Story(number)) }
        for number in 6...1_505 { history.record(whole: Story(number)) }
        await history.flush()
        let before = try await history.withDatabase { try $0.integer("PRAGMA page_count") }
        await history.close()

        let second = bench.history(retention: HistoryRetention(age: nil, jobs: 300))
        try await eventually("the oldest are removed") {
            try await second.jobs(matching: JobFilter(limit: .max)).count == 305
        }
        let numbers = try await second.jobs(matching: JobFilter(limit: .max)).map(\.id.number)
        #expect(numbers == (1_206...1_505).reversed() + (1...5).reversed())
        try await eventually("the space is given back") {
            try await second.withDatabase { try $0.integer("PRAGMA freelist_count") } == 0
        }
        let after = try await second.withDatabase { try $0.integer("PRAGMA page_count") }
        let (pagesBefore, pagesAfter) = (try #require(before ?? nil), try #require(after ?? nil))
        #expect(pagesAfter * 3 < pagesBefore)
        let pieces = try await second.withDatabase {
            try $0.integer("SELECT count(*) FROM piece")
        }
        #expect(pieces == 300)

        for number in 2_000..<4_000 { second.record(whole: Story(number)) }
        try await eventually("it is applied again while jobs end") {
            try await second.jobs(matching: JobFilter(limit: .max)).count < 1_400
        }
        await second.close()
    }

    @Test("jobs that ended too long ago are removed, open ones never")
    func age() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        history.record(Story(1))
        history.record(whole: Story(2))
        history.record(whole: Story(3, created: HistoryBench.start + .seconds(80 * 86_400)))
        await history.flush()
        bench.clock.advance(to: HistoryBench.start + .seconds(91 * 86_400))
        history.record(Story(4, created: bench.clock.now))
        try await eventually { try await history.jobs().map(\.id.number) == [4, 3, 1] }
        await history.close()
    }

    @Test("while the clock is not trusted, jobs are removed for their number, and none for its age")
    func wrongClock() async throws {
        let bench = try HistoryBench()
        let first = bench.history()
        for number in 1...4 { first.record(whole: Story(number)) }
        await first.close()
        bench.clock.advance(to: HistoryBench.start + .seconds(100 * 86_400))
        let retention = HistoryRetention(age: .seconds(90 * 86_400), jobs: 3)
        let isTrusted = Mutex(false)
        let history = bench.history(retention: retention, isTimeTrusted: { isTrusted.withLock(\.self) })
        try await eventually("one is removed") { try await history.jobs().count < 4 }
        #expect(try await history.jobs().map(\.id.number) == [4, 3, 2])

        isTrusted.withLock { $0 = true }
        bench.clock.advance(to: bench.clock.now + .seconds(86_400))
        history.record(Story(5, created: bench.clock.now))
        try await eventually("the others are removed") { try await history.jobs().map(\.id.number) == [5] }
        await history.close()
    }
}
