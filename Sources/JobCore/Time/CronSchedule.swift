/// When something happens again and again, in the notation of crontab(5): five fields for minute, hour, day of month, month and day of week,
/// or a nickname such as `@daily`.
///
/// As cron has it, when neither of the two fields for days has a `*`, a day needs to fit only one of them. Where clocks are changed:
/// - A schedule for certain hours happens once for each time it names: a time that clocks are put forward over counts at the moment after,
///   of a time that comes twice the first one counts.
/// - A schedule for every hour goes by the time that passes: what the clock skips does not happen, what it shows twice happens twice.
public struct CronSchedule: Hashable, Sendable, CustomStringConvertible {
    private let minutes: CronField.Values
    private let hours: CronField.Values
    private let daysOfMonth: CronField.Values
    private let months: CronField.Values
    private let daysOfWeek: CronField.Values

    /// As it was written, with single blanks.
    public let description: String

    /// Reads a schedule; blanks around it do not matter.
    public init(parsing text: String) throws(CronSyntaxError) {
        let blanks: Set<Character> = [" ", "\t"]
        let words = text.split { blanks.contains($0) }
        func position(_ index: Substring.Index) -> Int { text.distance(from: text.startIndex, to: index) + 1 }
        if let word = words.first, word.hasPrefix("@") {
            guard words.count == 1 else {
                throw CronSyntaxError(
                    field: nil, position: position(words[1].startIndex), reason: "\(word) stands alone",
                    hint: "write \(word) and nothing else")
            }
            self = try Self.nickname(word, at: position(word.startIndex))
            return
        }
        guard words.count == CronField.all.count else {
            throw CronSyntaxError(
                field: nil, position: position(words.count > 5 ? words[5].startIndex : text.endIndex),
                reason: words.count > 5
                    ? "there are more than five fields" : "there are \(words.count) of five fields",
                hint:
                    "write minute, hour, day of month, month and day of week, such as 30 2 * * 1-5, or a name such as @daily"
            )
        }
        var values: [CronField.Values] = []
        for (field, word) in zip(CronField.all, words) {
            values.append(try field.values(of: word, at: position(word.startIndex)))
        }
        (minutes, hours, daysOfMonth) = (values[0], values[1], values[2])
        (months, daysOfWeek) = (values[3], values[4])
        description = words.joined(separator: " ")
        // A leap year has the longest months; any of its days falls on every day of the week in some other year.
        let exists = months.sorted.contains { month in
            daysOfMonth.sorted.contains { CalendarDay(year: 2000, month: month, day: $0) != nil }
        }
        guard exists || eitherDayIsEnough else {
            throw CronSyntaxError(
                field: CronField.dayOfMonth.name, position: position(words[2].startIndex),
                reason: "this never happens: none of these months has such a day", hint: "name a day that there is")
        }
    }

    private static func nickname(_ name: Substring, at position: Int) throws(CronSyntaxError) -> Self {
        switch name.lowercased() {
        case "@hourly": return try Self(parsing: "0 * * * *")
        case "@daily", "@midnight": return try Self(parsing: "0 0 * * *")
        case "@weekly": return try Self(parsing: "0 0 * * 0")
        case "@monthly": return try Self(parsing: "0 0 1 * *")
        case "@yearly", "@annually": return try Self(parsing: "0 0 1 1 *")
        case "@reboot":
            throw CronSyntaxError(
                field: nil, position: position,
                reason: "a start of the machine is no time, and the daemon may be started many times after it",
                hint: "name a time, or have a systemd unit do it")
        default:
            throw CronSyntaxError(
                field: nil, position: position, reason: "there is no \(name)",
                hint: "write @hourly, @daily, @weekly, @monthly or @yearly, or five fields")
        }
    }

    private var eitherDayIsEnough: Bool { daysOfMonth.isRestricted && daysOfWeek.isRestricted }

    /// Whether it is for every hour, so that it goes by the time that passes.
    private var isForEveryHour: Bool { hours.count == 24 }

    /// The next time at which it happens, later than a moment.
    ///
    /// - Returns: nil only where the moment is so late that `WallTime` ends before.
    public func next(after moment: WallTime, in calendar: DayCalendar = .system) -> WallTime? {
        let isForEveryHour = isForEveryHour
        var found: WallTime?
        for local in localTimes(from: earliest(after: moment, in: calendar)) {
            let moments = isForEveryHour ? calendar.moments(of: local) : [calendar.firstMoment(reaching: local)]
            if moments.first == .distantFuture { break }
            if let later = moments.first(where: { $0 > moment }), later < found ?? .distantFuture { found = later }
            // A later local time may be over earlier only where it comes for the second time.
            if let first = moments.first, first > moment { break }
        }
        return found
    }

    /// The first local time that may count after a moment: the one that the clock shows, or an earlier one that it is about to show again.
    private func earliest(after moment: WallTime, in calendar: DayCalendar) -> LocalTime {
        let shown = calendar.localTime(at: moment)
        guard isForEveryHour else { return shown }
        let shownLater = calendar.localTime(at: moment + .seconds(86_400))
        let back = max(0, shown.secondsSince1970 + 86_400 - shownLater.secondsSince1970)
        return LocalTime(secondsSince1970: shown.secondsSince1970 - back)
    }

    /// Every local time that the fields name, from one on, through the longest time in which any schedule happens: a leap day on a certain
    /// day of the week can be 40 years away.
    private func localTimes(from first: LocalTime) -> some Sequence<LocalTime> {
        let start = first.day
        let (hours, minutes) = (hours.sorted, minutes.sorted)
        return (0..<41 * 366).lazy.map { start.adding(days: $0) }.filter { isDay($0) }.flatMap { day in
            hours.lazy.filter { day > start || $0 >= first.hour }.flatMap { hour in
                minutes.lazy.map { LocalTime(day: day, hour: hour, minute: $0) }
            }
        }.drop { $0.day == start && $0.secondOfDay < first.secondOfDay / 60 * 60 }
    }

    private func isDay(_ day: CalendarDay) -> Bool {
        guard months.contains(day.month) else { return false }
        let fits = (daysOfMonth.contains(day.day), daysOfWeek.contains(day.weekday))
        return eitherDayIsEnough ? fits.0 || fits.1 : fits.0 && fits.1
    }
}

/// What is wrong with a schedule in cron notation.
public struct CronSyntaxError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The field, such as `hour`; nil when the schedule as a whole is wrong.
    public let field: String?
    /// The character at which the fault begins, counted from 1.
    public let position: Int
    /// What is wrong.
    public let reason: String
    /// What to write instead.
    public let hint: String

    /// `hour (character 3): there is no hour 24`, without the hint.
    public var summary: String { "\(field.map { "\($0) " } ?? "")(character \(position)): \(reason)" }

    /// The summary and the hint.
    public var description: String { "\(summary); \(hint)" }
}
