import Foundation
import GRDB
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

@Suite struct HistoryRetentionTests {
    @Test("the newest of the ended jobs are kept, open jobs always, and the space of the others is given back")
    func count() async throws {
        let bench = try HistoryBench()
        let history = bench.history(retention: HistoryRetention(age: nil, jobs: nil))
        for number in 1...5 { history.record(Story(number).opened) }
        for number in 6...1_505 { history.record(Story(number).whole()) }
        await history.flush()
        let before = try await history.database.withDatabase { try Int.fetchOne($0, sql: "PRAGMA page_count") }
        await history.close()

        let second = bench.history(retention: HistoryRetention(age: nil, jobs: 300))
        try await eventually("the oldest are removed") {
            try await second.jobs(matching: JobFilter(limit: .max)).count == 305
        }
        let numbers = try await second.jobs(matching: JobFilter(limit: .max)).map(\.id.number)
        #expect(numbers == (1_206...1_505).reversed() + (1...5).reversed())
        try await eventually("the space is given back") {
            try await second.database.withDatabase { try Int.fetchOne($0, sql: "PRAGMA freelist_count") } == 0
        }
        let after = try await second.database.withDatabase { try Int.fetchOne($0, sql: "PRAGMA page_count") }
        #expect(try #require(after ?? nil) * 3 < #require(before ?? nil))
        let orphans = try await second.database.withDatabase { database in
            try ["attempt", "step", "status", "report"].map {
                try Int.fetchOne(database, sql: "SELECT count(*) FROM \($0)") ?? 0
            }
        }
        #expect(orphans == [300, 300, 600, 300])

        for number in 2_000..<4_000 { second.record(Story(number).whole()) }
        try await eventually("it is applied again while jobs end") {
            try await second.jobs(matching: JobFilter(limit: .max)).count < 1_400
        }
        await second.close()
    }

    @Test("jobs that ended too long ago are removed, open ones never")
    func age() async throws {
        let bench = try HistoryBench()
        let history = bench.history()
        history.record(Story(1).opened)
        history.record(Story(2).whole())
        history.record(Story(3, created: HistoryBench.start + .seconds(80 * 86_400)).whole())
        await history.flush()
        bench.clock.advance(to: HistoryBench.start + .seconds(91 * 86_400))
        history.record(Story(4, created: bench.clock.now).opened)
        try await eventually { try await history.jobs().map(\.id.number) == [4, 3, 1] }
        await history.close()
    }
}
