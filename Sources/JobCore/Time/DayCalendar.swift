import Glibc

/// A day of the Gregorian calendar, without a time zone.
public struct CalendarDay: Hashable, Comparable, Sendable {
    /// 1 to 9999.
    public let year: Int
    /// 1 to 12.
    public let month: Int
    /// 1 to the length of the month.
    public let day: Int

    /// - Returns: nil when there is no such day, or the year is not 1 to 9999.
    public init?(year: Int, month: Int, day: Int) {
        guard (1...9999).contains(year), (1...12).contains(month), day >= 1,
            day <= Self.length(ofMonth: month, year: year)
        else { return nil }
        (self.year, self.month, self.day) = (year, month, day)
    }

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

/// Where days begin.
public struct DayCalendar: Sendable {
    /// The first moment of a day.
    public let startOfDay: @Sendable (CalendarDay) -> WallTime
    /// The day that a moment lies in; nil when the year is not 1 to 9999.
    public let day: @Sendable (WallTime) -> CalendarDay?

    /// A calendar made of its two rules.
    public init(
        startOfDay: @escaping @Sendable (CalendarDay) -> WallTime, day: @escaping @Sendable (WallTime) -> CalendarDay?
    ) {
        self.startOfDay = startOfDay
        self.day = day
    }

    /// The calendar of the process's time zone (`TZ`, else the system's).
    public static let system = DayCalendar(
        startOfDay: { day in
            var broken = tm()
            broken.tm_year = Int32(day.year - 1900)
            broken.tm_mon = Int32(day.month - 1)
            broken.tm_mday = Int32(day.day)
            // Where a day begins with a summer time gap, the first moment after the gap is its start.
            broken.tm_isdst = -1
            return WallTime(secondsSince1970: Int64(mktime(&broken)))
        },
        day: { time in
            var seconds = time_t(time.secondsSince1970)
            var broken = tm()
            guard localtime_r(&seconds, &broken) != nil else { return nil }
            return CalendarDay(
                year: Int(broken.tm_year) + 1900, month: Int(broken.tm_mon) + 1, day: Int(broken.tm_mday))
        })
}
