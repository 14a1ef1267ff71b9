import JobCore
import Testing

@testable import BackupRsnapshot

/// When a level is due, and when another snapshot is too soon: by values alone.
@Suite struct LevelTimingTests {
    private static let utc = DayCalendar { _ in 0 }
    /// 2027-01-15 08:00:00 UTC, a Friday.
    private static let start = WallTime(secondsSince1970: 1_800_000_000)

    private static func timing(_ level: SnapshotLevel, _ schedule: String? = nil) throws -> LevelTiming {
        var jobs = BackupJobsConfiguration(host: "backup1")
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

    @Test("the schedule's own period counts where there is one: every six hours, or over a weekend the next two times")
    func scheduled() throws {
        let often = try Self.timing(.daily, "0 */6 * * *")
        #expect(often.recentSuccess(Self.succeeded(.daily, hoursAgo: 2), now: Self.start) != nil)
        #expect(often.recentSuccess(Self.succeeded(.daily, hoursAgo: 4), now: Self.start) == nil)
        let workdays = try Self.timing(.daily, "30 2 * * 1-5")
        #expect(workdays.recentSuccess(Self.succeeded(.daily, hoursAgo: 5), now: Self.start) != nil)
    }

    @Test("a success in the future was recorded by a wrong clock and is none")
    func future() throws {
        let state = Self.succeeded(.daily, hoursAgo: -48)
        #expect(try Self.timing(.daily).recentSuccess(state, now: Self.start) == nil)
    }
}
