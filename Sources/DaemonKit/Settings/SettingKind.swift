/// What is wrong with one value, without the value.
public struct SettingValueError: Error, Hashable, Sendable {
    /// What is wrong.
    public let reason: String
    /// What to write instead.
    public let cure: String

    /// Both sentences begin small and end without a full stop, and neither repeats the value.
    public init(_ reason: String, cure: String) {
        self.reason = reason
        self.cure = cure
    }
}

/// How the text of one setting becomes a value and back.
public struct SettingKind<Value: Hashable & Sendable>: Sendable {
    /// What the reference calls it, such as `duration` or `one of keep, archive, remove`.
    public let form: String
    let isSecret: Bool
    /// From the text as written, blanks around it removed.
    public let parse: @Sendable (String) throws(SettingValueError) -> Value
    /// The text that `parse` would read as this value.
    public let render: @Sendable (Value) -> String

    /// - Parameters:
    ///   - form: what the reference calls such a value.
    ///   - parse: from the text as written, blanks around it removed. Its errors must not repeat the text.
    ///   - render: the text that `parse` would read as this value; empty when there is none.
    public init(
        form: String, parse: @escaping @Sendable (String) throws(SettingValueError) -> Value,
        render: @escaping @Sendable (Value) -> String
    ) {
        self.init(form: form, isSecret: false, parse: parse, render: render)
    }

    init(
        form: String, isSecret: Bool, parse: @escaping @Sendable (String) throws(SettingValueError) -> Value,
        render: @escaping @Sendable (Value) -> String
    ) {
        self.form = form
        self.isSecret = isSecret
        self.parse = parse
        self.render = render
    }

    /// The same, where an empty value means that there is none.
    public var orEmpty: SettingKind<Value?> {
        SettingKind<Value?>(form: "\(form), or empty") { text throws(SettingValueError) in
            text.isEmpty ? nil : try parse(text)
        } render: { value in
            value.map(render) ?? ""
        }
    }
}

extension SettingKind where Value == String {
    /// Any text of one line, also empty.
    public static var text: Self {
        Self(form: "text") { text throws(SettingValueError) in
            text
        } render: {
            $0
        }
    }

    /// An absolute path of a file or directory, not empty, without `..`.
    public static var path: Self {
        Self(form: "absolute path") { text throws(SettingValueError) in
            try checkPath(text)
            return text
        } render: {
            $0
        }
    }

    static func checkPath(_ text: String) throws(SettingValueError) {
        guard text.hasPrefix("/") else {
            throw SettingValueError("this is not an absolute path", cure: "write a path that begins with /")
        }
        guard !text.split(separator: "/").contains("..") else {
            throw SettingValueError("the path goes up by ..", cure: "write the path without ..")
        }
    }
}

extension SettingKind where Value == SecretText? {
    /// A password: never shown, also taken from a file (`KEY_FILE`) or from a systemd credential, `nil` when empty.
    public static var secret: Self {
        Self(form: "secret", isSecret: true) { text throws(SettingValueError) in
            text.isEmpty ? nil : SecretText(text)
        } render: { _ in
            ""
        }
    }
}

extension SettingKind where Value == [String] {
    /// Words split by blanks, none at all when empty.
    public static var words: Self { list("list split by blanks") { _ throws(SettingValueError) in } }

    /// Absolute paths split by blanks.
    public static var paths: Self {
        list("absolute paths split by blanks", each: SettingKind<String>.checkPath)
    }

    /// Host names split by blanks: letters, digits, hyphens and dots, at most 253 characters.
    public static var hosts: Self {
        list("host names split by blanks") { word throws(SettingValueError) in
            let labels = word.split(separator: ".", omittingEmptySubsequences: false)
            let isRight =
                word.utf8.count <= 253
                && labels.allSatisfy { label in
                    !label.isEmpty && label.utf8.count <= 63 && !label.hasPrefix("-") && !label.hasSuffix("-")
                        && label.utf8.allSatisfy { isHostCharacter($0) }
                }
            guard isRight else {
                throw SettingValueError(
                    "one of these is not a host name", cure: "write names such as backup1.example.org, split by blanks")
            }
        }
    }

    /// Words split by blanks, each of which must pass a check.
    public static func list(
        _ form: String, each check: @escaping @Sendable (String) throws(SettingValueError) -> Void
    ) -> Self {
        Self(form: form) { text throws(SettingValueError) in
            let words = text.split { $0 == " " || $0 == "\t" }.map(String.init)
            for word in words { try check(word) }
            return words
        } render: {
            $0.joined(separator: " ")
        }
    }

    private static func isHostCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}

extension SettingKind where Value == Bool {
    /// `1` or `0`, `yes` or `no`, `true` or `false`, `on` or `off`.
    public static var boolean: Self {
        Self(form: "yes or no") { text throws(SettingValueError) in
            switch text.lowercased() {
            case "1", "yes", "true", "on": return true
            case "0", "no", "false", "off": return false
            default:
                throw SettingValueError(
                    "this is neither yes nor no", cure: "write yes, no, 1, 0, true, false, on or off")
            }
        } render: {
            $0 ? "yes" : "no"
        }
    }

    /// The same, shown as `1` and `0` like the old daemon's switches.
    public static var flag: Self {
        let boolean = boolean
        return Self(form: boolean.form, parse: boolean.parse) { $0 ? "1" : "0" }
    }
}

extension SettingKind where Value: CaseIterable & RawRepresentable, Value.RawValue == String {
    /// One of a type's names, without regard to case.
    public static func choice(_ type: Value.Type) -> Self {
        let names = type.allCases.map(\.rawValue)
        return Self(form: names.count == 1 ? names[0] : "one of \(names.joined(separator: ", "))") {
            text throws(SettingValueError) in
            let match = type.allCases.first { $0.rawValue.lowercased() == text.lowercased() }
            guard let match else {
                let nearest = NearestName.of(text, among: names).map { " (did you mean \($0)?)" } ?? ""
                throw SettingValueError(
                    "there is no such choice", cure: "write \(names.joined(separator: " or "))\(nearest)")
            }
            return match
        } render: {
            $0.rawValue
        }
    }
}
