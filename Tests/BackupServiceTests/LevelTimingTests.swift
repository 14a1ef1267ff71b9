import JobCore
import Testing

@testable import BackupService

/// When a level is due, when it is overdue, and when another snapshot is too soon.
@Suite struct LevelTimingTests {
    private static let utc = DayCalendar { _ in 0 }
    /// 2027-01-15 08:00:00 UTC, a Friday.
    private static let start = Timestamp(secondsSince1970: 1_800_000_000)

    private static func timing(
        _ level: SnapshotLevel, _ schedule: String? = nil, timeLimit: Duration = .zero
    ) throws -> LevelTiming {
        var jobs = BackupJobsConfiguration()
        jobs.timeLimit = timeLimit
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

    // MARK: - Overdue

    private static func hours(_ hours: Double) -> Duration { .seconds(Int64(hours * 3_600)) }

    @Test("a success is overdue one and a half periods and the time limit after the last, and weekends may be left out")
    func deadline() throws {
        let daily = try Self.timing(.daily, "0 0 * * *", timeLimit: Self.hours(1))
        // 08:00 on a Friday.
        #expect(daily.deadline(after: Self.start) == Self.start + Self.hours(16 + 12 + 1))
        let workdays = try Self.timing(.daily, "0 0 * * 1-5")
        // The next one is on Friday at 0:00, the one after it on Monday.
        #expect(workdays.deadline(after: Self.start + Self.hours(-24)) == Self.start + Self.hours(-8 + 36))
        #expect(try Self.timing(.daily).deadline(after: Self.start) == nil)
    }

    @Test("no success is expected while the window is closed")
    func window() throws {
        let hourly = "0 * * * *"
        let opening = try #require(CronSchedule(parsing: "0 18 * * *").next(after: Self.start, in: Self.utc))
        // Ten minutes before it closes.
        let success = opening + Self.hours(-8) + .seconds(-600)
        let timing = try Self.timing(.hourly, hourly)
        let night = try TimeWindow(parsing: "18:00-10:00")
        #expect(timing.deadline(after: success, window: night) == opening + .seconds(30 * 60))
        // Ten minutes before the last run of the night.
        let early = try TimeWindow(parsing: "18:00-09:20")
        #expect(timing.deadline(after: success + Self.hours(-1), window: early) == opening)
    }

    @Test("what counts as the last success: a whole copy; for a larger level also that there was nothing to take over")
    func lastSuccess() throws {
        let timing = try Self.timing(.daily, "0 0 * * *")
        let (earlier, later) = (Self.start + Self.hours(-20 * 24), Self.start + Self.hours(-10 * 24))
        func deadline(
            _ copies: Bool, success: Timestamp?, completion: Timestamp?, provisioned: Timestamp? = nil
        ) -> Timestamp? {
            timing.deadline(
                lastSuccess: success, lastCompletion: completion, copies: copies, provisioned: provisioned,
                window: nil, now: Self.start)
        }
        #expect(deadline(true, success: earlier, completion: later) == timing.deadline(after: earlier))
        #expect(deadline(false, success: earlier, completion: later) == timing.deadline(after: later))
        #expect(deadline(false, success: nil, completion: later) == timing.deadline(after: later))
        let never = deadline(true, success: nil, completion: nil, provisioned: earlier)
        #expect(never == timing.deadline(after: earlier))
        let known = deadline(true, success: later, completion: later, provisioned: earlier)
        #expect(known == timing.deadline(after: later))
        #expect(deadline(true, success: nil, completion: nil) == nil)
        let unscheduled = try Self.timing(.daily).deadline(
            lastSuccess: earlier, lastCompletion: nil, copies: true, provisioned: nil, window: nil,
            now: Self.start)
        #expect(unscheduled == nil)
    }

    // MARK: - After a correction of the clock

    /// An account that was provisioned long ago, after the clock was set back. Hours are counted from 03:00, when its nightly level is to run.
    struct Corrected: CustomTestStringConvertible, Sendable {
        let testDescription: String
        var now = 0.0
        var success: Double
        /// Of a copy that was not whole; nil: the success was the last job.
        var partial: Double?
        /// nil: the schedule asks. Otherwise a start asks, and the daemon was last alive then.
        var aliveUntil: Double?
        var isDue: Bool
        var isOverdue: Bool
    }

    private static let minutes = 1.0 / 60

    @Test(
        "after a correction of the clock",
        arguments: [
            Corrected("set back by 2 minutes after the run", success: 1 * minutes, isDue: false, isOverdue: false),
            Corrected("success ahead by 14 minutes", success: 14 * minutes, isDue: false, isOverdue: false),
            Corrected("success ahead by 16 minutes", success: 16 * minutes, isDue: true, isOverdue: false),
            Corrected("success ahead by a day", success: 24, isDue: true, isOverdue: false),
            Corrected("success ahead by months", success: 2_000, isDue: true, isOverdue: false),
            // Their success may be one of yesterday or of just now: the clock does not tell.
            Corrected("set back by a day after a quick run", success: 5 * minutes, isDue: false, isOverdue: false),
            Corrected("set back by a day after a slow run", success: 1, isDue: true, isOverdue: false),
            Corrected(
                "a partial copy since, success ahead by 16 minutes", now: 1, success: 1 + 16 * minutes, partial: 0.5,
                isDue: false, isOverdue: false),
            Corrected(
                "a partial copy since, success ahead by 11 hours", now: 1, success: 12, partial: 0.5, isDue: false,
                isOverdue: false),
            Corrected(
                "only partial copies since, success ahead by months", now: 1, success: 2_000, partial: 0.5,
                isDue: false, isOverdue: true),
            // A restart makes no snapshot that pushes an old one out; the next time of the schedule makes one.
            Corrected(
                "a restart, also in the middle of a run, success ahead by days", now: 1, success: 48, aliveUntil: 0.5,
                isDue: false,
                isOverdue: false),
            Corrected(
                "a run was missed while no daemon ran, success ahead by days", now: 1, success: 48, aliveUntil: -1,
                isDue: true, isOverdue: false),
            Corrected(
                "a restart, and the daemon was last alive ahead as well", now: 1, success: 48, aliveUntil: 47,
                isDue: false, isOverdue: false),
        ])
    func corrected(_ account: Corrected) throws {
        func time(_ hours: Double) -> Timestamp { Self.night + Self.hours(hours) }
        let timing = try Self.timing(.daily, Self.nightly)
        var state = SnapshotState()
        state.record(success: .daily, at: time(account.success))
        if let partial = account.partial {
            state.complete(.init(number: 1, created: 0), level: "daily", .init(isWhole: false), at: time(partial))
        }
        let (provisioned, now) = (time(-24 * 100), time(account.now))
        #expect(
            timing.isDue(state, provisioned: provisioned, since: account.aliveUntil.map(time), now: now)
                == account.isDue)
        let deadline = timing.deadline(
            lastSuccess: state.lastSuccess(of: .daily), lastCompletion: state.lastCompletion(of: .daily), copies: true,
            provisioned: provisioned, window: nil, now: now)
        #expect(deadline.map { $0 < now } ?? false == account.isOverdue)
    }

    @Test("a success that is a little ahead is recent")
    func recentAhead() throws {
        let timing = try Self.timing(.daily, Self.nightly)
        #expect(timing.recentSuccess(Self.succeeded(.daily, hoursAgo: 0), now: Self.start + .seconds(-120)) != nil)
        #expect(timing.recentSuccess(Self.succeeded(.daily, hoursAgo: 0), now: Self.start + .seconds(-1_200)) == nil)
    }
}

extension LevelTimingTests.Corrected {
    init(
        _ text: String, now: Double = 0, success: Double, partial: Double? = nil, aliveUntil: Double? = nil,
        isDue: Bool, isOverdue: Bool
    ) {
        testDescription = text
        (self.now, self.success, self.partial, self.aliveUntil) = (now, success, partial, aliveUntil)
        (self.isDue, self.isOverdue) = (isDue, isOverdue)
    }
}
