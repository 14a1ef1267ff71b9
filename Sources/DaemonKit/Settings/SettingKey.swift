/// The name of a section: `[Title]`, or `[Title LABEL]` where a file may hold many of them.
public struct SectionName: Hashable, Sendable, CustomStringConvertible {
    /// The word or words that stand in every file, such as `Operation Mode`.
    public let title: String
    /// What the reference writes for the label, such as `NAME`; `nil` for a section that there is once.
    public let placeholder: String?
    /// The label that shipped files write.
    let example: String?

    /// - Parameters:
    ///   - title: one or more words, split by single blanks.
    ///   - placeholder: what stands for the label in the reference, where there may be many such sections.
    ///   - example: the label in shipped files, where the placeholder would not be accepted.
    public init(_ title: String, label placeholder: String? = nil, example: String? = nil) {
        self.title = title
        self.placeholder = placeholder
        self.example = example ?? placeholder
    }

    /// As the reference writes it, without brackets.
    public var description: String { placeholder.map { "\(title) \($0)" } ?? title }
}

/// The one declaration of a setting. Reading, the reference and the shipped files all come from it.
public struct SettingKey<Value: Hashable & Sendable>: Sendable {
    /// Where it stands.
    public let section: SectionName
    /// In capitals, as the reference writes it.
    public let name: String
    /// How its text is read and shown.
    public let kind: SettingKind<Value>
    /// What counts when the setting stands nowhere.
    public let defaultValue: Value
    /// The default in words, where it depends on the machine or on other settings.
    public let defaultNote: String?
    /// What the shipped file sets, where leaving it out would not do.
    public let example: String?
    /// One or two sentences.
    public let meaning: String

    /// Declares a setting; see the properties.
    public init(
        _ section: SectionName, _ name: String, _ kind: SettingKind<Value>, default defaultValue: Value,
        note defaultNote: String? = nil, example: String? = nil, meaning: String
    ) {
        self.section = section
        self.name = name
        self.kind = kind
        self.defaultValue = defaultValue
        self.defaultNote = defaultNote
        self.example = example
        self.meaning = meaning
    }

    /// What the schema keeps of it.
    public var declaration: SettingDeclaration {
        SettingDeclaration(
            section: section, name: name, form: kind.form, defaultText: kind.render(defaultValue),
            defaultNote: defaultNote, example: example, meaning: meaning, isSecret: kind.isSecret,
            defaultValue: TypedSetting(value: defaultValue)
        ) { [kind] text throws(SettingValueError) in
            TypedSetting(value: try kind.parse(text))
        }
    }
}

/// A setting's declaration without its type.
public struct SettingDeclaration: Sendable {
    /// Where it stands.
    public let section: SectionName
    /// In capitals, as the reference writes it.
    public let name: String
    /// What the reference calls such a value.
    public let form: String
    /// As a file would say it; empty when there is none.
    public let defaultText: String
    /// The default in words, where it depends on other things.
    public let defaultNote: String?
    /// What the shipped file sets, where leaving it out would not do.
    public let example: String?
    /// One or two sentences.
    public let meaning: String
    /// Whether its value is never shown.
    public let isSecret: Bool
    let defaultValue: any SettingValue
    let parse: @Sendable (String) throws(SettingValueError) -> any SettingValue

    /// For a secret: the key that names a file with it.
    var companion: SettingDeclaration? {
        guard isSecret else { return nil }
        let kind = SettingKind<String>.path.orEmpty
        return SettingDeclaration(
            section: section, name: "\(name)_FILE", form: kind.form, defaultText: "", defaultNote: nil, example: nil,
            meaning: """
                A file that holds \(name) and that only its owner can read. The systemd credential \
                `\(credentialName)` does the same.
                """, isSecret: false, defaultValue: TypedSetting<String?>(value: nil)
        ) { text throws(SettingValueError) in
            TypedSetting(value: try kind.parse(text))
        }
    }

    /// For a secret: the name of its systemd credential, such as `admin-password`.
    var credentialName: String { name.lowercased().replacing("_", with: "-") }

    /// The variable that overrides the setting.
    ///
    /// - Parameter label: for a section with labels, which one.
    public func environmentName(label: String? = nil) -> String {
        ["PROV", section.title, label, name].compactMap { $0.map(EnvironmentName.word) }.joined(separator: "_")
    }
}

/// A value that a declaration has read, kept with its type.
protocol SettingValue: Sendable {
    func isSame(as other: any SettingValue) -> Bool
}

struct TypedSetting<Value: Hashable & Sendable>: SettingValue, Hashable {
    let value: Value

    func isSame(as other: any SettingValue) -> Bool { other as? Self == self }
}

enum EnvironmentName {
    /// Capitals, digits, and `_` for everything else.
    static func word(_ text: String) -> String {
        String(text.uppercased().map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" })
    }
}
