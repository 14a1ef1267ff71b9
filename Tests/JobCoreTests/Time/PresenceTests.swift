import Foundation
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// When ages are not to be trusted.
@Suite struct PresenceTests {
    private static let start = Timestamp(secondsSince1970: 1_800_000_000)
    private static let day = Duration.seconds(86_400)

    /// A directory of a test's own.
    private final class Directory: Sendable {
        let path: FilePath
        init() throws {
            let url = FileManager.default.temporaryDirectory.appending(path: "presence-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
            path = FilePath(url.path)
        }
        deinit { try? FileManager.default.removeItem(atPath: path.string) }
        var file: FilePath { path.appending("alive") }
    }

    @Test("a new daemon distrusts ages for a day, also across a restart, and then trusts them")
    func firstStart() throws {
        let (directory, clock) = (try Directory(), ManualClock(Self.start))
        let first = Presence(file: directory.file, clock: clock)
        #expect(first.lastSeen == nil && first.notice == nil)
        #expect(first.distrustedUntil == Self.start + Self.day)
        clock.advance(to: Self.start + .seconds(23 * 3_600))
        try first.note()
        let second = Presence(file: directory.file, clock: clock)
        #expect(second.lastSeen == clock.now && second.distrustedUntil == Self.start + Self.day)
        clock.advance(to: Self.start + Self.day)
        #expect(second.distrustedUntil == nil)
        try second.note()
        clock.advance(to: clock.now + Self.day)
        #expect(Presence(file: directory.file, clock: clock).distrustedUntil == nil, "down for a day and not more")
    }

    @Test(
        "a downtime of more than a day, and a clock that shows less than when the daemon was last seen, are distrusted for a day"
    )
    func downtime() throws {
        for (away, isTrusted) in [(86_401, false), (3_600, true), (-3_600, false), (-5, true)] {
            let (directory, clock) = (try Directory(), ManualClock(Self.start))
            try "\(Self.start.secondsSince1970)\n0\n"
                .write(toFile: directory.file.string, atomically: true, encoding: .utf8)
            clock.set(to: Self.start + .seconds(away))
            let presence = Presence(file: directory.file, clock: clock)
            #expect((presence.distrustedUntil == nil) == isTrusted, "\(away)")
        }
    }

    @Test("a clock that is set by more than a minute is distrusted for a day of its new time")
    func clockSet() throws {
        let (directory, clock) = (try Directory(), ManualClock(Self.start))
        try "\(Self.start.secondsSince1970)\n0\n"
            .write(toFile: directory.file.string, atomically: true, encoding: .utf8)
        let presence = Presence(file: directory.file, clock: clock)
        try presence.clockWasSet(by: .seconds(-59))
        #expect(presence.distrustedUntil == nil)
        clock.set(to: Self.start + .seconds(10 * 86_400))
        try presence.clockWasSet(by: .seconds(10 * 86_400))
        clock.set(to: Self.start)
        try presence.clockWasSet(by: .seconds(-10 * 86_400))
        #expect(presence.distrustedUntil == Self.start + Self.day)
        #expect(Presence(file: directory.file, clock: clock).distrustedUntil == Self.start + Self.day)
    }

    @Test(
        "the clock itself is doubted after the same events, over restarts, until it is synchronized; not at the first start"
    )
    func doubtedClock() throws {
        let (directory, clock) = (try Directory(), ManualClock(Self.start))
        let isSynchronized = Mutex(false)
        func presence() -> Presence {
            Presence(file: directory.file, clock: clock) { isSynchronized.withLock(\.self) }
        }
        #expect(presence().clockDoubtedUntil == nil)
        #expect(presence().clockDoubtedUntil == nil, "ages are distrusted, the clock is not")
        clock.set(to: Self.start + Self.day * 10)
        let end = clock.now + Self.day
        #expect(presence().clockDoubtedUntil == end)
        clock.advance(to: clock.now + .seconds(3_600))
        let later = presence()
        #expect(later.clockDoubtedUntil == end)
        isSynchronized.withLock { $0 = true }
        #expect(later.clockDoubtedUntil == nil)
        isSynchronized.withLock { $0 = false }
        clock.advance(to: end)
        #expect(later.clockDoubtedUntil == nil)
        try later.clockWasSet(by: .seconds(-7_200))
        #expect(presence().clockDoubtedUntil == end + Self.day)
    }

    @Test(
        "a file that is damaged or cannot be written is distrusted, and said",
        arguments: ["", "x\ny\n", "1\n", "\u{0}"])
    func damaged(text: String) throws {
        let (directory, clock) = (try Directory(), ManualClock(Self.start))
        try text.write(toFile: directory.file.string, atomically: true, encoding: .utf8)
        let presence = Presence(file: directory.file, clock: clock)
        #expect(presence.lastSeen == nil && presence.distrustedUntil != nil && presence.notice == nil)
        let nowhere = Presence(file: directory.path.appending("none/alive"), clock: clock)
        #expect(nowhere.distrustedUntil != nil && nowhere.notice != nil)
    }
}
