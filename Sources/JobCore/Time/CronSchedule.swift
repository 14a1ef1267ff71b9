/// A recurring schedule in the notation of crontab(5): five fields for minute, hour, day of month, month and day of
/// week, or a nickname such as `@daily`.
///
/// As in cron, if neither of the two day fields has a `*`, a day has to match only one of them. When clocks change:
/// - A schedule for certain hours fires once for each time it names: a skipped time fires right after the change, and
///   of a repeated time the first one counts.
/// - A schedule for every hour follows elapsed time: skipped times do not fire, repeated times fire twice.
public struct CronSchedule: Hashable, Sendable, CustomStringConvertible {
    private let minutes: CronField.Values
    private let hours: CronField.Values
    private let daysOfMonth: CronField.Values
    private let months: CronField.Values
    private let daysOfWeek: CronField.Values

    /// The text with single blanks.
    public let description: String

    /// Parses a schedule; surrounding blanks are ignored.
    public init(parsing text: String) throws(SettingValueError) {
        let blanks: Set<Character> = [" ", "\t"]
        let words = text.split { blanks.contains($0) }
        func position(_ index: Substring.Index) -> Int { text.distance(from: text.startIndex, to: index) + 1 }
        if let word = words.first, word.hasPrefix("@") {
            guard words.count == 1 else {
                throw SettingValueError(
                    field: nil, position: position(words[1].startIndex), reason: "\(word) must be the only word",
                    hint: "write \(word) only")
            }
            self = try Self.nickname(word, at: position(word.startIndex))
            return
        }
        guard words.count == CronField.all.count else {
            throw SettingValueError(
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
        // A leap year has the longest months; each of its days falls on every day of the week in some other year.
        let exists = months.sorted.contains { month in
            daysOfMonth.sorted.contains { CalendarDay(year: 2000, month: month, day: $0) != nil }
        }
        guard exists || eitherDayIsEnough else {
            throw SettingValueError(
                field: CronField.dayOfMonth.name, position: position(words[2].startIndex),
                reason: "this never occurs: none of these months has such a day", hint: "write an existing day")
        }
    }

    private static func nickname(_ name: Substring, at position: Int) throws(SettingValueError) -> Self {
        if let fields = nicknames[name.lowercased()] { return try Self(parsing: fields) }
        let isReboot = name.lowercased() == "@reboot"
        throw SettingValueError(
            field: nil, position: position,
            reason: isReboot
                ? "@reboot is not supported: the daemon may start many times after a boot"
                : "\(name) is not a valid name",
            hint: isReboot
                ? "write a time, or use a systemd unit"
                : "write @hourly, @daily, @weekly, @monthly or @yearly, or five fields")
    }

    private static let nicknames = [
        "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
        "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
    ]

    private var eitherDayIsEnough: Bool { daysOfMonth.isRestricted && daysOfWeek.isRestricted }

    /// Whether it is for every hour, and so follows elapsed time.
    private var isForEveryHour: Bool { hours.count == 24 }

    /// The next time after a point in time.
    ///
    /// - Returns: nil only if the next time is out of the range of `Timestamp`.
    public func next(after moment: Timestamp, in calendar: DayCalendar = .system) -> Timestamp? {
        let isForEveryHour = isForEveryHour
        var found: Timestamp?
        for local in localTimes(from: earliest(after: moment, in: calendar)) {
            let moments = isForEveryHour ? calendar.moments(of: local) : [calendar.firstMoment(reaching: local)]
            if moments.first == .distantFuture { break }
            if let later = moments.first(where: { $0 > moment }), later < found ?? .distantFuture { found = later }
            // A later local time can come earlier only if it is a repeated one.
            if let first = moments.first, first > moment { break }
        }
        return found
    }

    /// The first local time that may match after a point in time: the current one, or an earlier one that is about to
    /// be repeated.
    private func earliest(after moment: Timestamp, in calendar: DayCalendar) -> LocalTime {
        let shown = calendar.localTime(at: moment)
        guard isForEveryHour else { return shown }
        let shownLater = calendar.localTime(at: moment + .seconds(86_400))
        let back = max(0, shown.secondsSince1970 + 86_400 - shownLater.secondsSince1970)
        return LocalTime(secondsSince1970: shown.secondsSince1970 - back)
    }

    /// All matching local times from one on, for the longest interval of any schedule: a leap day on a certain day of
    /// the week can be 40 years away.
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

extension SettingValueError {
    /// - Parameters:
    ///   - field: the name of the field; nil if the error is not in a field.
    ///   - position: of the error in characters, counted from 1.
    fileprivate init(field: String?, position: Int, reason: String, hint: String) {
        let place = "character \(position)"
        self.init("\(field.map { "\($0) (\(place))" } ?? place): \(reason)", hint: hint)
    }
}

/// One of the five fields of a schedule: its range, its names, and its parser.
struct CronField: Sendable {
    let name: String
    let range: ClosedRange<Int>
    /// Three letters each; the first of them means `firstNamed`.
    let names: [String]
    let firstNamed: Int

    static let minute = CronField("minute", 0...59)
    static let hour = CronField("hour", 0...23)
    static let dayOfMonth = CronField("day of month", 1...31)
    static let month = CronField(
        "month", 1...12,
        names: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], from: 1)
    /// 7 is Sunday as well, and becomes 0.
    static let dayOfWeek = CronField(
        "day of week", 0...7, names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"], from: 0)
    /// All fields, in the order of the notation.
    static let all = [minute, hour, dayOfMonth, month, dayOfWeek]

    private init(_ name: String, _ range: ClosedRange<Int>, names: [String] = [], from firstNamed: Int = 0) {
        self.name = name
        self.range = range
        self.names = names
        self.firstNamed = firstNamed
    }

    /// The set of values of a field.
    struct Values: Hashable, Sendable {
        /// Bit `n` for the value `n`.
        fileprivate(set) var bits: UInt64 = 0
        /// Whether the text has no `*`: of two restricted day fields, either is enough.
        let isRestricted: Bool

        func contains(_ value: Int) -> Bool { bits & (1 << UInt64(value)) != 0 }

        var count: Int { bits.nonzeroBitCount }

        /// Ascending.
        var sorted: [Int] { (0..<64).filter { contains($0) } }
    }

    /// Parses the field's text: `*`, values, ranges and lists of them, with steps.
    func values(of text: Substring, at position: Int) throws(SettingValueError) -> Values {
        var values = Values(isRestricted: !text.contains("*"))
        var reader = Reader(field: self, rest: text, position: position)
        repeat {
            let element = try reader.element()
            for value in stride(from: element.range.lowerBound, through: element.range.upperBound, by: element.step) {
                // 7 as a day of the week is 0.
                values.bits |= 1 << UInt64(range.upperBound == 7 ? value % 7 : value)
            }
        } while try reader.comma()
        return values
    }
}

extension CronField {
    /// Parses a field's text from left to right.
    private struct Reader {
        let field: CronField
        var rest: Substring
        var position: Int

        mutating func element() throws(SettingValueError) -> (range: ClosedRange<Int>, step: Int) {
            let start = position
            if take("*") {
                // A week has seven days, although Sunday has two numbers.
                let whole = field.range.upperBound == 7 ? 0...6 : field.range
                return (whole, try step(in: whole, isRange: true))
            }
            let first = try value()
            guard take("-") else { return (first.number...first.number, try step(in: field.range, isRange: false)) }
            var last = try value()
            // At the end of a range, Sunday follows Saturday.
            if field.range.upperBound == 7, last.number == 0, first.number > 0 { last.number = 7 }
            guard first.number <= last.number else {
                throw fault(
                    at: start, "the range is descending",
                    hint: """
                        write two ranges, such as \(first.text)-\(field.text(field.range.upperBound)),\
                        \(field.text(field.range.lowerBound))-\(last.text)
                        """)
            }
            return (first.number...last.number, try step(in: first.number...last.number, isRange: true))
        }

        /// - Returns: whether another element follows.
        mutating func comma() throws(SettingValueError) -> Bool {
            if rest.isEmpty { return false }
            let start = position
            guard take(",") else {
                throw fault(
                    at: start, "\(rest.prefix(1)) is not allowed here",
                    hint: "write *, \(field.range.lowerBound), \(field.example), or a list of these split by commas")
            }
            return true
        }

        private mutating func step(in range: ClosedRange<Int>, isRange: Bool) throws(SettingValueError) -> Int {
            let start = position
            guard take("/") else { return 1 }
            guard isRange else {
                throw fault(
                    at: start, "a step needs a range before it",
                    hint: "write */N for all, or FIRST-\(range.upperBound)/N")
            }
            let digits = word { $0.isASCII && $0.isNumber }
            guard let step = Int(digits), (1...range.count).contains(step) else {
                throw fault(
                    at: start + 1,
                    digits.isEmpty ? "the step is missing" : "\(digits) is not a valid step for this range",
                    hint: "write a number from 1 to \(range.count)")
            }
            return step
        }

        private mutating func value() throws(SettingValueError) -> (number: Int, text: String) {
            let start = position
            let word = word { $0.isASCII && ($0.isLetter || $0.isNumber) }
            if let index = field.names.firstIndex(of: word.lowercased()) { return (index + field.firstNamed, word) }
            guard let number = Int(word), field.range.contains(number) else {
                let names =
                    field.names.isEmpty ? "" : ", or \(field.names[0]) to \(field.names[field.names.count - 1])"
                throw fault(
                    at: start, word.isEmpty ? "a value is missing" : "\(word) is not a valid \(field.name)",
                    hint: "write * or a number from \(field.range.lowerBound) to \(field.range.upperBound)\(names)")
            }
            return (number, word)
        }

        private mutating func word(_ belongs: (Character) -> Bool) -> String {
            let word = rest.prefix(while: belongs)
            rest = rest.dropFirst(word.count)
            position += word.count
            return String(word)
        }

        private mutating func take(_ character: Character) -> Bool {
            guard rest.first == character else { return false }
            rest = rest.dropFirst()
            position += 1
            return true
        }

        private func fault(at position: Int, _ reason: String, hint: String) -> SettingValueError {
            SettingValueError(field: field.name, position: position, reason: reason, hint: hint)
        }
    }

    private var example: String { "\(range.lowerBound)-\(range.upperBound)" }

    private func text(_ number: Int) -> String { range.upperBound == 7 && number == 7 ? "6" : "\(number)" }
}
