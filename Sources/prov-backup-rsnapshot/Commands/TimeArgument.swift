import ArgumentParser
import Daemon
import Glibc
import JobCore

/// A point in time as it is typed: `2026-11-21`, `2026-11-21T06:30`, `2026-11-21T06:30:15`, or how long ago: `90s`, `15m`, `2h`, `1d`, `1w`.
enum TimeArgument {
    /// The forms, for messages and help.
    static let forms = "YYYY-MM-DD, YYYY-MM-DDThh:mm, YYYY-MM-DDThh:mm:ss, or how long ago: 90s, 15m, 2h, 1d, 1w"

    /// - Parameters:
    ///   - text: a date without a time is its first moment, or its last second where the day's end is meant. Dates and times are local.
    ///   - now: what spans are counted from.
    /// - Throws: `ValidationError`, which names the forms.
    static func parse(_ text: String, option: String, now: Timestamp, meansEnd: Bool = false) throws -> Timestamp {
        guard let time = ago(text, now) ?? local(text, meansEnd: meansEnd) else {
            throw ValidationError("\(option): \(OneLine.escaping(String(text.prefix(40)))) is no time; write \(forms).")
        }
        return time
    }

    private static func ago(_ text: String, _ now: Timestamp) -> Timestamp? {
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800]
        guard let last = text.last, let unit = units[last], text.dropLast().count <= 9,
            text.dropLast().allSatisfy({ ("0"..."9").contains($0) }), let count = Int64(text.dropLast())
        else { return nil }
        return now + .seconds(-count * unit)
    }

    private static func local(_ text: String, meansEnd: Bool) -> Timestamp? {
        guard
            let match = text.wholeMatch(
                of: #/([0-9]{4})-([0-9]{2})-([0-9]{2})(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?)?/#),
            let year = Int(match.1), let month = Int(match.2), let day = Int(match.3),
            CalendarDay(year: year, month: month, day: day) != nil
        else { return nil }
        let isDay = match.4 == nil
        let parts = [match.4, match.5, match.6].map { $0.flatMap { Int($0) } }
        let hour = parts[0] ?? (meansEnd ? 23 : 0)
        let minute = parts[1] ?? (meansEnd ? 59 : 0)
        let second = parts[2] ?? (meansEnd && isDay ? 59 : 0)
        guard hour < 24, minute < 60, second < 60 else { return nil }
        var broken = tm()
        broken.tm_year = Int32(year - 1900)
        broken.tm_mon = Int32(month - 1)
        broken.tm_mday = Int32(day)
        broken.tm_hour = Int32(hour)
        broken.tm_min = Int32(minute)
        broken.tm_sec = Int32(second)
        broken.tm_isdst = -1
        return Timestamp(secondsSince1970: Int64(mktime(&broken)))
    }
}
