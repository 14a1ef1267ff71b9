import Foundation
import Synchronization
import SystemPackage
import Testing

@testable import JobCore

@Suite struct HourlyLimitTests {
    private static let start = Timestamp(secondsSince1970: 1_800_000_000)
    private static let hour = Duration.seconds(3_600)
    private let directory: ScriptDirectory
    private var file: FilePath { directory.path.appending("deletes") }

    init() throws { directory = try ScriptDirectory() }

    @Test(
        "the limit holds within an hour, also across restarts; other subjects get increasing times and are reported once"
    )
    func limit() async throws {
        let told = Mutex<[HourlyLimit.Summary]>([])
        func limit() throws -> HourlyLimit {
            try HourlyLimit(file: file, limit: { 3 }) { summary in told.withLock { $0.append(summary) } }
        }
        let first = try limit()
        for name in ["a", "b", "c"] { #expect(try await first.admit(name, now: Self.start) == nil) }
        #expect(try await first.admit("b", now: Self.start) == nil, "once more within the hour counts once")
        let second = try limit()
        let later = Self.start + .seconds(600)
        let opening = Self.start + Self.hour
        #expect(second.wait("a", now: later) == nil)
        #expect(try await second.admit("d", now: later) == opening)
        #expect(try await second.admit("e", now: later) == opening + .seconds(1_200))
        #expect(try await second.admit("f", now: later) == opening + .seconds(2_400))
        #expect(try await second.admit("d", now: later + .seconds(60)) == opening, "a second look keeps the time")
        #expect(told.withLock { $0.map(\.next) } == [opening])
        #expect(second.summary?.count == 3 && second.summary?.next == opening && second.summary?.limit == 3)
        #expect(second.summary?.subjects == ["d", "e", "f"])
        #expect(try await second.admit("d", now: opening) == nil)
        #expect(second.summary?.count == 2)
        second.withdraw("e")
        #expect(second.summary?.count == 1)
    }

    @Test(
        "after a change of the limit waiting subjects ask again; 0 is no limit; urgent subjects are admitted and counted"
    )
    func changes() async throws {
        let setting = Mutex(1)
        let limit = try HourlyLimit(file: file, limit: { setting.withLock(\.self) })
        #expect(try await limit.admit("a", now: Self.start) == nil)
        #expect(try await limit.admit("b", now: Self.start) != nil)
        #expect(try await limit.admit("b", now: Self.start, isUrgent: true) == nil)
        #expect(try await limit.admit("c", now: Self.start) != nil && limit.summary?.count == 1)
        setting.withLock { $0 = 3 }
        #expect(limit.summary == nil)
        #expect(try await limit.admit("c", now: Self.start) == nil)
        #expect(try await limit.admit("d", now: Self.start) != nil)
        setting.withLock { $0 = 0 }
        for name in 0..<100 { #expect(try await limit.admit("\(name)", now: Self.start) == nil) }
    }

    @Test("a clock that is set back extends a wait to an hour at most")
    func clockSetBack() async throws {
        let limit = try HourlyLimit(file: file, limit: { 1 })
        let later = Self.start + .seconds(86_400)
        #expect(try await limit.admit("a", now: later) == nil)
        #expect(try await limit.admit("b", now: later) == later + Self.hour)
        #expect(try await limit.admit("c", now: later) == later + Self.hour * 2)
        #expect(try await limit.admit("b", now: Self.start) == Self.start + Self.hour)
        #expect(try await limit.admit("c", now: Self.start) == Self.start + Self.hour * 2)
        #expect(try await limit.admit("b", now: Self.start + Self.hour) == nil)
    }

    @Test("no subject overtakes a waiting one, and waiting subjects are reported at most once an hour")
    func order() async throws {
        let told = Mutex(0)
        let limit = try HourlyLimit(file: file, limit: { 2 }) { _ in told.withLock { $0 += 1 } }
        for name in ["a", "b"] { #expect(try await limit.admit(name, now: Self.start) == nil) }
        let waits = try #require(try await limit.admit("c", now: Self.start + .seconds(60)))
        // There is room again, and the one that waits has not asked yet.
        let now = Self.start + Self.hour
        #expect(waits == now)
        #expect(try await limit.admit("d", now: now) == now + .seconds(1_800))
        #expect(try await limit.admit("c", now: now) == nil)
        limit.withdraw("d")
        #expect(try await limit.admit("e", now: now) == nil, "no subject waits, and there is room")
        #expect(try await limit.admit("f", now: now) != nil)
        #expect(told.withLock(\.self) == 1)
        #expect(try await limit.admit("g", now: now + .seconds(120)) != nil)
        #expect(told.withLock(\.self) == 2, "an hour after the first")
    }

    @Test(
        "a subject that cannot be recorded is not admitted; a damaged file is set aside and reported",
        arguments: ["x\n", "12 a b\n"])
    func damaged(text: String) async throws {
        try text.write(toFile: file.string, atomically: true, encoding: .utf8)
        let limit = try HourlyLimit(file: file, limit: { 1 })
        #expect(limit.notice?.contains("set aside") == true)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path.string).count == 1)
        #expect(try await limit.admit("a", now: Self.start) == nil)
        let nowhere = try HourlyLimit(file: directory.path.appending("none/deletes"), limit: { 2 })
        await #expect(throws: StateFileError.self) { try await nowhere.admit("a", now: Self.start) }
        await #expect(throws: StateFileError.self) { try await nowhere.admit("a", now: Self.start) }
    }
}
