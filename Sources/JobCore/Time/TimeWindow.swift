/// A part of every day in which something may be done, such as `22:00-06:00`; it may pass midnight.
///
/// A moment lies in the window when the clock on the wall shows a time in it. So on a day on which clocks are put forward over the whole of
/// a window there is none, and what the clock shows twice counts twice.
public struct TimeWindow: Hashable, Sendable, CustomStringConvertible {
    /// What is wrong with the text of a window.
    public struct SyntaxError: Error, Hashable, Sendable, CustomStringConvertible {
        /// What is wrong.
        public let reason: String
        /// What to write instead.
        public let hint: String

        /// The reason and the hint.
        public var description: String { "\(reason); \(hint)" }
    }

    /// Minutes after midnight, 0 to 1,439.
    private let first: Int
    /// The first minute after the window, 0 to 1,439, never `first`.
    private let end: Int

    /// Reads `HH:MM-HH:MM`; the second time, which may be `24:00`, does not belong to the window.
    public init(parsing text: String) throws(SyntaxError) {
        let times = text.split(separator: "-", omittingEmptySubsequences: false)
        guard times.count == 2, let first = Self.minutes(times[0]), let end = Self.minutes(times[1]), first < 1_440
        else {
            throw SyntaxError(
                reason: "this is not a time window", hint: "write HH:MM-HH:MM with two digits each, such as 22:00-06:00"
            )
        }
        guard first != end % 1_440 else {
            throw SyntaxError(
                reason: "the window ends when it begins",
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

    /// As it is written.
    public var description: String { "\(Self.text(first))-\(Self.text(end))" }

    private static func text(_ minutes: Int) -> String {
        [minutes / 60, minutes % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
    }

    /// Whether a moment lies in the window.
    public func contains(_ moment: WallTime, in calendar: DayCalendar = .system) -> Bool {
        let minute = calendar.localTime(at: moment).secondOfDay / 60
        return first < end ? (first..<end).contains(minute) : minute >= first || minute < end
    }

    /// When the window is open next: the moment itself when it lies in the window.
    public func opening(after moment: WallTime, in calendar: DayCalendar = .system) -> WallTime {
        turns(from: moment, in: calendar).first { contains($0, in: calendar) } ?? moment
    }

    /// When the window that is open, or else the next one, closes: the first moment that no longer lies in it.
    public func closing(after moment: WallTime, in calendar: DayCalendar = .system) -> WallTime {
        let opening = opening(after: moment, in: calendar)
        return turns(from: opening, in: calendar).first { !contains($0, in: calendar) } ?? opening
    }

    /// A moment and every later one within some days at which the window may open or close, in their order. Between two of them it does
    /// neither: the clock shows an end of the window, or is changed.
    private func turns(from moment: WallTime, in calendar: DayCalendar) -> [WallTime] {
        let today = calendar.day(moment)
        let ends = (-1...3).flatMap { day in
            [first, end].flatMap { minutes in
                calendar.moments(
                    of: LocalTime(day: today.adding(days: day), hour: minutes / 60, minute: minutes % 60))
            }
        }
        let changes = calendar.clockChanges(after: moment, until: moment + .seconds(3 * 86_400))
        return [moment] + (ends + changes).filter { $0 > moment }.sorted()
    }
}
