import Glibc

/// The local time of a place: which moment shows what on the wall there, and back.
///
/// Everything follows from one rule, how far the place's clocks are ahead of UTC at a moment. Where clocks are changed, a local time may
/// belong to no moment or to two.
public struct DayCalendar: Sendable {
    /// How many seconds the clocks are ahead of UTC at a moment; negative where they are behind.
    private let secondsEastOfUTC: @Sendable (WallTime) -> Int

    /// - Parameter secondsEastOfUTC: how many seconds local clocks are ahead of UTC at a moment, always less than a day.
    public init(secondsEastOfUTC: @escaping @Sendable (WallTime) -> Int) {
        self.secondsEastOfUTC = secondsEastOfUTC
    }

    /// The local time of the process's time zone (`TZ`, else the system's).
    public static let system = DayCalendar { time in
        var seconds = time_t(time.secondsSince1970)
        var broken = tm()
        return localtime_r(&seconds, &broken) == nil ? 0 : broken.tm_gmtoff
    }

    /// What the clock shows at a moment.
    public func localTime(at time: WallTime) -> LocalTime {
        LocalTime(secondsSince1970: time.secondsSince1970 + Int64(secondsEastOfUTC(time)))
    }

    /// The day that a moment lies in.
    public func day(_ time: WallTime) -> CalendarDay { localTime(at: time).day }

    /// The first moment of a day; where the day begins with clocks put forward, the moment after that.
    public func startOfDay(_ day: CalendarDay) -> WallTime {
        firstMoment(reaching: LocalTime(day: day, hour: 0, minute: 0))
    }

    /// The moments at which the clock shows a local time, in their order: one, none where clocks are put forward over it, two where they
    /// are put back over it.
    public func moments(of local: LocalTime) -> [WallTime] {
        let moments = offsets(around: local).filter { offset(at: local.secondsSince1970 - $0) == $0 }
            .map { WallTime(secondsSince1970: local.secondsSince1970 - $0) }.sorted()
        return moments.first == moments.last ? Array(moments.prefix(1)) : moments
    }

    /// The first moment at which the clock shows a local time or, where it never does, has been put forward over it.
    public func firstMoment(reaching local: LocalTime) -> WallTime {
        if let moment = moments(of: local).first { return moment }
        let offsets = offsets(around: local)
        let (low, high) = (offsets.min() ?? 0, offsets.max() ?? 0)
        return change(after: local.secondsSince1970 - high, until: local.secondsSince1970 - low)
    }

    /// The moments after one and up to another at which the clocks are changed.
    func clockChanges(after start: WallTime, until end: WallTime) -> [WallTime] {
        // Nowhere are clocks changed twice in half a day.
        let step: Int64 = 43_200
        var changes: [WallTime] = []
        var from = start.secondsSince1970
        while from < end.secondsSince1970 {
            let until = min(from + step, end.secondsSince1970)
            if offset(at: from) != offset(at: until) { changes.append(change(after: from, until: until)) }
            from = until
        }
        return changes
    }

    /// The first second of the new time, when clocks are changed once after `start` and not after `end`.
    private func change(after start: Int64, until end: Int64) -> WallTime {
        var (before, after) = (start, end)
        let old = offset(at: start)
        while after - before > 1 {
            let middle = before + (after - before) / 2
            if offset(at: middle) == old { before = middle } else { after = middle }
        }
        return WallTime(secondsSince1970: after)
    }

    /// Those that count a day before and a day after, which is on both sides of any change that may concern a local time.
    private func offsets(around local: LocalTime) -> [Int64] {
        [offset(at: local.secondsSince1970 - 86_400), offset(at: local.secondsSince1970 + 86_400)]
    }

    private func offset(at seconds: Int64) -> Int64 {
        Int64(secondsEastOfUTC(WallTime(secondsSince1970: seconds)))
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

    /// - Returns: nil when there is no such day, or the year is not 1 to 9999.
    public init?(year: Int, month: Int, day: Int) {
        guard (1...9999).contains(year), (1...12).contains(month), day >= 1,
            day <= Self.length(ofMonth: month, year: year)
        else { return nil }
        (self.year, self.month, self.day) = (year, month, day)
    }

    /// The day so many days after 1 January 1970; below or beyond the years 1 to 9999 the first or last of them.
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

    /// How many days after 1 January 1970 it is; negative before.
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

    /// The day before or after by so many days; what lies beyond the years 1 to 9999 becomes the first or last of them.
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
