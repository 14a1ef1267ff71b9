import Foundation
import JobCore
import TestSupport
import Testing

@Suite struct CronScheduleTests {
    // MARK: What happens when

    struct Row: CustomTestStringConvertible, Sendable {
        let schedule: String
        let calendar: DayCalendar
        let after: String
        /// The next times, one after the other.
        let next: [String]

        init(_ schedule: String, _ calendar: DayCalendar = .utc, after: String, _ next: String...) {
            (self.schedule, self.calendar, self.after, self.next) = (schedule, calendar, after, next)
        }

        var testDescription: String { "\(schedule) after \(after)" }
    }

    @Test(
        "a schedule happens when its fields say",
        arguments: [
            Row("* * * * *", after: "2026-01-01 00:00 +00:00", "2026-01-01 00:01 +00:00", "2026-01-01 00:02 +00:00"),
            Row("30 2 * * *", after: "2026-01-01 02:30 +00:00", "2026-01-02 02:30 +00:00"),
            Row("30 2 * * *", after: "2026-01-01 02:29 +00:00", "2026-01-01 02:30 +00:00"),
            Row(
                "*/20 8-9 * * *", after: "2026-01-01 08:20 +00:00", "2026-01-01 08:40 +00:00", "2026-01-01 09:00 +00:00"
            ),
            Row(
                "5-20/5,50 0 * * *", after: "2026-01-01 00:15 +00:00", "2026-01-01 00:20 +00:00",
                "2026-01-01 00:50 +00:00"),
            Row(
                "0 0 1 JAN,jul *", after: "2026-01-01 00:00 +00:00", "2026-07-01 00:00 +00:00",
                "2027-01-01 00:00 +00:00"),
            // 21 November 2026 is a Saturday.
            Row("0 4 * * 0", after: "2026-11-21 06:00 +00:00", "2026-11-22 04:00 +00:00"),
            Row("0 4 * * 7", after: "2026-11-21 06:00 +00:00", "2026-11-22 04:00 +00:00"),
            Row("0 4 * * mon-Fri", after: "2026-11-21 06:00 +00:00", "2026-11-23 04:00 +00:00"),
            Row("0 4 * * fri-sun", after: "2026-11-22 05:00 +00:00", "2026-11-27 04:00 +00:00"),
            Row("0 4 * * 5-7", after: "2026-11-21 03:00 +00:00", "2026-11-21 04:00 +00:00", "2026-11-22 04:00 +00:00"),
            Row("0 4 * * */2", after: "2026-11-22 05:00 +00:00", "2026-11-24 04:00 +00:00", "2026-11-26 04:00 +00:00"),
            // Either day is enough when neither field has a star; else both must fit.
            Row("0 0 13 * 5", after: "2026-11-13 00:00 +00:00", "2026-11-20 00:00 +00:00"),
            Row("0 0 13 * 5", after: "2026-12-11 00:00 +00:00", "2026-12-13 00:00 +00:00"),
            Row("0 0 */13 * 5", after: "2026-11-13 00:00 +00:00", "2026-11-27 00:00 +00:00"),
            Row("0 0 1-7 * */7", after: "2026-11-13 00:00 +00:00", "2026-12-06 00:00 +00:00"),
            Row("0 0 31 * *", after: "2026-01-31 00:00 +00:00", "2026-03-31 00:00 +00:00", "2026-05-31 00:00 +00:00"),
            // Leap days, also over a century that has none, and on a day of the week.
            Row("0 0 29 2 *", after: "2026-01-01 00:00 +00:00", "2028-02-29 00:00 +00:00", "2032-02-29 00:00 +00:00"),
            Row("0 0 29 2 *", after: "2096-03-01 00:00 +00:00", "2104-02-29 00:00 +00:00"),
            Row("0 0 29 2 */7", after: "2088-03-01 00:00 +00:00", "2128-02-29 00:00 +00:00"),
            Row("@hourly", after: "2026-01-01 00:00 +00:00", "2026-01-01 01:00 +00:00"),
            Row("@daily", after: "2026-01-01 00:00 +00:00", "2026-01-02 00:00 +00:00"),
            Row("@midnight", after: "2026-01-01 00:00 +00:00", "2026-01-02 00:00 +00:00"),
            Row("@weekly", after: "2026-11-21 00:00 +00:00", "2026-11-22 00:00 +00:00"),
            Row("@Monthly", after: "2026-11-21 00:00 +00:00", "2026-12-01 00:00 +00:00"),
            Row("@yearly", after: "2026-11-21 00:00 +00:00", "2027-01-01 00:00 +00:00"),
            Row("@annually", after: "2026-11-21 00:00 +00:00", "2027-01-01 00:00 +00:00"),
        ])
    func happens(row: Row) throws { try check(row) }

    @Test(
        "where clocks are changed, fixed times count once and hourly ones go by the time that passes",
        arguments: [
            Row(
                "30 2 * * *", .zurich, after: "2026-03-28 12:00 +01:00", "2026-03-29 03:00 +02:00",
                "2026-03-30 02:30 +02:00"),
            Row(
                "0 2 * * *", .zurich, after: "2026-03-28 12:00 +01:00", "2026-03-29 03:00 +02:00",
                "2026-03-30 02:00 +02:00"),
            Row(
                "0 3 * * *", .zurich, after: "2026-03-28 12:00 +01:00", "2026-03-29 03:00 +02:00",
                "2026-03-30 03:00 +02:00"),
            Row(
                "*/10 2,3 29 * *", .zurich, after: "2026-03-29 01:59 +01:00", "2026-03-29 03:00 +02:00",
                "2026-03-29 03:10 +02:00"),
            Row(
                "0 */2 * * *", .zurich, after: "2026-03-29 00:00 +01:00", "2026-03-29 03:00 +02:00",
                "2026-03-29 04:00 +02:00"),
            Row(
                "30 * * * *", .zurich, after: "2026-03-29 01:00 +01:00", "2026-03-29 01:30 +01:00",
                "2026-03-29 03:30 +02:00"),
            Row(
                "30 2 * * *", .zurich, after: "2026-10-24 12:00 +02:00", "2026-10-25 02:30 +02:00",
                "2026-10-26 02:30 +01:00"),
            Row(
                "0 3 * * *", .zurich, after: "2026-10-25 02:30 +01:00", "2026-10-25 03:00 +01:00",
                "2026-10-26 03:00 +01:00"),
            Row("30 2 * * *", .zurich, after: "2026-10-25 02:10 +01:00", "2026-10-26 02:30 +01:00"),
            Row(
                "0 * * * *", .zurich, after: "2026-10-25 01:30 +02:00", "2026-10-25 02:00 +02:00",
                "2026-10-25 02:00 +01:00", "2026-10-25 03:00 +01:00"),
            Row(
                "*/30 * * * *", .zurich, after: "2026-10-25 02:00 +02:00", "2026-10-25 02:30 +02:00",
                "2026-10-25 02:00 +01:00", "2026-10-25 02:30 +01:00", "2026-10-25 03:00 +01:00"),
            Row(
                "15 2 * * *", .newYork, after: "2026-03-07 12:00 -05:00", "2026-03-08 03:00 -04:00",
                "2026-03-09 02:15 -04:00"),
            Row(
                "15 1 * * *", .newYork, after: "2026-10-31 12:00 -04:00", "2026-11-01 01:15 -04:00",
                "2026-11-02 01:15 -05:00"),
            Row(
                "15 * * * *", .newYork, after: "2026-11-01 01:00 -04:00", "2026-11-01 01:15 -04:00",
                "2026-11-01 01:15 -05:00"),
            Row(
                "15 2 * * *", .lordHowe, after: "2026-10-03 12:00 +10:30", "2026-10-04 02:30 +11:00",
                "2026-10-05 02:15 +11:00"),
            Row(
                "45 1 * * *", .lordHowe, after: "2026-04-04 12:00 +11:00", "2026-04-05 01:45 +11:00",
                "2026-04-06 01:45 +10:30"),
            Row(
                "*/15 * * * *", .lordHowe, after: "2026-04-05 01:30 +11:00", "2026-04-05 01:45 +11:00",
                "2026-04-05 01:30 +10:30", "2026-04-05 01:45 +10:30", "2026-04-05 02:00 +10:30"),
            Row(
                "0 0 * * *", .saoPaulo, after: "2018-11-03 12:00 -03:00", "2018-11-04 01:00 -02:00",
                "2018-11-05 00:00 -02:00"),
            Row("59 * 6 11 *", .stJohns, after: "2010-11-07 00:00 -02:30", "2010-11-06 23:59 -03:30"),
            Row(
                "0 12 * * *", .apia, after: "2011-12-29 12:00 -10:00", "2011-12-31 00:00 +14:00",
                "2011-12-31 12:00 +14:00"),
        ])
    func clockChanges(row: Row) throws { try check(row) }

    private func check(_ row: Row) throws {
        let schedule = try CronSchedule(parsing: row.schedule)
        var moment = try Timestamp(row.after)
        for expected in row.next {
            moment = try #require(schedule.next(after: moment, in: row.calendar))
            #expect(moment.text(in: row.calendar) == expected)
        }
    }

    @Test("seconds and fractions of a minute do not matter, and no time comes after the last")
    func edges() throws {
        let schedule = try CronSchedule(parsing: "* * * * *")
        let minute = try Timestamp("2026-01-01 00:01 +00:00")
        #expect(schedule.next(after: minute + .nanoseconds(-1), in: .utc) == minute)
        #expect(schedule.next(after: minute + .nanoseconds(1), in: .utc) == minute + .seconds(60))
        #expect(schedule.next(after: .distantFuture, in: .utc) == nil)
        #expect(schedule.next(after: .distantPast, in: .utc) != nil)
    }

    // MARK: Against an oracle

    /// Looks at every minute of some days, and keeps the latest that the clock has shown.
    private struct Oracle {
        /// Every minute that passes, with the minutes that the clock shows for the first time then, and the one that it shows.
        var minutes: [(moment: Timestamp, new: [LocalTime], shown: LocalTime)] = []

        init(_ calendar: DayCalendar, from start: Timestamp, days: Int) {
            var moment = start
            var latest = calendar.localTime(at: moment + .seconds(-60))
            for _ in 0..<days * 1_440 {
                let shown = calendar.localTime(at: moment)
                var new: [LocalTime] = []
                while latest < shown {
                    latest =
                        latest.secondOfDay + 60 < 86_400
                        ? LocalTime(
                            day: latest.day, hour: (latest.secondOfDay + 60) / 3_600, minute: (latest.minute + 1) % 60)
                        : LocalTime(day: latest.day.adding(days: 1), hour: 0, minute: 0)
                    new.append(latest)
                }
                minutes.append((moment, new, shown))
                moment = moment + .seconds(60)
            }
        }
    }

    private struct RandomSchedule {
        var minutes: Set<Int>
        var hours: Set<Int>
        var days: Set<Int>
        var weekdays: Set<Int>

        init(using generator: inout SeededGenerator) {
            func some(_ range: ClosedRange<Int>) -> Set<Int> {
                if Bool.random(using: &generator) { return Set(range) }
                return Set(
                    (0..<Int.random(in: 1...4, using: &generator)).map { _ in .random(in: range, using: &generator) })
            }
            (minutes, hours, days, weekdays) = (some(0...59), some(0...4), some(1...31), some(0...6))
            // Every minute would say no more than every seventh, and take long.
            if minutes.count == 60 { minutes = Set(stride(from: 0, to: 60, by: 7)) }
            if Bool.random(using: &generator) { hours = Set(0...23) }
        }

        private func field(_ values: Set<Int>, whole: Int) -> String {
            values.count == whole ? "*" : values.sorted().map(String.init).joined(separator: ",")
        }

        var text: String {
            "\(field(minutes, whole: 60)) \(field(hours, whole: 24)) \(field(days, whole: 31)) * \(field(weekdays, whole: 7))"
        }

        func fits(_ local: LocalTime) -> Bool {
            let fits = (days.contains(local.day.day), weekdays.contains(local.day.weekday))
            let isDay = days.count < 31 && weekdays.count < 7 ? fits.0 || fits.1 : fits.0 && fits.1
            return isDay && hours.contains(local.hour) && minutes.contains(local.minute)
        }
    }

    struct Span: CustomTestStringConvertible, Sendable {
        let zone: String
        let start: String
        var testDescription: String { "\(zone) from \(start)" }
    }

    @Test(
        "any schedule happens when a look at every minute says so",
        arguments: [
            Span(zone: "Europe/Zurich", start: "2026-03-27 00:00 +00:00"),
            Span(zone: "Europe/Zurich", start: "2026-10-23 00:00 +00:00"),
            Span(zone: "America/New_York", start: "2026-03-06 00:00 +00:00"),
            Span(zone: "America/New_York", start: "2026-10-30 00:00 +00:00"),
            Span(zone: "Australia/Lord_Howe", start: "2026-10-02 00:00 +00:00"),
            Span(zone: "Australia/Lord_Howe", start: "2026-04-03 00:00 +00:00"),
            Span(zone: "America/St_Johns", start: "2010-11-05 00:00 +00:00"),
            Span(zone: "Pacific/Apia", start: "2011-12-28 00:00 +00:00"),
            Span(zone: "Etc/UTC", start: "2028-02-27 00:00 +00:00"),
        ])
    func oracle(span: Span) throws {
        let calendar = DayCalendar.zone(span.zone)
        let start = try Timestamp(span.start)
        let oracle = Oracle(calendar, from: start, days: 3)
        var generator = SeededGenerator(seed: 20_261_121)
        for _ in 0..<12 {
            let random = RandomSchedule(using: &generator)
            let schedule = try CronSchedule(parsing: random.text)
            let expected = oracle.minutes.filter { minute in
                random.hours.count == 24 ? random.fits(minute.shown) : minute.new.contains { random.fits($0) }
            }.map(\.moment)
            var found: [Timestamp] = []
            var moment = start + .nanoseconds(-1)
            while let next = schedule.next(after: moment, in: calendar), let last = oracle.minutes.last?.moment,
                next <= last
            {
                found.append(next)
                moment = next
            }
            #expect(found == expected, "\(random.text)")
        }
    }

    // MARK: What is refused

    @Test(
        "a wrong schedule is refused with field, position and hint",
        arguments: [
            ("60 * * * *", "minute", 1, "write * or a number from 0 to 59"),
            ("0 24 * * *", "hour", 3, "write * or a number from 0 to 23"),
            ("0 0 0 * *", "day of month", 5, "write * or a number from 1 to 31"),
            ("0 0 * 13 *", "month", 7, "write * or a number from 1 to 12, or jan to dec"),
            ("0  0 * * 8", "day of week", 10, "write * or a number from 0 to 7, or sun to sat"),
            ("0 0 * * monday", "day of week", 9, "write * or a number from 0 to 7, or sun to sat"),
            ("-1 0 * * *", "minute", 1, "write * or a number from 0 to 59"),
            ("0 1, * * *", "hour", 5, "write * or a number from 0 to 23"),
            ("0 1- * * *", "hour", 5, "write * or a number from 0 to 23"),
            ("0 22-3 * * *", "hour", 3, "write two ranges, such as 22-23,0-3"),
            ("0 0 * * fri-mon", "day of week", 9, "write two ranges, such as fri-6,0-mon"),
            ("*/0 * * * *", "minute", 3, "write a number from 1 to 60"),
            ("*/90 * * * *", "minute", 3, "write a number from 1 to 60"),
            ("*/ * * * *", "minute", 3, "write a number from 1 to 60"),
            ("5/15 * * * *", "minute", 2, "write */N for all, or FIRST-59/N"),
            ("0 2.5 * * *", "hour", 4, "write *, 0, 0-23, or a list of these split by commas"),
            ("0 ** * * *", "hour", 4, "write *, 0, 0-23, or a list of these split by commas"),
            ("0 99999999999999999999 * * *", "hour", 3, "write * or a number from 0 to 23"),
            ("0 ٣ * * *", "hour", 3, "write * or a number from 0 to 23"),
            ("0 0 30 2 *", "day of month", 5, "write an existing day"),
            ("0 0 31 4,jun,9,11 *", "day of month", 5, "write an existing day"),
        ] as [(String, String, Int, String)])
    func refused(text: String, field: String, position: Int, hint: String) {
        let error = #expect(throws: SettingValueError.self) { try CronSchedule(parsing: text) }
        #expect(error?.reason.hasPrefix("\(field) (character \(position)): ") == true, "\(error?.reason ?? "")")
        #expect(error?.hint == hint)
    }

    @Test(
        "text that is not a schedule is refused with its hint",
        arguments: [
            ("", 1, "30 2 * * 1-5"), ("* * * *", 8, "30 2 * * 1-5"), ("* * * * * *", 11, "30 2 * * 1-5"),
            ("0 2 * * * /bin/backup", 11, "30 2 * * 1-5"), ("@reboot", 1, "systemd unit"), (" @dayly", 2, "@daily"),
            ("@daily 5", 8, "write @daily only"),
        ])
    func noSchedule(text: String, position: Int, hint: String) {
        let error = #expect(throws: SettingValueError.self) { try CronSchedule(parsing: text) }
        #expect(error?.reason.hasPrefix("character \(position): ") == true, "\(error?.reason ?? "")")
        #expect(error?.hint.contains(hint) == true)
    }

    @Test("a leap day, and a rare day combined with a day of the week, can occur")
    func possible() throws {
        _ = try CronSchedule(parsing: "0 0 29 2 *")
        _ = try CronSchedule(parsing: "0 0 30 2 1")
    }

    @Test("a schedule is rendered as it was written")
    func shown() throws {
        #expect(try CronSchedule(parsing: "  0\t2  * * MON ").description == "0 2 * * MON")
        #expect(try CronSchedule(parsing: "@daily") == CronSchedule(parsing: "0 0 * * *"))
    }
}
