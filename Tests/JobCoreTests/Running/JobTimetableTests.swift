import Synchronization
import TestSupport
import Testing

@testable import JobCore

@Suite struct JobTimetableTests {
    private static func table(_ lines: (String, String)...) throws -> JobTimetable<String> {
        JobTimetable<String>(try lines.map { .init($0.0, schedule: try CronSchedule(parsing: $0.1)) })
    }

    @Test("the next time is the earliest of all lines, strictly later, and an empty table has none")
    func next() throws {
        let table = try Self.table(("night", "30 2 * * *"), ("hour", "0 * * * *"), ("new year", "0 0 1 1 *"))
        let calendar = DayCalendar.utc
        func next(_ text: String) throws -> String? {
            JobTimetable<String>.Progress(table, from: try Timestamp(text), in: calendar).next?.text(in: calendar)
        }
        #expect(try next("2026-03-10 01:59 +00:00") == "2026-03-10 02:00 +00:00")
        #expect(try next("2026-03-10 02:00 +00:00") == "2026-03-10 02:30 +00:00")
        #expect(try next("2026-03-10 02:30 +00:00") == "2026-03-10 03:00 +00:00")
        #expect(JobTimetable<String>.Progress(JobTimetable(), from: .distantPast, in: calendar).next == nil)
        #expect(JobTimetable<String>.Progress(table, from: .distantFuture, in: calendar).next == nil)
    }

    @Test("jobs that became due in an interval come in the order of the lines, each once")
    func due() throws {
        let table = try Self.table(("hour", "0 * * * *"), ("night", "30 2 * * *"), ("noon", "0 12 * * *"))
        func due(_ from: String, _ to: String) throws -> [String] {
            var progress = JobTimetable<String>.Progress(table, from: try Timestamp(from), in: .utc)
            return progress.reach(try Timestamp(to))
        }
        #expect(try due("2026-03-10 00:30 +00:00", "2026-03-10 04:30 +00:00") == ["hour", "night"])
        #expect(try due("2026-03-10 02:00 +00:00", "2026-03-10 02:30 +00:00") == ["night"])
        #expect(try due("2026-03-10 02:30 +00:00", "2026-03-10 02:59 +00:00") == [])
        // A clock that was set back: nothing has come due.
        #expect(try due("2026-03-10 02:30 +00:00", "2026-03-10 01:00 +00:00") == [])
    }

    @Test(
        "a timetable that replaces another one goes on where that has stopped, and a line that was changed begins now")
    func replaced() throws {
        let before = try Self.table(("hour", "0 * * * *"), ("night", "30 2 * * *"))
        var progress = JobTimetable<String>.Progress(before, from: try Timestamp("2026-03-10 01:30 +00:00"), in: .utc)
        #expect(progress.reach(try Timestamp("2026-03-10 02:00 +00:00")) == ["hour"])
        let after = try Self.table(("hour", "0 * * * *"), ("night", "15 2 * * *"))
        let reload = try Timestamp("2026-03-10 03:00 +00:00")
        var next = JobTimetable<String>.Progress(after, from: reload, in: .utc, after: progress.reachedOfLines)
        #expect(next.reach(reload) == ["hour"])
        // After the clock was set back, what has run is still known.
        let corrected = try Timestamp("2026-03-10 01:59 +00:00")
        next = JobTimetable<String>.Progress(before, from: corrected, in: .utc, after: progress.reachedOfLines)
        #expect(next.reach(try Timestamp("2026-03-10 02:00 +00:00")) == [])
    }

    @Test(
        "at changes of daylight saving time a line for certain hours is due once, one for every hour in each hour"
    )
    func summerTime() throws {
        let table = try Self.table(("night", "30 2 * * *"), ("hour", "0 * * * *"))
        let zurich = DayCalendar.zurich
        func course(_ from: String, _ count: Int) throws -> [String] {
            var time = try Timestamp(from)
            return try (0..<count).map { _ in
                var progress = JobTimetable<String>.Progress(table, from: time, in: zurich)
                let next = try #require(progress.next)
                defer { time = next }
                let names = progress.reach(next)
                return "\(next.text(in: zurich)) \(names.joined(separator: " "))"
            }
        }
        #expect(
            try course("2026-03-29 00:30 +01:00", 3) == [
                "2026-03-29 01:00 +01:00 hour", "2026-03-29 03:00 +02:00 night hour", "2026-03-29 04:00 +02:00 hour",
            ])
        #expect(
            try course("2026-10-25 01:30 +02:00", 4) == [
                "2026-10-25 02:00 +02:00 hour", "2026-10-25 02:30 +02:00 night", "2026-10-25 02:00 +01:00 hour",
                "2026-10-25 03:00 +01:00 hour",
            ])
    }

    /// Follows a table on a clock that a test moves, and keeps what is asked for.
    private final class Follower: Sendable {
        let clock: ManualClock
        private let names = Mutex<[String]>([])
        private let task = Mutex<Task<Void, any Error>?>(nil)

        var asked: [String] { names.withLock { $0 } }

        init(_ table: JobTimetable<String>, at start: Timestamp) {
            clock = ManualClock(start)
            let running = Task { [clock] in
                try await table.run(clock: clock, in: .utc) { name in self.names.withLock { $0.append(name) } }
            }
            task.withLock { $0 = running }
        }

        func sleeps(until time: Timestamp) async throws {
            try await eventually("it sleeps until then") { self.clock.deadlines == [time] }
        }

        func end() async {
            let running = task.withLock { $0 }
            running?.cancel()
            let result = await running?.result
            #expect(throws: CancellationError.self) { try result?.get() }
        }
    }

    @Test("a timetable that replaces another one asks at once for what came in between, and tells how far it is")
    func handedOver() async throws {
        let table = try Self.table(("hour", "0 * * * *"))
        let clock = ManualClock(try Timestamp("2026-03-10 02:00 +00:00"))
        let line = try #require(table.lines.first)
        let asked = Mutex<[String]>([])
        let reached = Mutex<[JobTimetable<String>.Line: Timestamp]>([:])
        let running = Task {
            try await table.run(clock: clock, in: .utc, after: [line: clock.now + .seconds(-60)]) { times in
                reached.withLock { $0 = times }
            } ask: { name in
                asked.withLock { $0.append(name) }
            }
        }
        try await eventually("it is asked for") { asked.withLock { $0 } == ["hour"] }
        #expect(reached.withLock { $0 } == [line: clock.now])
        running.cancel()
        _ = await running.result
    }

    @Test("each line is asked for when it is due, and lines that became due while the machine slept once afterwards")
    func following() async throws {
        let table = try Self.table(("hour", "0 * * * *"), ("night", "30 2 * * *"))
        let follower = Follower(table, at: try Timestamp("2026-03-10 01:30 +00:00"))
        let two = try Timestamp("2026-03-10 02:00 +00:00")
        try await follower.sleeps(until: two)
        #expect(follower.asked == [])
        follower.clock.advance(to: two)
        try await follower.sleeps(until: two + .seconds(1_800))
        #expect(follower.asked == ["hour"])
        follower.clock.advance(to: two + .seconds(5 * 3_600 + 60))
        try await follower.sleeps(until: two + .seconds(6 * 3_600))
        #expect(follower.asked == ["hour", "hour", "night"])
        await follower.end()
    }

    @Test("no line is due twice when the clock is set back, before its time or after")
    func setBack() async throws {
        let start = try Timestamp("2026-03-10 01:30 +00:00")
        let clock = BackwardClock(start)
        let asked = Mutex<[Timestamp]>([])
        let table = try Self.table(("hour", "0 * * * *"))
        let running = Task {
            try await table.run(clock: clock, in: .utc) { _ in asked.withLock { $0.append(clock.deadline) } }
        }
        try await eventually("three hours have come") { asked.withLock { $0.count } == 3 }
        running.cancel()
        _ = await running.result
        let first = try Timestamp("2026-03-10 02:00 +00:00")
        #expect(asked.withLock { Array($0.prefix(3)) } == [first, first + .seconds(3_600), first + .seconds(7_200)])
    }

    @Test("lines that become due because the clock is set forward are asked for once, at once")
    func setForwardByDays() async throws {
        let start = try Timestamp("2026-03-10 01:30 +00:00")
        let follower = Follower(try Self.table(("minute", "* * * * *"), ("night", "30 2 * * *")), at: start)
        try await follower.sleeps(until: start + .seconds(60))
        follower.clock.set(to: start + .seconds(2 * 86_400))
        try await follower.sleeps(until: start + .seconds(2 * 86_400 + 60))
        #expect(follower.asked == ["minute", "night"])
        await follower.end()
    }

    @Test(
        "a clock that is set back by days delays no schedule by days; by less than a line's period it repeats no time"
    )
    func setBackByDays() async throws {
        let start = try Timestamp("2026-03-10 02:30 +00:00")
        let ahead = start + .seconds(2 * 86_400)
        let table = try Self.table(("minute", "* * * * *"), ("night", "30 2 * * *"))
        let follower = Follower(table, at: ahead + .seconds(-30))
        try await follower.sleeps(until: ahead)
        try await eventually("it listens") { follower.clock.listenerCount == 1 }
        follower.clock.advance(to: ahead)
        try await follower.sleeps(until: ahead + .seconds(60))
        #expect(follower.asked == ["minute", "night"])
        // An hour: what comes every minute goes on at once, the night's time does not come again.
        follower.clock.set(to: ahead + .seconds(-3_600))
        try await follower.sleeps(until: ahead + .seconds(-3_540))
        for minute in -59...0 {
            follower.clock.advance(to: ahead + .seconds(minute * 60))
            try await follower.sleeps(until: ahead + .seconds(minute * 60 + 60))
        }
        #expect(follower.asked.count { $0 == "minute" } == 61)
        #expect(follower.asked.count { $0 == "night" } == 1)
        // Two days: both go on.
        follower.clock.set(to: start + .seconds(-60))
        try await follower.sleeps(until: start)
        follower.clock.advance(to: start)
        try await eventually("the night comes again") { follower.asked.count { $0 == "night" } == 2 }
        await follower.end()
    }

    @Test("a clock that was ahead by most of a line's period skips no run")
    func setBackByMostOfAPeriod() async throws {
        let ahead = try Timestamp("2026-03-10 02:29 +00:00")
        let follower = Follower(try Self.table(("night", "30 2 * * *")), at: ahead)
        try await follower.sleeps(until: ahead + .seconds(60))
        try await eventually("it listens") { follower.clock.listenerCount == 1 }
        follower.clock.advance(to: ahead + .seconds(60))
        try await follower.sleeps(until: ahead + .seconds(86_460))
        follower.clock.set(to: ahead + .seconds(-20 * 3_600))
        try await follower.sleeps(until: ahead + .seconds(60))
        follower.clock.advance(to: ahead + .seconds(60))
        try await eventually("the night comes by the right clock, too") { follower.asked == ["night", "night"] }
        await follower.end()
    }

    @Test("a correction by seconds runs nothing twice")
    func setBackBySeconds() async throws {
        let start = try Timestamp("2026-03-10 01:59 +00:00")
        let two = start + .seconds(60)
        let follower = Follower(try Self.table(("hour", "0 * * * *")), at: start)
        try await follower.sleeps(until: two)
        try await eventually("it listens") { follower.clock.listenerCount == 1 }
        follower.clock.advance(to: two)
        try await follower.sleeps(until: two + .seconds(3_600))
        follower.clock.set(to: two + .seconds(-2))
        follower.clock.advance(to: two + .seconds(3_599))
        try await follower.sleeps(until: two + .seconds(3_600))
        #expect(follower.asked == ["hour"])
        await follower.end()
    }

    @Test("a table without future lines asks for nothing and ends when it is cancelled")
    func nothing() async throws {
        let follower = Follower(JobTimetable<String>(), at: Timestamp(secondsSince1970: 1_000))
        try await follower.sleeps(until: .distantFuture)
        await follower.end()
        #expect(follower.asked == [])
    }
}

/// After a sleep it is an hour before the time of the sleep. It sleeps three times.
private final class BackwardClock: WallClock {
    private let state: Mutex<(now: Timestamp, deadline: Timestamp, sleeps: Int)>

    init(_ now: Timestamp) { state = Mutex((now, now, 0)) }

    var now: Timestamp { state.withLock { $0.now } }
    /// The time of the last sleep.
    var deadline: Timestamp { state.withLock { $0.deadline } }

    func sleep(until deadline: Timestamp) async throws {
        let isOver = state.withLock { state in
            state.sleeps += 1
            state.now = deadline + .seconds(-3_600)
            state.deadline = deadline
            return state.sleeps > 3
        }
        if isOver { try await Task.sleep(for: .seconds(3_600)) }
    }
}
