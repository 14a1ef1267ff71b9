extension SettingKind where Value == Int {
    /// A whole number, decimal.
    package static func number(_ range: ClosedRange<Int>) -> Self {
        let bounds =
            range.upperBound == .max ? "from \(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
        return Self(form: "number, \(bounds)") { text throws(SettingValueError) in
            guard let number = Int(text) else {
                throw SettingValueError("this is not a whole number", hint: "write a number, \(bounds)")
            }
            guard range.contains(number) else {
                throw SettingValueError("the number is out of range", hint: "write a number, \(bounds)")
            }
            return number
        }
    }
}

extension SettingKind where Value == Duration {
    /// Whole seconds, or a whole number with `s`, `m`, `h` or `d`; at most a hundred years.
    ///
    /// - Parameter shortest: in whole seconds.
    package static func duration(from shortest: Duration = .zero) -> Self {
        let longest = Duration.seconds(36_525 * 86_400)
        return Self(form: "duration") { text throws(SettingValueError) in
            guard let seconds = Quantity.parse(text, units: Quantity.seconds) else {
                throw SettingValueError(
                    "this is not a duration", hint: "write seconds, or a number with s, m, h or d, such as 30s")
            }
            let duration = Duration.seconds(seconds)
            guard (shortest...longest).contains(duration) else {
                let bounds = "from \(Quantity.render(shortest)) to \(Quantity.render(longest))"
                throw SettingValueError("the duration is out of range", hint: "write a duration \(bounds)")
            }
            return duration
        } render: {
            Quantity.render($0)
        }
    }
}

extension SettingKind where Value == UInt64 {
    /// Bytes, or a whole number with `K`, `M`, `G` or `T` (powers of 1024).
    package static var size: Self {
        Self(form: "size") { text throws(SettingValueError) in
            guard let bytes = Quantity.parse(text, units: Quantity.bytes) else {
                throw SettingValueError(
                    "this is not a size", hint: "write bytes, or a number with K, M, G or T, such as 10G")
            }
            return UInt64(bytes)
        } render: {
            Quantity.render(Int64(clamping: $0), units: Quantity.bytes)
        }
    }
}

/// Whole numbers with a unit behind them.
private enum Quantity {
    /// Largest first, as rendering wants them.
    static let seconds: [(suffix: Character, factor: Int64)] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)]
    static let bytes: [(suffix: Character, factor: Int64)] = [
        ("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10),
    ]

    /// - Returns: `nil` when it is not a number with one of the units or none, when it is negative, or when it is too large for 64 bits.
    static func parse(_ text: String, units: [(suffix: Character, factor: Int64)]) -> Int64? {
        var digits = Substring(text)
        var factor: Int64 = 1
        if let last = digits.last, let unit = units.first(where: { $0.suffix.lowercased() == last.lowercased() }) {
            factor = unit.factor
            digits = digits.dropLast()
            while let last = digits.last, last == " " || last == "\t" { digits.removeLast() }
        }
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int64(digits) else {
            return nil
        }
        let (product, overflows) = number.multipliedReportingOverflow(by: factor)
        return overflows ? nil : product
    }

    static func render(_ number: Int64, units: [(suffix: Character, factor: Int64)]) -> String {
        guard number != 0, let unit = units.first(where: { number.isMultiple(of: $0.factor) }) else {
            return "\(number)"
        }
        return "\(number / unit.factor)\(unit.suffix)"
    }

    static func render(_ duration: Duration) -> String { render(duration.components.seconds, units: seconds) }
}
