/// Numbers as people read them.
enum Decimals {
    /// Three significant digits or all before the point; no exponent, no zeros at the end.
    static func text(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "\(value)" }
        var digits = 2
        var size = value.magnitude
        while size > 0, size < 1, digits < 9 {
            size *= 10
            digits += 1
        }
        if value.magnitude >= 100 { digits = 0 } else if value.magnitude >= 10 { digits = 1 }
        return fixed(value, digits)
    }

    /// So many digits behind the point at most.
    static func fixed(_ value: Double, _ digits: Int) -> String {
        let unit = (0..<digits).reduce(1.0) { unit, _ in unit * 10 }
        let whole = Int((value.magnitude * unit).rounded())
        var behind = String(whole % Int(unit))
        behind = String(repeating: "0", count: max(0, digits - behind.count)) + behind
        while behind.last == "0" { behind.removeLast() }
        let before = String(whole / Int(unit))
        let sign = value < 0 && whole != 0 ? "-" : ""
        return sign + (digits == 0 || behind.isEmpty ? before : before + "." + behind)
    }
}
