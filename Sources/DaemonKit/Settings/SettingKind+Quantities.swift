extension SettingKind where Value == Int {
    /// A whole number, decimal.
    public static func number(_ range: ClosedRange<Int>) -> Self {
        let bounds =
            range.upperBound == .max ? "from \(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
        return Self(form: "number, \(bounds)") { text throws(SettingValueError) in
            guard let number = Int(text) else {
                throw SettingValueError("this is not a whole number", cure: "write a number, \(bounds)")
            }
            guard range.contains(number) else {
                throw SettingValueError("the number is out of range", cure: "write a number, \(bounds)")
            }
            return number
        } render: {
            String($0)
        }
    }
}

extension SettingKind where Value == Duration {
    /// Whole seconds, or a whole number with `s`, `m`, `h` or `d`.
    ///
    /// - Parameter range: what is allowed; both ends in whole seconds.
    public static func duration(_ range: ClosedRange<Duration> = .zero...Quantity.longest) -> Self {
        Self(form: "duration") { text throws(SettingValueError) in
            guard let seconds = Quantity.parse(text, units: Quantity.seconds) else {
                throw SettingValueError(
                    "this is not a duration", cure: "write seconds, or a number with s, m, h or d, such as 30s")
            }
            let duration = Duration.seconds(seconds)
            guard range.contains(duration) else {
                let bounds =
                    "from \(Quantity.render(range.lowerBound)) to \(Quantity.render(range.upperBound))"
                throw SettingValueError("the duration is out of range", cure: "write a duration \(bounds)")
            }
            return duration
        } render: {
            Quantity.render($0)
        }
    }
}

/// A number of bytes.
public struct ByteCount: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Never negative.
    public let bytes: Int64

    /// - Parameter bytes: a negative number counts as 0.
    public init(_ bytes: Int64) { self.bytes = max(0, bytes) }

    public static func < (left: Self, right: Self) -> Bool { left.bytes < right.bytes }

    /// As a setting is written: the largest unit without a remainder, such as `10G`.
    public var description: String { Quantity.render(bytes, units: Quantity.bytes) }
}

extension SettingKind where Value == ByteCount {
    /// Bytes, or a whole number with `K`, `M`, `G` or `T` (powers of 1024).
    public static var size: Self {
        Self(form: "size") { text throws(SettingValueError) in
            guard let bytes = Quantity.parse(text, units: Quantity.bytes) else {
                throw SettingValueError(
                    "this is not a size", cure: "write bytes, or a number with K, M, G or T, such as 10G")
            }
            return ByteCount(bytes)
        } render: {
            $0.description
        }
    }
}

/// Whole numbers with a unit behind them.
public enum Quantity {
    /// The longest duration that a setting may hold: a hundred years.
    public static let longest = Duration.seconds(36_525 * 86_400)

    /// One suffix and what it multiplies by.
    struct Unit: Sendable {
        let suffix: Character
        let factor: Int64
    }

    /// Largest first, as rendering wants them.
    static let seconds = [
        Unit(suffix: "d", factor: 86_400), Unit(suffix: "h", factor: 3_600), Unit(suffix: "m", factor: 60),
        Unit(suffix: "s", factor: 1),
    ]
    static let bytes = [
        Unit(suffix: "T", factor: 1 << 40), Unit(suffix: "G", factor: 1 << 30), Unit(suffix: "M", factor: 1 << 20),
        Unit(suffix: "K", factor: 1 << 10),
    ]

    /// - Returns: `nil` when it is not a number with one of the units or none, when it is negative, or when it is too
    ///   large for 64 bits.
    static func parse(_ text: String, units: [Unit]) -> Int64? {
        var digits = Substring(text)
        var factor: Int64 = 1
        if let last = digits.last, let unit = units.first(where: { $0.suffix.lowercased() == last.lowercased() }) {
            factor = unit.factor
            digits = digits.dropLast().trimmingBlanks
        }
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int64(digits) else {
            return nil
        }
        let (product, overflows) = number.multipliedReportingOverflow(by: factor)
        return overflows ? nil : product
    }

    static func render(_ number: Int64, units: [Unit]) -> String {
        guard number != 0, let unit = units.first(where: { number.isMultiple(of: $0.factor) }) else {
            return "\(number)"
        }
        return "\(number / unit.factor)\(unit.suffix)"
    }

    static func render(_ duration: Duration) -> String { render(duration.components.seconds, units: seconds) }
}
