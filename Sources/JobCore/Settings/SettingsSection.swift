/// The name of a section: `[Title]`, or `[Title LABEL]` where a file may hold many of them.
package struct SectionName: Hashable, Sendable, CustomStringConvertible {
    /// The word or words in every such line, such as `Operation Mode`.
    package let title: String
    /// What the reference writes for the label, such as `NAME`; `nil` for a section without labels.
    package let placeholder: String?
    /// The label in shipped files, where the placeholder would not be accepted.
    package let example: String?

    /// - Parameters:
    ///   - title: one or more words, separated by single blanks.
    ///   - placeholder: what the reference writes for the label, where there may be many such sections.
    ///   - example: the label in shipped files, where the placeholder would not be accepted.
    package init(_ title: String, label placeholder: String? = nil, example: String? = nil) {
        self.title = title
        self.placeholder = placeholder
        self.example = example ?? placeholder
    }

    /// As the reference writes it, without brackets.
    package var description: String { filled(with: placeholder) }

    /// As a file writes it, without brackets.
    package func filled(with label: String?) -> String { label.map { "\(title) \($0)" } ?? title }
}

/// A section of the settings: one struct that declares its keys and is the value that its consumer uses.
///
/// The initial values of its properties are the defaults. A key is one property and one line of ``keys``:
///
///     package var slots = 2
///     Setting("SLOTS", \.slots, .number(1...1_024), meaning: "How many accounts are backed up at once."),
///
/// Reading, errors, the shipped files, the reference and the message of a reload come from these lines. Properties without a key are set by
/// code after the section was read.
package protocol SettingsSection: Sendable {
    static var section: SectionName { get }
    /// One or two sentences.
    static var meaning: String { get }
    /// In the order of the reference.
    static var keys: [Setting<Self>] { get }
    /// Keys that no longer mean anything.
    static var retired: [RetiredSetting] { get }
    /// The section with its defaults.
    init()
}

extension SettingsSection {
    package static var retired: [RetiredSetting] { [] }
}

/// A key that no longer means anything.
package struct RetiredSetting: Sendable {
    /// In capitals, as files write it.
    package let name: String
    /// What does its work today; completes "no longer used: …".
    package let replacement: String
    /// Whether a file that still holds it must be protected.
    package let isSecret: Bool

    package init(_ name: String, isSecret: Bool = false, replacement: String) {
        self.name = name
        self.isSecret = isSecret
        self.replacement = replacement
    }
}

/// A key of a section: the one declaration of a setting.
package struct Setting<Section: SettingsSection>: Sendable {
    package let declaration: SettingDeclaration
    /// What it sets; `nil` for a key whose value changes nothing.
    package let property: (PartialKeyPath<Section> & Sendable)?
    private let store: @Sendable (SettingValue, inout Section) -> Void

    /// Declares a key. Its default is the initial value of the property.
    ///
    /// - Parameters:
    ///   - name: in capitals.
    ///   - row: the name in the reference, where one row stands for many keys; empty for those of them that it does not show.
    ///   - kind: how the text becomes a value.
    ///   - note: the default in words, where it depends on the machine or on other settings.
    ///   - example: what the shipped file sets, where leaving it out would not do.
    ///   - restart: whether a change takes effect at the daemon's next start only.
    ///   - meaning: one or two sentences.
    package init<Value: Hashable & Sendable>(
        _ name: String, row: String? = nil, _ property: WritableKeyPath<Section, Value> & Sendable,
        _ kind: SettingKind<Value>, note: String? = nil, example: String? = nil, restart: Bool = false, meaning: String
    ) {
        self.property = property
        store = { value, section in
            if let value = value as? Value { section[keyPath: property] = value }
        }
        declaration = SettingDeclaration(
            Section.section, name, row: row ?? "`\(name)`", kind, default: Section()[keyPath: property], note: note,
            example: example, restart: restart, meaning: meaning)
    }

    /// Declares a key whose value is `nil` when it is empty.
    package init<Value: Hashable & Sendable>(
        _ name: String, _ property: WritableKeyPath<Section, Value?> & Sendable, orEmpty kind: SettingKind<Value>,
        note: String? = nil, example: String? = nil, restart: Bool = false, meaning: String
    ) {
        self.init(
            name, property, kind.orEmpty, note: note, example: example, restart: restart, meaning: meaning)
    }

    /// Declares a key of old files that is checked and changes nothing: it has one value.
    package init(_ name: String, fixed kind: SettingKind<String>, value: String, meaning: String) {
        property = nil
        store = { _, _ in }
        declaration = SettingDeclaration(
            Section.section, name, row: "`\(name)`", kind, default: value, note: nil, example: nil, restart: false,
            meaning: meaning)
    }

    /// Sets the property to a value that the declaration has read.
    package func set(_ value: SettingValue, in section: inout Section) { store(value, &section) }
}

/// A value that a declaration has read.
package typealias SettingValue = any Hashable & Sendable

/// A setting's declaration without its types.
package struct SettingDeclaration: Sendable {
    package let section: SectionName
    /// In capitals.
    package let name: String
    /// The first cell of its row in the reference; empty where another key's row stands for it.
    package let row: String
    /// What the reference calls such a value.
    package let form: String
    /// As a file would say it; empty when there is none.
    package let defaultText: String
    /// The default in words, where it depends on other things.
    package let defaultNote: String?
    /// What the shipped file sets, where leaving it out would not do.
    package let example: String?
    /// One or two sentences.
    package let meaning: String
    /// Whether its value is never shown.
    package let isSecret: Bool
    /// Whether a change takes effect at the daemon's next start only.
    package let needsRestart: Bool
    package let defaultValue: SettingValue
    package let parse: @Sendable (String) throws(SettingValueError) -> SettingValue

    fileprivate init<Value>(
        _ section: SectionName, _ name: String, row: String, _ kind: SettingKind<Value>, default value: Value,
        note: String?, example: String?, restart: Bool, meaning: String
    ) {
        self.section = section
        self.name = name
        self.row = row
        form = kind.form
        defaultText = kind.render(value)
        defaultNote = note
        self.example = example
        self.meaning = meaning
        isSecret = kind.isSecret
        needsRestart = restart
        defaultValue = value
        parse = { text throws(SettingValueError) in try kind.parse(text) }
    }

    /// For a secret: the key that names a file with it.
    package var companion: SettingDeclaration? {
        guard isSecret else { return nil }
        return SettingDeclaration(
            section, "\(name)_FILE", row: "`\(name)_FILE`", SettingKind<String>.path.orEmpty, default: nil, note: nil,
            example: nil, restart: needsRestart,
            meaning: """
                A file that holds \(name) and that only its owner can read. The systemd credential \
                `\(credentialName)` does the same.
                """)
    }

    /// For a secret: the name of its systemd credential, such as `admin-password`.
    package var credentialName: String { name.lowercased().replacing("_", with: "-") }

    /// The variable of the environment that overrides the setting.
    ///
    /// - Parameter label: for a section with labels, which one.
    package func environmentName(label: String? = nil) -> String {
        ["PROV", section.title, label, name].compactMap { $0.map(Self.environmentWord) }.joined(separator: "_")
    }

    /// Capitals, digits, and `_` for everything else.
    package static func environmentWord(_ text: String) -> String {
        String(text.uppercased().map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" })
    }
}
