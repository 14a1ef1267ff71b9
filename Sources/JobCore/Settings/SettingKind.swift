package import SystemPackage

/// An invalid value, without the value.
public struct SettingValueError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong.
    public let reason: String
    /// What to write instead.
    public let hint: String

    /// Both begin with a lower-case letter, end without a full stop and do not repeat the value.
    package init(_ reason: String, hint: String) {
        self.reason = reason
        self.hint = hint
    }

    /// The reason and the hint.
    public var description: String { "\(reason); \(hint)" }
}

/// Parses and renders the values of a setting.
package struct SettingKind<Value: Hashable & Sendable>: Sendable {
    /// The name in the reference, such as `duration` or `one of keep, archive, remove`.
    package let form: String
    /// Whether the value is never shown.
    package let isSecret: Bool
    /// Parses the text without surrounding blanks.
    package let parse: @Sendable (String) throws(SettingValueError) -> Value
    /// Renders a value as text that `parse` accepts.
    package let render: @Sendable (Value) -> String

    /// - Parameters:
    ///   - form: the name in the reference.
    ///   - parse: parses the text without surrounding blanks. Its errors must not repeat the text.
    ///   - render: renders a value as text that `parse` accepts; empty if there is none.
    package init(
        form: String, isSecret: Bool = false,
        parse: @escaping @Sendable (String) throws(SettingValueError) -> Value,
        render: @escaping @Sendable (Value) -> String
    ) {
        self.form = form
        self.isSecret = isSecret
        self.parse = parse
        self.render = render
    }

    /// This kind, with an empty text for nil.
    package var orEmpty: SettingKind<Value?> {
        SettingKind<Value?>(form: "\(form), or empty", isSecret: isSecret) { text throws(SettingValueError) in
            text.isEmpty ? nil : try parse(text)
        } render: { value in
            value.map(render) ?? ""
        }
    }

    /// A password: never shown, also taken from a file (`KEY_FILE`) or from a systemd credential, `nil` when empty.
    package static func secret<Secret>(_ make: @escaping @Sendable (String) -> Secret) -> Self where Value == Secret? {
        Self(form: "secret", isSecret: true) { text throws(SettingValueError) in
            text.isEmpty ? nil : make(text)
        } render: { _ in
            ""
        }
    }

    /// One of several names, case-insensitive.
    package static func choice(_ choices: KeyValuePairs<String, Value>) -> Self { named(Array(choices)) }

    static func named(_ choices: [(key: String, value: Value)]) -> Self {
        let names = choices.map(\.key)
        return Self(form: names.count == 1 ? names[0] : "one of \(names.joined(separator: ", "))") {
            text throws(SettingValueError) in
            guard let match = choices.first(where: { $0.key.lowercased() == text.lowercased() }) else {
                let nearest = NearestName.of(text, among: names).map { " (did you mean \($0)?)" } ?? ""
                throw SettingValueError(
                    "this is not one of the choices", hint: "write \(names.joined(separator: " or "))\(nearest)")
            }
            return match.value
        } render: { value in
            choices.first { $0.value == value }?.key ?? ""
        }
    }
}

extension SettingKind where Value: CustomStringConvertible {
    /// A kind that renders values by their descriptions.
    package init(
        form: String, parse: @escaping @Sendable (String) throws(SettingValueError) -> Value
    ) {
        self.init(form: form, parse: parse) { $0.description }
    }
}

extension SettingKind where Value: CaseIterable & RawRepresentable, Value.RawValue == String {
    /// One of the type's names, case-insensitive.
    package static var choice: Self { named(Value.allCases.map { ($0.rawValue, $0) }) }
}

extension SettingKind where Value == Bool {
    /// `1` or `0`, `yes` or `no`, `true` or `false`, `on` or `off`.
    package static var boolean: Self {
        Self(form: "yes or no") { text throws(SettingValueError) in
            switch text.lowercased() {
            case "1", "yes", "true", "on": return true
            case "0", "no", "false", "off": return false
            default:
                throw SettingValueError(
                    "this is neither yes nor no", hint: "write yes, no, 1, 0, true, false, on or off")
            }
        } render: {
            $0 ? "yes" : "no"
        }
    }

    /// A boolean that is rendered as `1` or `0`, like the switches of the old daemon.
    package static var flag: Self {
        let boolean = boolean
        return Self(form: boolean.form, parse: boolean.parse) { $0 ? "1" : "0" }
    }
}

// MARK: - Text and paths

extension SettingKind where Value == String {
    /// Any text of one line, also empty.
    package static var text: Self {
        Self(form: "text") { text throws(SettingValueError) in
            text
        }
    }

    /// An absolute path of a file or directory, not empty, without `..`.
    package static var path: Self {
        Self(form: "absolute path") { text throws(SettingValueError) in
            guard text.hasPrefix("/") else {
                throw SettingValueError("this is not an absolute path", hint: "write a path that begins with /")
            }
            guard !text.split(separator: "/").contains("..") else {
                throw SettingValueError("the path contains ..", hint: "write the path without ..")
            }
            return text
        }
    }

    /// The name or number of a user of the system.
    package static var user: Self {
        Self(form: "user") { text throws(SettingValueError) in
            let isRight =
                !text.hasPrefix("-") && text.utf8.count <= 256
                && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_.-$@".contains($0)) }
            guard isRight else {
                throw SettingValueError(
                    "this is not the name of a user", hint: "write a name such as backup, or a number")
            }
            return text
        }
    }
}

extension SettingKind where Value == FilePath {
    /// An absolute path of a file or directory, not empty, without `..`.
    package static var path: SettingKind<FilePath> {
        let path = SettingKind<String>.path
        return Self(form: path.form) { text throws(SettingValueError) in
            FilePath(try path.parse(text))
        }
    }

    /// The absolute path of a script. A name that ends in `.template` is refused.
    package static var script: SettingKind<FilePath> {
        let path = path
        return Self(form: path.form) { text throws(SettingValueError) in
            let script = try path.parse(text)
            guard !text.hasSuffix(".template") else {
                throw SettingValueError(
                    "a template is never run", hint: "copy it to a name without .template, adapt the copy and name that"
                )
            }
            return script
        }
    }
}

// MARK: - Lists

extension SettingKind where Value == [String] {
    /// Words separated by blanks, none at all when empty.
    package static var words: Self {
        .list("list split by blanks", of: SettingKind<String>.text)
    }

    /// Host names separated by blanks: letters, digits, hyphens and dots, at most 253 characters.
    package static var hosts: Self {
        .list(
            "host names split by blanks",
            of: SettingKind<String>(form: "host name") { word throws(SettingValueError) in
                let labels = word.split(separator: ".", omittingEmptySubsequences: false)
                let isRight =
                    word.utf8.count <= 253
                    && labels.allSatisfy { label in
                        !label.isEmpty && label.utf8.count <= 63 && !label.hasPrefix("-") && !label.hasSuffix("-")
                            && label.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_".contains($0)) }
                    }
                guard isRight else {
                    throw SettingValueError(
                        "one of these is not a host name",
                        hint: "write names such as backup1.example.org, split by blanks")
                }
                return word
            })
    }
}

extension SettingKind where Value == [FilePath] {
    /// Absolute paths separated by blanks.
    package static var paths: Self { .list("absolute paths split by blanks", of: SettingKind<FilePath>.path) }
}

extension SettingKind {
    /// Values separated by blanks, none at all when empty.
    package static func list<Element>(_ form: String, of kind: SettingKind<Element>) -> Self where Value == [Element] {
        Self(form: form) { text throws(SettingValueError) in
            var values: [Element] = []
            for word in text.split(whereSeparator: { $0 == " " || $0 == "\t" }) {
                values.append(try kind.parse(String(word)))
            }
            return values
        } render: {
            $0.map(kind.render).joined(separator: " ")
        }
    }
}

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

/// Whole numbers with a unit.
private enum Quantity {
    /// Largest first, for rendering.
    static let seconds: [(suffix: Character, factor: Int64)] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)]
    static let bytes: [(suffix: Character, factor: Int64)] = [
        ("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10),
    ]

    /// - Returns: `nil` if it is not a number with one of the units or none, is negative, or exceeds 64 bits.
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
