import Foundation
import JobCore
import TestSupport
import Testing

@Suite struct TimeWindowTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let window: String
        let calendar: DayCalendar
        let at: String
        let opening: String
        let closing: String

        init(_ window: String, _ calendar: DayCalendar = .utc, at: String, opens: String, closes: String) {
            (self.window, self.calendar, self.at) = (window, calendar, at)
            (opening, closing) = (opens, closes)
        }

        var testDescription: String { "\(window) at \(at)" }
    }

    @Test(
        "a window opens and closes by the clock on the wall",
        arguments: [
            Row(
                "22:00-06:00", at: "2026-01-01 12:00 +00:00", opens: "2026-01-01 22:00 +00:00",
                closes: "2026-01-02 06:00 +00:00"),
            Row(
                "22:00-06:00", at: "2026-01-01 22:00 +00:00", opens: "2026-01-01 22:00 +00:00",
                closes: "2026-01-02 06:00 +00:00"),
            Row(
                "22:00-06:00", at: "2026-01-01 03:00 +00:00", opens: "2026-01-01 03:00 +00:00",
                closes: "2026-01-01 06:00 +00:00"),
            Row(
                "22:00-06:00", at: "2026-01-01 06:00 +00:00", opens: "2026-01-01 22:00 +00:00",
                closes: "2026-01-02 06:00 +00:00"),
            Row(
                "08:00-17:30", at: "2026-01-01 17:30 +00:00", opens: "2026-01-02 08:00 +00:00",
                closes: "2026-01-02 17:30 +00:00"),
            Row(
                "20:00-24:00", at: "2026-01-01 00:00 +00:00", opens: "2026-01-01 20:00 +00:00",
                closes: "2026-01-02 00:00 +00:00"),
            Row(
                "00:00-02:00", at: "2026-12-31 23:59 +00:00", opens: "2027-01-01 00:00 +00:00",
                closes: "2027-01-01 02:00 +00:00"),
            // The whole window is left out, its beginning, its end.
            Row(
                "02:15-02:45", .zurich, at: "2026-03-29 00:00 +01:00", opens: "2026-03-30 02:15 +02:00",
                closes: "2026-03-30 02:45 +02:00"),
            Row(
                "02:30-04:00", .zurich, at: "2026-03-29 00:00 +01:00", opens: "2026-03-29 03:00 +02:00",
                closes: "2026-03-29 04:00 +02:00"),
            Row(
                "01:00-02:30", .zurich, at: "2026-03-29 00:00 +01:00", opens: "2026-03-29 01:00 +01:00",
                closes: "2026-03-29 03:00 +02:00"),
            // What comes twice.
            Row(
                "02:15-02:45", .zurich, at: "2026-10-25 02:50 +02:00", opens: "2026-10-25 02:15 +01:00",
                closes: "2026-10-25 02:45 +01:00"),
            Row(
                "01:30-02:30", .zurich, at: "2026-10-25 02:40 +02:00", opens: "2026-10-25 02:00 +01:00",
                closes: "2026-10-25 02:30 +01:00"),
            Row(
                "02:00-03:00", .zurich, at: "2026-10-25 00:00 +02:00", opens: "2026-10-25 02:00 +02:00",
                closes: "2026-10-25 03:00 +01:00"),
            Row(
                "22:00-06:00", .zurich, at: "2026-10-24 23:00 +02:00", opens: "2026-10-24 23:00 +02:00",
                closes: "2026-10-25 06:00 +01:00"),
            Row(
                "02:10-02:20", .lordHowe, at: "2026-10-04 00:00 +10:30", opens: "2026-10-05 02:10 +11:00",
                closes: "2026-10-05 02:20 +11:00"),
        ])
    func row(_ row: Row) throws {
        let window = try TimeWindow(parsing: row.window)
        let moment = try Timestamp(row.at)
        #expect(window.opening(after: moment, in: row.calendar).text(in: row.calendar) == row.opening)
        #expect(window.closing(after: moment, in: row.calendar).text(in: row.calendar) == row.closing)
        #expect(window.contains(moment, in: row.calendar) == (row.at == row.opening))
    }

    @Test(
        "any window opens and closes when a look at every minute says so",
        arguments: [
            ("Europe/Zurich", "2026-03-28 00:00 +00:00"), ("Europe/Zurich", "2026-10-24 00:00 +00:00"),
            ("America/New_York", "2026-11-01 00:00 +00:00"), ("Australia/Lord_Howe", "2026-04-04 00:00 +00:00"),
            ("Pacific/Apia", "2011-12-29 00:00 +00:00"),
        ])
    func oracle(zone: String, start: String) throws {
        let calendar = DayCalendar.zone(zone)
        let start = try Timestamp(start)
        var generator = SeededGenerator(seed: 7)
        func time() -> (text: String, minute: Int) {
            let minute = Int.random(in: 0..<24, using: &generator) * 60 + Int.random(in: 0..<4, using: &generator) * 15
            let parts = [minute / 60, minute % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }
            return (parts.joined(separator: ":"), minute)
        }
        let shown = (0..<7 * 1_440).map { calendar.localTime(at: start + .seconds($0 * 60)) }
        for _ in 0..<15 {
            let (first, end) = (time(), time())
            guard first.minute != end.minute else { continue }
            let window = try TimeWindow(parsing: "\(first.text)-\(end.text)")
            let isOpen = shown.map { local in
                let minute = local.hour * 60 + local.minute
                return first.minute < end.minute
                    ? minute >= first.minute && minute < end.minute : minute >= first.minute || minute < end.minute
            }
            for minute in stride(from: 0, to: 3 * 1_440, by: 97) {
                let moment = start + .seconds(minute * 60)
                let opening = try #require(isOpen[minute...].firstIndex(of: true))
                let closing = try #require(isOpen[opening...].firstIndex(of: false))
                #expect(window.contains(moment, in: calendar) == isOpen[minute])
                #expect(window.opening(after: moment, in: calendar) == start + .seconds(opening * 60))
                #expect(window.closing(after: moment, in: calendar) == start + .seconds(closing * 60))
            }
        }
    }

    @Test(
        "a wrong window is refused with its hint",
        arguments: [
            ("", "such as 22:00-06:00"), ("22:00", "such as 22:00-06:00"), ("22-06", "such as 22:00-06:00"),
            ("9:00-10:00", "such as 22:00-06:00"), ("22:60-06:00", "such as 22:00-06:00"),
            ("24:00-06:00", "such as 22:00-06:00"), ("22:00-24:01", "such as 22:00-06:00"),
            ("22:00-06:00-07:00", "such as 22:00-06:00"), ("-1:00-02:00", "such as 22:00-06:00"),
            ("+1:00-02:00", "such as 22:00-06:00"), ("22:00-22:00", "for any time"), ("00:00-24:00", "for any time"),
        ])
    func refused(text: String, hint: String) {
        let error = #expect(throws: SettingValueError.self) { try TimeWindow(parsing: text) }
        #expect(error?.hint.contains(hint) == true)
        #expect(error?.reason.isEmpty == false)
    }

    @Test("a window is rendered as it is written")
    func shown() throws {
        #expect(try TimeWindow(parsing: "22:00-06:05").description == "22:00-06:05")
        #expect(try TimeWindow(parsing: "22:00-24:00") == TimeWindow(parsing: "22:00-00:00"))
    }
}
