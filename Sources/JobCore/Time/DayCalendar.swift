import Glibc

/// Conversion between points in time and local time.
///
/// Everything follows from the offset of local clocks from UTC at a point in time. When clocks change, a local time
/// may occur twice or never.
public struct DayCalendar: Sendable {
    /// Seconds east of UTC at a point in time; negative: west.
    private let secondsEastOfUTC: @Sendable (Timestamp) -> Int

    /// - Parameter secondsEastOfUTC: always less than a day.
    public init(secondsEastOfUTC: @escaping @Sendable (Timestamp) -> Int) {
        self.secondsEastOfUTC = secondsEastOfUTC
    }

    /// The local time of the process's time zone (`TZ`, else the system's).
    public static let system = DayCalendar { time in
        var seconds = time_t(time.secondsSince1970)
        var broken = tm()
        return localtime_r(&seconds, &broken) == nil ? 0 : broken.tm_gmtoff
    }

    /// The local time at a point in time.
    package func localTime(at time: Timestamp) -> LocalTime {
        LocalTime(secondsSince1970: time.secondsSince1970 + Int64(secondsEastOfUTC(time)))
    }

    /// The local day of a point in time.
    package func day(_ time: Timestamp) -> CalendarDay { localTime(at: time).day }

    /// The start of a day; if clocks skip midnight, the time after that.
    package func startOfDay(_ day: CalendarDay) -> Timestamp {
        firstMoment(reaching: LocalTime(day: day, hour: 0, minute: 0))
    }

    /// The points in time at which the clock shows a local time, in order: one; none if clocks skip it; two if they
    /// repeat it.
    package func moments(of local: LocalTime) -> [Timestamp] {
        let moments = offsets(around: local).filter { offset(at: local.secondsSince1970 - $0) == $0 }
            .map { Timestamp(secondsSince1970: local.secondsSince1970 - $0) }.sorted()
        return moments.first == moments.last ? Array(moments.prefix(1)) : moments
    }

    /// The first point in time at which the clock shows a local time or, if clocks skip it, the time of the change.
    package func firstMoment(reaching local: LocalTime) -> Timestamp {
        if let moment = moments(of: local).first { return moment }
        let offsets = offsets(around: local)
        let (low, high) = (offsets.min() ?? 0, offsets.max() ?? 0)
        return change(after: local.secondsSince1970 - high, until: local.secondsSince1970 - low)
    }

    /// The clock changes after one point in time and up to another.
    func clockChanges(after start: Timestamp, until end: Timestamp) -> [Timestamp] {
        // Clocks never change twice within half a day.
        let step: Int64 = 43_200
        var changes: [Timestamp] = []
        var from = start.secondsSince1970
        while from < end.secondsSince1970 {
            let until = min(from + step, end.secondsSince1970)
            if offset(at: from) != offset(at: until) { changes.append(change(after: from, until: until)) }
            from = until
        }
        return changes
    }

    /// The first second after the change, if clocks change once after `start` and not after `end`.
    private func change(after start: Int64, until end: Int64) -> Timestamp {
        var (before, after) = (start, end)
        let old = offset(at: start)
        while after - before > 1 {
            let middle = before + (after - before) / 2
            if offset(at: middle) == old { before = middle } else { after = middle }
        }
        return Timestamp(secondsSince1970: after)
    }

    /// The offsets a day before and a day after, which are on both sides of any change that may concern a local time.
    private func offsets(around local: LocalTime) -> [Int64] {
        [offset(at: local.secondsSince1970 - 86_400), offset(at: local.secondsSince1970 + 86_400)]
    }

    private func offset(at seconds: Int64) -> Int64 {
        Int64(secondsEastOfUTC(Timestamp(secondsSince1970: seconds)))
    }
}

/// A day of the Gregorian calendar, without a time zone.
public struct CalendarDay: Hashable, Comparable, Sendable {
    /// 1 to 9999.
    public let year: Int
    /// 1 to 12.
    public let month: Int
    /// 1 to the length of the month.
    public let day: Int

    /// - Returns: nil if there is no such day.
    public init?(year: Int, month: Int, day: Int) {
        guard (1...9999).contains(year), (1...12).contains(month), day >= 1,
            day <= Self.length(ofMonth: month, year: year)
        else { return nil }
        (self.year, self.month, self.day) = (year, month, day)
    }

    /// Out of range becomes the nearest end of the years 1 to 9999.
    init(daysSince1970 days: Int64) {
        // Eras of 400 years that begin on 1 March, so that the leap day is a year's last (Howard Hinnant's "civil from days").
        let shifted = Int(min(max(days, -719_162), 2_932_896)) + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    /// Days since 1 January 1970; negative before.
    var daysSince1970: Int64 {
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = shiftedYear / 400
        let yearOfEra = shiftedYear % 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return Int64(era * 146_097 + dayOfEra - 719_468)
    }

    /// 0 for Sunday to 6 for Saturday.
    public var weekday: Int {
        // 1 January 1970 was a Thursday.
        let remainder = Int((daysSince1970 + 4) % 7)
        return remainder < 0 ? remainder + 7 : remainder
    }

    /// Out of range becomes the nearest end of the years 1 to 9999.
    public func adding(days: Int) -> Self { Self(daysSince1970: daysSince1970 + Int64(days)) }

    /// The earlier day first.
    public static func < (left: Self, right: Self) -> Bool {
        (left.year, left.month, left.day) < (right.year, right.month, right.day)
    }

    private static func length(ofMonth month: Int, year: Int) -> Int {
        switch month {
        case 2: year.isMultiple(of: 4) && (!year.isMultiple(of: 100) || year.isMultiple(of: 400)) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }
}

/// A local date and time in seconds, without a time zone.
///
/// When clocks change, some local times never occur and some occur twice: see ``DayCalendar``.
package struct LocalTime: Hashable, Comparable, Sendable {
    /// The date.
    package let day: CalendarDay
    /// 0 to 86,399.
    package let secondOfDay: Int

    /// - Parameters:
    ///   - hour: 0 to 23; values out of range of this and the following become the nearest valid ones.
    ///   - minute: 0 to 59.
    ///   - second: 0 to 59.
    package init(day: CalendarDay, hour: Int, minute: Int, second: Int = 0) {
        self.day = day
        secondOfDay = min(max(hour, 0), 23) * 3_600 + min(max(minute, 0), 59) * 60 + min(max(second, 0), 59)
    }

    /// The time of a number of seconds as if it were UTC, for order and distances.
    init(secondsSince1970 seconds: Int64) {
        let (quotient, remainder) = seconds.quotientAndRemainder(dividingBy: 86_400)
        day = CalendarDay(daysSince1970: remainder < 0 ? quotient - 1 : quotient)
        secondOfDay = Int(remainder < 0 ? remainder + 86_400 : remainder)
    }

    /// The seconds as if it were UTC.
    var secondsSince1970: Int64 { day.daysSince1970 * 86_400 + Int64(secondOfDay) }

    /// 0 to 23.
    package var hour: Int { secondOfDay / 3_600 }
    /// 0 to 59.
    package var minute: Int { secondOfDay / 60 % 60 }
    /// 0 to 59.
    package var second: Int { secondOfDay % 60 }

    /// The earlier local time first.
    package static func < (left: Self, right: Self) -> Bool {
        (left.day, left.secondOfDay) < (right.day, right.secondOfDay)
    }
}
