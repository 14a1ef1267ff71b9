import JobCore
import Testing

@testable import BackupService

/// When a level is due, and when another snapshot is too soon.
@Suite struct LevelTimingTests {
    private static let utc = DayCalendar { _ in 0 }
    /// 2027-01-15 08:00:00 UTC, a Friday.
    private static let start = Timestamp(secondsSince1970: 1_800_000_000)

    private static func timing(_ level: SnapshotLevel, _ schedule: String? = nil) throws -> LevelTiming {
        var jobs = BackupJobsConfiguration()
        if let schedule { jobs.schedules[level] = try CronSchedule(parsing: schedule) }
        return LevelTiming(level, jobs, calendar: utc)
    }

    private static func succeeded(_ level: SnapshotLevel, hoursAgo hours: Int) -> SnapshotState {
        var state = SnapshotState()
        state.record(success: level, at: start + .seconds(-hours * 3_600))
        return state
    }

    @Test(
        "a snapshot is recent for half of its level's period",
        arguments: [
            (.daily, 11, 13), (.weekly, 3 * 24 + 11, 3 * 24 + 13), (.monthly, 15 * 24 - 1, 15 * 24 + 1),
            (.yearly, 182 * 24, 183 * 24),
        ] as [(SnapshotLevel, Int, Int)])
    func natural(level: SnapshotLevel, recent: Int, old: Int) throws {
        let timing = try Self.timing(level)
        let state = Self.succeeded(level, hoursAgo: recent)
        #expect(timing.recentSuccess(state, now: Self.start) == state.lastSuccess(of: level))
        #expect(timing.recentSuccess(Self.succeeded(level, hoursAgo: old), now: Self.start) == nil)
        #expect(timing.recentSuccess(SnapshotState(), now: Self.start) == nil)
    }

    @Test("a schedule determines the period: every six hours, or at night except for weekends")
    func scheduled() throws {
        let often = try Self.timing(.daily, "0 */6 * * *")
        #expect(often.recentSuccess(Self.succeeded(.daily, hoursAgo: 2), now: Self.start) != nil)
        #expect(often.recentSuccess(Self.succeeded(.daily, hoursAgo: 4), now: Self.start) == nil)
        let workdays = try Self.timing(.daily, "30 2 * * 1-5")
        #expect(workdays.recentSuccess(Self.succeeded(.daily, hoursAgo: 5), now: Self.start) != nil)
        #expect(workdays.recentSuccess(Self.succeeded(.daily, hoursAgo: 13), now: Self.start) == nil)
        let uneven = try Self.timing(.daily, "0 3,6 * * *")
        #expect(uneven.recentSuccess(Self.succeeded(.daily, hoursAgo: 2), now: Self.start) == nil)
    }

    @Test(
        "every time of an uneven schedule makes a run",
        arguments: ["30 2 * * 1-5", "0 3,6 * * *", "0 8-18 * * 1-5"])
    func uneven(schedule: String) throws {
        let timing = try Self.timing(.daily, schedule)
        let times = sequence(first: Self.start) { try? CronSchedule(parsing: schedule).next(after: $0, in: Self.utc) }
        for time in times.dropFirst().prefix(60) {
            var state = SnapshotState()
            let before = sequence(first: time + .seconds(-8 * 86_400)) {
                try? CronSchedule(parsing: schedule).next(after: $0, in: Self.utc)
            }.prefix { $0 < time }.reversed().first
            state.record(success: .daily, at: try #require(before) + .seconds(600))
            #expect(timing.isDue(state, provisioned: nil, since: nil, now: time), "\(time)")
        }
    }

    @Test("a success in the future was recorded with a wrong clock and is ignored")
    func future() throws {
        let state = Self.succeeded(.daily, hoursAgo: -48)
        #expect(try Self.timing(.daily).recentSuccess(state, now: Self.start) == nil)
    }

    private static let nightly = "0 3 * * *"
    /// 03:00 of the day of ``start``.
    private static let night = start + .seconds(-5 * 3_600)

    @Test("a level is due when a time of its schedule lies between its last success and now")
    func due() throws {
        let timing = try Self.timing(.daily, Self.nightly)
        func isDue(_ state: SnapshotState, now: Timestamp = Self.start) -> Bool {
            timing.isDue(state, provisioned: nil, since: Self.start, now: now)
        }
        #expect(isDue(Self.succeeded(.daily, hoursAgo: 29)))
        #expect(isDue(Self.succeeded(.daily, hoursAgo: 24 * 30)), "once, however many were missed")
        #expect(!isDue(Self.succeeded(.daily, hoursAgo: 4)))
        #expect(!isDue(Self.succeeded(.daily, hoursAgo: 29), now: Self.night + .seconds(-1)))
        #expect(isDue(Self.succeeded(.daily, hoursAgo: 8)), "03:00 lies between")
        #expect(isDue(Self.succeeded(.weekly, hoursAgo: 1)) == false, "nothing is known of the daily ones, since now")
        let never = try Self.timing(.daily)
        #expect(!never.isDue(Self.succeeded(.daily, hoursAgo: 100), provisioned: nil, since: nil, now: Self.start))
    }

    @Test(
        "a missed run is repeated once: a failed job of the level counts"
    )
    func attempts() throws {
        let timing = try Self.timing(.daily, Self.nightly)
        let state = Self.succeeded(.daily, hoursAgo: 48)
        func isDue(failed: Timestamp?) -> Bool {
            timing.isDue(state, failed: failed, provisioned: nil, since: nil, now: Self.start)
        }
        #expect(isDue(failed: nil))
        #expect(!isDue(failed: Self.night))
        #expect(isDue(failed: Self.night + .seconds(-1)))
    }

    @Test(
        "an account without a success is due by its provisioning, or if that is unknown by the last time the daemon ran"
    )
    func neverSucceeded() throws {
        let timing = try Self.timing(.daily, Self.nightly)
        func isDue(provisioned: Timestamp?, since: Timestamp?) -> Bool {
            timing.isDue(SnapshotState(), provisioned: provisioned, since: since, now: Self.start)
        }
        let (before, after) = (Self.night + .seconds(-60), Self.night + .seconds(60))
        #expect(isDue(provisioned: before, since: after))
        #expect(!isDue(provisioned: after, since: before), "it was not there at 03:00")
        #expect(isDue(provisioned: nil, since: before))
        #expect(!isDue(provisioned: nil, since: after))
        #expect(isDue(provisioned: nil, since: nil), "its time has come just now")
        #expect(!isDue(provisioned: after, since: nil))
    }

    @Test("a clock that is corrected by a few minutes repeats no run")
    func corrected() throws {
        let timing = try Self.timing(.daily, Self.nightly)
        // It was two minutes ahead.
        var state = SnapshotState()
        state.record(success: .daily, at: Self.night + .seconds(60))
        let corrected = Self.night + .seconds(-60)
        #expect(!timing.isDue(state, provisioned: nil, since: nil, now: corrected))
        #expect(!timing.isDue(state, provisioned: nil, since: nil, now: Self.night + .seconds(10)))
        #expect(timing.recentSuccess(state, now: corrected) != nil)
        // A day ahead, and corrected since: the run of this night is none of those that were made.
        state.record(success: .daily, at: Self.night + .seconds(1_200))
        #expect(timing.isDue(state, provisioned: Self.night + .seconds(-86_400), since: nil, now: Self.night))
    }

    @Test("times recorded while the clock was ahead do not delay an account")
    func recordedAhead() throws {
        let timing = try Self.timing(.daily, Self.nightly)
        let ahead = Self.succeeded(.daily, hoursAgo: -48)
        #expect(timing.isDue(ahead, provisioned: Self.night + .seconds(-60), since: nil, now: Self.start))
        #expect(timing.isDue(ahead, provisioned: Self.start + .seconds(60), since: nil, now: Self.start))
        // A restart after the correction makes no snapshot that pushes an old one out.
        let provisioned = Self.night + .seconds(-86_400 * 100)
        #expect(!timing.isDue(ahead, provisioned: provisioned, since: Self.start, now: Self.start))
    }
}
