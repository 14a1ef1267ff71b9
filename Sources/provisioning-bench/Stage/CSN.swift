/// A change sequence number of OpenLDAP, `20260101120000.123456Z#000000#000#000000`: when the server did a write.
struct CSN: Hashable, Sendable {
    /// Since 1970, in UTC, to the microsecond.
    let seconds: Double

    /// nil for anything but a change sequence number.
    init?(_ text: String) {
        let time = text.prefix { $0 != "#" }
        guard time.utf8.count == 22, time.last == "Z", time.dropFirst(14).first == "." else { return nil }
        func number(_ from: Int, _ count: Int) -> Int? {
            let digits = time.dropFirst(from).prefix(count)
            return digits.allSatisfy { $0.isASCII && $0.isNumber } ? Int(digits) : nil
        }
        guard let year = number(0, 4), let month = number(4, 2), let day = number(6, 2), let hour = number(8, 2),
            let minute = number(10, 2), let second = number(12, 2), let micro = number(15, 6)
        else { return nil }
        let days = Self.daysSince1970(year, month, day)
        seconds = Double(((days * 24 + hour) * 60 + minute) * 60 + second) + Double(micro) / 1e6
    }

    /// In the Gregorian calendar; the year is taken to begin in March, so that the leap day is its last.
    private static func daysSince1970(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let year = month <= 2 ? year - 1 : year
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return year * 365 + year / 4 - year / 100 + year / 400 + dayOfYear - 719_468
    }
}
