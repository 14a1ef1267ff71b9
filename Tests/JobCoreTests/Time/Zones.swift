import Foundation
import JobCore

extension DayCalendar {
    static let utc = DayCalendar { _ in 0 }
    static let zurich = zone("Europe/Zurich")
    static let newYork = zone("America/New_York")
    /// Half an hour of summer time.
    static let lordHowe = zone("Australia/Lord_Howe")
    /// Left out 30 December 2011.
    static let apia = zone("Pacific/Apia")
    /// Until 2018 days of summer time began at 01:00.
    static let saoPaulo = zone("America/Sao_Paulo")
    /// Until 2011 put back the clocks one minute after midnight.
    static let stJohns = zone("America/St_Johns")

    /// As in Foundation, for any zone of the process.
    static func zone(_ name: String) -> DayCalendar {
        guard let zone = TimeZone(identifier: name) else { fatalError("Foundation does not know the zone \(name)") }
        return DayCalendar { zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double($0.secondsSince1970))) }
    }
}

extension Timestamp {
    /// `2026-03-29 03:00 +02:00`
    init(_ text: String) throws {
        let words = text.split(separator: " ")
        let date = try Date.ISO8601FormatStyle().parse("\(words[0])T\(words[1]):00\(words[2])")
        self.init(secondsSince1970: Int64(date.timeIntervalSince1970))
    }

    /// The form in which tests write it.
    func text(in calendar: DayCalendar) -> String {
        let local = calendar.localTime(at: self)
        let asUTC = Date.ISO8601FormatStyle().year().month().day()
        let day = DateComponents(
            calendar: Calendar(identifier: .gregorian), timeZone: .gmt, year: local.day.year, month: local.day.month,
            day: local.day.day, hour: local.hour, minute: local.minute, second: local.second)
        let shown = day.date.map { Int64($0.timeIntervalSince1970) } ?? 0
        let offset = shown - secondsSince1970
        func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let time = "\(two(Int64(local.hour))):\(two(Int64(local.minute)))"
        let zone = "\(offset < 0 ? "-" : "+")\(two(abs(offset) / 3_600)):\(two(abs(offset) / 60 % 60))"
        return "\(day.date?.formatted(asUTC) ?? "?") \(time) \(zone)"
    }
}
