import Glibc

/// A point in time of the wall clock, in nanoseconds, from the year 1970 to 2262.
public struct Timestamp: Hashable, Comparable, Sendable {
    /// Nanoseconds since 1970, UTC, without leap seconds.
    public let nanosecondsSince1970: Int64

    /// A point in time.
    public init(nanosecondsSince1970: Int64) { self.nanosecondsSince1970 = nanosecondsSince1970 }
    /// Out of range becomes the nearest end of the range.
    public init(secondsSince1970: Int64) {
        nanosecondsSince1970 = secondsSince1970.multipliedSaturating(by: 1_000_000_000)
    }

    /// Before every other point: an item with this due time is due at once, even if the clock is set back.
    public static let distantPast = Self(nanosecondsSince1970: .min)

    /// The last point: an item with this due time is never due.
    public static let distantFuture = Self(nanosecondsSince1970: .max)

    /// Whole seconds, rounded down.
    public var secondsSince1970: Int64 { nanosecondsSince1970.divided(by: 1_000_000_000) }

    /// The earlier point first.
    public static func < (left: Self, right: Self) -> Bool {
        left.nanosecondsSince1970 < right.nanosecondsSince1970
    }

    /// Out of range becomes the nearest end of the range.
    public static func + (left: Self, right: Duration) -> Self {
        let (seconds, attoseconds) = right.components
        let added = seconds.multipliedSaturating(by: 1_000_000_000)
            .addingSaturating(attoseconds / 1_000_000_000)
        return Self(nanosecondsSince1970: left.nanosecondsSince1970.addingSaturating(added))
    }

    /// Negative if the left point is earlier.
    public static func - (left: Self, right: Self) -> Duration {
        .nanoseconds(left.nanosecondsSince1970) - .nanoseconds(right.nanosecondsSince1970)
    }
}

extension Timestamp: Codable {
    /// Parses `YYYYMMDDThhmmssZ`; nil for anything else. A day or an hour that does not exist is normalized as by
    /// timegm(3).
    public init?(text: String) {
        let signs = Array(text.utf8)
        guard signs.count == 16, signs[8] == UInt8(ascii: "T"), signs[15] == UInt8(ascii: "Z"),
            signs.indices.allSatisfy({ $0 == 8 || $0 == 15 || 0x30...0x39 ~= signs[$0] })
        else { return nil }
        func number(_ range: Range<Int>) -> Int32 { signs[range].reduce(0) { $0 * 10 + Int32($1) - 0x30 } }
        var broken = tm()
        broken.tm_year = number(0..<4) - 1900
        broken.tm_mon = number(4..<6) - 1
        broken.tm_mday = number(6..<8)
        broken.tm_hour = number(9..<11)
        broken.tm_min = number(11..<13)
        broken.tm_sec = number(13..<15)
        self.init(secondsSince1970: Int64(timegm(&broken)))
    }

    /// `YYYYMMDDThhmmssZ` in UTC; fractions of a second are cut off.
    public var text: String {
        let time = LocalTime(secondsSince1970: secondsSince1970)
        return String(unsafeUninitializedCapacity: 16) { buffer in
            func write(_ pair: Int, at place: Int) {
                buffer[place] = 0x30 + UInt8(truncatingIfNeeded: pair / 10 % 10)
                buffer[place + 1] = 0x30 + UInt8(truncatingIfNeeded: pair % 10)
            }
            write(time.day.year / 100, at: 0)
            write(time.day.year, at: 2)
            write(time.day.month, at: 4)
            write(time.day.day, at: 6)
            buffer[8] = UInt8(ascii: "T")
            write(time.hour, at: 9)
            write(time.minute, at: 11)
            write(time.second, at: 13)
            buffer[15] = UInt8(ascii: "Z")
            return 16
        }
    }

    /// A ``text``.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let time = Self(text: text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(text) is not a timestamp")
        }
        self = time
    }

    /// A ``text``.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }

    /// Out of range becomes the nearest end of the range.
    init(microsecondsSince1970: Int64) {
        nanosecondsSince1970 = microsecondsSince1970.multipliedSaturating(by: 1_000)
    }

    /// Rounded down.
    var microsecondsSince1970: Int64 { nanosecondsSince1970.divided(by: 1_000) }
}

extension Int64 {
    /// The quotient, rounded down.
    fileprivate func divided(by divisor: Int64) -> Int64 {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? quotient - 1 : quotient
    }

    fileprivate func multipliedSaturating(by other: Int64) -> Int64 {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        guard overflow else { return product }
        return (self < 0) == (other < 0) ? .max : .min
    }

    fileprivate func addingSaturating(_ other: Int64) -> Int64 {
        let (sum, overflow) = addingReportingOverflow(other)
        guard overflow else { return sum }
        return other > 0 ? .max : .min
    }
}
