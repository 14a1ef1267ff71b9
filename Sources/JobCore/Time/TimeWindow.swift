/// A daily time window, such as `22:00-06:00`; it may pass midnight.
///
/// A point in time is in the window if the local clock shows a time in it. So on a day on which clocks skip the whole
/// window there is none, and times that are repeated count twice.
public struct TimeWindow: Hashable, Sendable, CustomStringConvertible {
    /// Minutes after midnight, 0 to 1,439.
    private let first: Int
    /// The first minute after the window, 0 to 1,439, never `first`.
    private let end: Int

    /// Parses `HH:MM-HH:MM`; the end, which may be `24:00`, is exclusive.
    public init(parsing text: String) throws(SettingValueError) {
        let times = text.split(separator: "-", omittingEmptySubsequences: false)
        guard times.count == 2, let first = Self.minutes(times[0]), let end = Self.minutes(times[1]), first < 1_440
        else {
            throw SettingValueError(
                "this is not a time window", hint: "write HH:MM-HH:MM with two digits each, such as 22:00-06:00"
            )
        }
        guard first != end % 1_440 else {
            throw SettingValueError(
                "the window ends at the time it begins",
                hint: "write two different times, or leave the value empty for any time")
        }
        (self.first, self.end) = (first, end % 1_440)
    }

    private static func minutes(_ text: Substring) -> Int? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.utf8.count == 2 && $0.utf8.allSatisfy { 0x30...0x39 ~= $0 } }),
            let hour = Int(parts[0]), let minute = Int(parts[1]), minute < 60, hour * 60 + minute <= 1_440
        else { return nil }
        return hour * 60 + minute
    }

    /// `HH:MM-HH:MM`
    public var description: String { "\(Self.text(first))-\(Self.text(end))" }

    private static func text(_ minutes: Int) -> String {
        [minutes / 60, minutes % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
    }

    /// Whether a point in time is in the window.
    public func contains(_ time: Timestamp, in calendar: DayCalendar = .system) -> Bool {
        let minute = calendar.localTime(at: time).secondOfDay / 60
        return first < end ? (first..<end).contains(minute) : minute >= first || minute < end
    }

    /// The next opening; the point in time itself if it is in the window.
    public func opening(after time: Timestamp, in calendar: DayCalendar = .system) -> Timestamp {
        changes(from: time, in: calendar).first { contains($0, in: calendar) } ?? time
    }

    /// The end of the open window or else of the next one.
    public func closing(after time: Timestamp, in calendar: DayCalendar = .system) -> Timestamp {
        let opening = opening(after: time, in: calendar)
        return changes(from: opening, in: calendar).first { !contains($0, in: calendar) } ?? opening
    }

    /// A point in time and all later ones within some days at which the window may open or close, in order: the ends
    /// of the window and changes of the clocks.
    private func changes(from time: Timestamp, in calendar: DayCalendar) -> [Timestamp] {
        let today = calendar.day(time)
        let ends = (-1...3).flatMap { day in
            [first, end].flatMap { minutes in
                calendar.moments(
                    of: LocalTime(day: today.adding(days: day), hour: minutes / 60, minute: minutes % 60))
            }
        }
        let clockChanges = calendar.clockChanges(after: time, until: time + .seconds(3 * 86_400))
        return [time] + (ends + clockChanges).filter { $0 > time }.sorted()
    }
}
