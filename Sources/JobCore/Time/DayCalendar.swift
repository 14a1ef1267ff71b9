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
