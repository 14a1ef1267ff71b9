/// A point on the wall clock, to the nanosecond, from the year 1970 to 2262.
public struct WallTime: Hashable, Comparable, Sendable {
    /// Nanoseconds since the beginning of 1970, UTC, leap seconds not counted.
    public let nanosecondsSince1970: Int64

    /// A point by its nanoseconds since the beginning of 1970, UTC.
    public init(nanosecondsSince1970: Int64) { self.nanosecondsSince1970 = nanosecondsSince1970 }
    /// A point by its seconds since the beginning of 1970, UTC; what lies beyond the range becomes its end.
    public init(secondsSince1970: Int64) {
        nanosecondsSince1970 = secondsSince1970.multipliedSaturating(by: 1_000_000_000)
    }

    /// Before every other point: what is due then is due at once, however the clock is set meanwhile.
    public static let distantPast = Self(nanosecondsSince1970: .min)

    /// The last point that can be written: what is due then is never due.
    public static let distantFuture = Self(nanosecondsSince1970: .max)

    /// Whole seconds, rounded towards the past.
    public var secondsSince1970: Int64 {
        let (quotient, remainder) = nanosecondsSince1970.quotientAndRemainder(dividingBy: 1_000_000_000)
        return remainder < 0 ? quotient - 1 : quotient
    }

    /// The earlier point first.
    public static func < (left: Self, right: Self) -> Bool {
        left.nanosecondsSince1970 < right.nanosecondsSince1970
    }

    /// Later by `duration`, or the last point that can be written when that lies beyond it.
    public static func + (left: Self, right: Duration) -> Self {
        let (seconds, attoseconds) = right.components
        let added = seconds.multipliedSaturating(by: 1_000_000_000)
            .addingSaturating(attoseconds / 1_000_000_000)
        return Self(nanosecondsSince1970: left.nanosecondsSince1970.addingSaturating(added))
    }

    /// How much later the left point is; negative when it is earlier.
    public static func - (left: Self, right: Self) -> Duration {
        .nanoseconds(left.nanosecondsSince1970) - .nanoseconds(right.nanosecondsSince1970)
    }
}

extension Int64 {
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
