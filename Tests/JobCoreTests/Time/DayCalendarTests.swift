import Foundation
import Glibc
import JobCore
import Testing

@Suite struct DayCalendarTests {
    @Test("a local time occurs once, never or twice")
    func moments() throws {
        func moments(_ calendar: DayCalendar, _ day: (Int, Int, Int), _ hour: Int, _ minute: Int) throws -> [String] {
            let day = try #require(CalendarDay(year: day.0, month: day.1, day: day.2))
            return calendar.moments(of: LocalTime(day: day, hour: hour, minute: minute))
                .map { $0.text(in: calendar) }
        }
        #expect(try moments(.zurich, (2026, 3, 29), 1, 59) == ["2026-03-29 01:59 +01:00"])
        #expect(try moments(.zurich, (2026, 3, 29), 2, 0).isEmpty)
        #expect(try moments(.zurich, (2026, 3, 29), 2, 59).isEmpty)
        #expect(try moments(.zurich, (2026, 3, 29), 3, 0) == ["2026-03-29 03:00 +02:00"])
        #expect(
            try moments(.zurich, (2026, 10, 25), 2, 30) == ["2026-10-25 02:30 +02:00", "2026-10-25 02:30 +01:00"])
        #expect(try moments(.zurich, (2026, 10, 25), 3, 0) == ["2026-10-25 03:00 +01:00"])
        #expect(
            try moments(.lordHowe, (2026, 4, 5), 1, 45) == ["2026-04-05 01:45 +11:00", "2026-04-05 01:45 +10:30"])
        #expect(try moments(.apia, (2011, 12, 30), 12, 0).isEmpty)
    }

    @Test("a day begins at its first second, also if midnight is skipped or repeated")
    func starts() throws {
        func start(_ calendar: DayCalendar, _ year: Int, _ month: Int, _ day: Int) throws -> String {
            calendar.startOfDay(try #require(CalendarDay(year: year, month: month, day: day))).text(in: calendar)
        }
        #expect(try start(.zurich, 2026, 3, 29) == "2026-03-29 00:00 +01:00")
        #expect(try start(.saoPaulo, 2018, 11, 4) == "2018-11-04 01:00 -02:00")
        #expect(try start(.saoPaulo, 2019, 2, 17) == "2019-02-17 00:00 -03:00")
        #expect(try start(.stJohns, 2010, 11, 7) == "2010-11-07 00:00 -02:30")
        #expect(try start(.apia, 2011, 12, 30) == "2011-12-31 00:00 +14:00")
    }

    @Test(
        "days count on through leap years, and know their day of the week",
        arguments: [1, 1600, 1899, 1970, 2000, 2400])
    func days(year: Int) throws {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        var day = try #require(CalendarDay(year: year, month: 1, day: 1))
        // Foundation's calendar is Julian before 1582: only from there on are weekdays compared.
        for _ in 0..<1_600 {
            let next = day.adding(days: 1)
            #expect(day < next)
            #expect(next.adding(days: -1) == day)
            #expect(next.weekday == (day.weekday + 1) % 7)
            if year > 1_582 {
                let components = DateComponents(year: next.year, month: next.month, day: next.day)
                let date = try #require(calendar.date(from: components))
                #expect(calendar.dateComponents([.year, .month, .day], from: date).day == next.day)
                #expect(calendar.component(.weekday, from: date) == next.weekday + 1)
            }
            day = next
        }
    }

    @Test("days beyond the calendar become its first or last day")
    func ends() throws {
        let last = try #require(CalendarDay(year: 9999, month: 12, day: 31))
        #expect(last.adding(days: 1) == last)
        let first = try #require(CalendarDay(year: 1, month: 1, day: 1))
        #expect(first.adding(days: -1) == first)
        #expect(DayCalendar.zurich.day(.distantPast).year == 1677)
        #expect(DayCalendar.zurich.startOfDay(last) == .distantFuture)
    }

    @Test("the system's calendar has the time zone of the environment")
    func system() async {
        await #expect(processExitsWith: .success) {
            setenv("TZ", "Australia/Lord_Howe", 1)
            tzset()
            let moment = try Timestamp("2026-04-05 01:45 +10:30")
            #expect(moment.text(in: .system) == "2026-04-05 01:45 +10:30")
            let local = DayCalendar.system.localTime(at: moment)
            let moments = DayCalendar.system.moments(of: local).map { $0.text(in: .system) }
            #expect(moments == ["2026-04-05 01:45 +11:00", "2026-04-05 01:45 +10:30"])
            exit(moments.count == 2 && local.hour == 1 && local.minute == 45 ? 0 : 1)
        }
    }
}
