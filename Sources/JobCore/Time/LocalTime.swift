/// What calendar and clock on the wall show, to the second and without a time zone.
///
/// When clocks are put forward some local times never come, when they are put back some come twice: ``DayCalendar`` knows.
public struct LocalTime: Hashable, Comparable, Sendable {
    /// The date.
    public let day: CalendarDay
    /// 0 to 86,399.
    public let secondOfDay: Int

    /// - Parameters:
    ///   - hour: 0 to 23; what lies beyond becomes the nearest of these, and the same for the others.
    ///   - minute: 0 to 59.
    ///   - second: 0 to 59.
    public init(day: CalendarDay, hour: Int, minute: Int, second: Int = 0) {
        self.day = day
        secondOfDay = min(max(hour, 0), 23) * 3_600 + min(max(minute, 0), 59) * 60 + min(max(second, 0), 59)
    }

    /// As if it were UTC: local times have an order and distances like any others.
    init(secondsSince1970 seconds: Int64) {
        let (quotient, remainder) = seconds.quotientAndRemainder(dividingBy: 86_400)
        day = CalendarDay(daysSince1970: remainder < 0 ? quotient - 1 : quotient)
        secondOfDay = Int(remainder < 0 ? remainder + 86_400 : remainder)
    }

    /// As if it were UTC.
    var secondsSince1970: Int64 { day.daysSince1970 * 86_400 + Int64(secondOfDay) }

    /// 0 to 23.
    public var hour: Int { secondOfDay / 3_600 }
    /// 0 to 59.
    public var minute: Int { secondOfDay / 60 % 60 }
    /// 0 to 59.
    public var second: Int { secondOfDay % 60 }

    /// What the clock shows first is less.
    public static func < (left: Self, right: Self) -> Bool {
        (left.day, left.secondOfDay) < (right.day, right.secondOfDay)
    }
}
