package import SystemPackage

/// What is wrong with one value, without the value.
package struct SettingValueError: Error, Hashable, Sendable {
    package let reason: String
    /// What to write instead.
    package let hint: String

    /// Both begin small and end without a full stop, and neither repeats the value.
    package init(_ reason: String, hint: String) {
        self.reason = reason
        self.hint = hint
    }
}

/// How the text of one setting becomes a value and back.
package struct SettingKind<Value: Hashable & Sendable>: Sendable {
    /// What the reference calls it, such as `duration` or `one of keep, archive, remove`.
    package let form: String
    /// Whether such a value is never shown.
    package let isSecret: Bool
    /// From the text as written, blanks around it removed.
    package let parse: @Sendable (String) throws(SettingValueError) -> Value
    /// The text that `parse` would read as this value.
    package let render: @Sendable (Value) -> String

    /// - Parameters:
    ///   - form: what the reference calls such a value.
    ///   - parse: from the text as written, blanks around it removed. Its errors must not repeat the text.
    ///   - render: the text that `parse` would read as this value; empty when there is none.
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

    /// The same, where an empty value means that there is none.
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

    /// One of some names, without regard to case.
    package static func choice(_ choices: KeyValuePairs<String, Value>) -> Self { named(Array(choices)) }

    fileprivate static func named(_ choices: [(key: String, value: Value)]) -> Self {
        let names = choices.map(\.key)
        return Self(form: names.count == 1 ? names[0] : "one of \(names.joined(separator: ", "))") {
            text throws(SettingValueError) in
            guard let match = choices.first(where: { $0.key.lowercased() == text.lowercased() }) else {
                let nearest = NearestName.of(text, among: names).map { " (did you mean \($0)?)" } ?? ""
                throw SettingValueError(
                    "there is no such choice", hint: "write \(names.joined(separator: " or "))\(nearest)")
            }
            return match.value
        } render: { value in
            choices.first { $0.value == value }?.key ?? ""
        }
    }
}

extension SettingKind where Value: CustomStringConvertible {
    /// A kind whose values are written as they describe themselves.
    package init(
        form: String, parse: @escaping @Sendable (String) throws(SettingValueError) -> Value
    ) {
        self.init(form: form, parse: parse) { $0.description }
    }
}

extension SettingKind where Value: CaseIterable & RawRepresentable, Value.RawValue == String {
    /// One of the type's names, without regard to case.
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

    /// The same, shown as `1` and `0` like the old daemon's switches.
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
                throw SettingValueError("the path goes up by ..", hint: "write the path without ..")
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
