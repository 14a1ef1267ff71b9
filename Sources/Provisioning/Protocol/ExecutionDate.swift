public import JobCore

/// When a wish is to be carried out: the value of the date attribute.
public enum ExecutionDate: Hashable, Sendable {
    /// `0`, or no date at all.
    case atOnce
    /// `YYYYMMDD`: from the beginning of that day.
    case on(CalendarDay)

    /// - Parameter text: `0` or eight digits that name a day.
    /// - Returns: nil for anything else.
    public init?(_ text: String) {
        if text == "0" {
            self = .atOnce
            return
        }
        guard text.utf8.count == 8, text.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(text),
            let day = CalendarDay(year: number / 10_000, month: number / 100 % 100, day: number % 100)
        else { return nil }
        self = .on(day)
    }
}
