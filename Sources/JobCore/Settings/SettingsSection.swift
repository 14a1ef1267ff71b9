/// The name of a section: `[Title]`, or `[Title LABEL]` where a file may hold many of them.
package struct SectionName: Hashable, Sendable, CustomStringConvertible {
    /// The words before the label, such as `Operation Mode`.
    package let title: String
    /// The placeholder for the label in the reference, such as `NAME`; `nil` for a section without labels.
    package let placeholder: String?
    /// The label in shipped files, if the placeholder is not valid there.
    package let example: String?

    /// - Parameters:
    ///   - title: one or more words, separated by single blanks.
    ///   - placeholder: for the label in the reference, if there may be several such sections.
    ///   - example: the label in shipped files, if the placeholder is not valid there.
    package init(_ title: String, label placeholder: String? = nil, example: String? = nil) {
        self.title = title
        self.placeholder = placeholder
        self.example = example ?? placeholder
    }

    /// The name as the reference has it, without brackets.
    package var description: String { filled(with: placeholder) }

    /// The name as a file has it, without brackets.
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
    /// The keys in the order of the reference.
    static var keys: [Setting<Self>] { get }
    /// Keys that are no longer used.
    static var retired: [RetiredSetting] { get }
    /// Why another key is an error; nil: it is a warning, with the nearest known name.
    static var unknownKey: SettingValueError? { get }
    /// The section with its defaults.
    init()
}

extension SettingsSection {
    package static var retired: [RetiredSetting] { [] }
    package static var unknownKey: SettingValueError? { nil }
}

/// A key that is no longer used.
package struct RetiredSetting: Sendable {
    /// The key in capitals.
    package let name: String
    /// Its replacement; completes "no longer used: …".
    package let replacement: String
    /// Whether a file that still contains it must be protected.
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
    /// The property that it sets; `nil` for a key that has no effect.
    package let property: (PartialKeyPath<Section> & Sendable)?
    private let store: @Sendable (SettingValue, inout Section) -> Void

    /// Declares a key. Its default is the initial value of the property.
    ///
    /// - Parameters:
    ///   - name: in capitals.
    ///   - row: the name in the reference, if one row describes many keys; empty for keys that have no row.
    ///   - kind: parses and renders the value.
    ///   - note: the default in words, if it depends on the machine or on other settings.
    ///   - example: the value in the shipped file, if the key cannot be omitted there.
    ///   - restart: whether a change takes effect only when the daemon starts.
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

    /// Declares a key of old files that is checked and has no effect: it has one valid value.
    package init(_ name: String, fixed kind: SettingKind<String>, value: String, meaning: String) {
        property = nil
        store = { _, _ in }
        declaration = SettingDeclaration(
            Section.section, name, row: "`\(name)`", kind, default: value, note: nil, example: nil, restart: false,
            meaning: meaning)
    }

    /// Sets the property to a parsed value.
    package func set(_ value: SettingValue, in section: inout Section) { store(value, &section) }
}

/// A parsed value.
package typealias SettingValue = any Hashable & Sendable

/// A setting's declaration without its types.
package struct SettingDeclaration: Sendable {
    package let section: SectionName
    /// The key in capitals.
    package let name: String
    /// The first cell of its row in the reference; empty if another key's row describes it.
    package let row: String
    /// The name of the value's form in the reference.
    package let form: String
    /// The default as a file has it; empty if there is none.
    package let defaultText: String
    /// The default in words, if it depends on other things.
    package let defaultNote: String?
    /// The value in the shipped file, if the key cannot be omitted there.
    package let example: String?
    /// One or two sentences.
    package let meaning: String
    /// Whether its value is never shown.
    package let isSecret: Bool
    /// Whether a change takes effect only when the daemon starts.
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

    /// The key of the file that contains the secret; nil if the value is not secret.
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

    /// The name of the secret's systemd credential, such as `admin-password`.
    package var credentialName: String { name.lowercased().replacing("_", with: "-") }

    /// The environment variable that overrides the setting.
    ///
    /// - Parameter label: the label of the section, if it has one.
    package func environmentName(label: String? = nil) -> String {
        ["PROV", section.title, label, name].compactMap { $0.map(Self.environmentWord) }.joined(separator: "_")
    }

    /// Capitals, digits, and `_` for everything else.
    package static func environmentWord(_ text: String) -> String {
        String(text.uppercased().map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" })
    }
}
