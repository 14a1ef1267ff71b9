/// A key that no longer means anything.
public struct RetiredSetting: Sendable {
    /// In capitals, as files write it.
    public let name: String
    /// What does its work today; completes "no longer used: …".
    public let replacement: String
    let isSecret: Bool

    /// - Parameters:
    ///   - isSecret: whether a file that still holds it must be protected.
    ///   - replacement: what does its work today.
    public init(_ name: String, isSecret: Bool = false, replacement: String) {
        self.name = name
        self.isSecret = isSecret
        self.replacement = replacement
    }
}

/// Keys of one kind whose names are too many to be declared one by one, such as numbers.
public struct SettingPattern: Sendable {
    /// What the reference writes for the names, such as `0 to 255`.
    public let form: String
    /// What the reference and the shipped files show of such a key.
    public let example: SettingDeclaration
    let declaration: @Sendable (String) -> SettingDeclaration?

    /// - Parameters:
    ///   - form: what the reference writes for the names.
    ///   - example: one of the keys.
    ///   - key: the key of a name, `nil` for a name that is none of these.
    public init<Value>(
        _ form: String, example: SettingKey<Value>, key: @escaping @Sendable (String) -> SettingKey<Value>?
    ) {
        self.form = form
        self.example = example.declaration
        declaration = { key($0)?.declaration }
    }
}

/// A section with everything that may stand in it.
public struct SettingsSection: Sendable {
    /// What becomes of a section that is found.
    public enum Use: Hashable, Sendable {
        /// Its keys are read.
        case read
        /// It means nothing any more; says what does its work today.
        case retired(replacement: String)
    }

    /// What stands between the brackets.
    public let name: SectionName
    /// One or two sentences.
    public let meaning: String
    /// What becomes of it.
    public let use: Use
    /// In the order of the reference, the keys that name a secret's file included.
    public let keys: [SettingDeclaration]
    /// Further keys that go by a rule.
    public let pattern: SettingPattern?
    /// Keys that no longer mean anything.
    public let retired: [RetiredSetting]

    /// A section whose keys are read.
    public init(
        _ name: SectionName, meaning: String, keys: [SettingDeclaration], pattern: SettingPattern? = nil,
        retired: [RetiredSetting] = []
    ) {
        self.name = name
        self.meaning = meaning
        use = .read
        self.keys = keys.flatMap { [$0] + [$0.companion].compactMap(\.self) }
        self.pattern = pattern
        self.retired = retired
    }

    /// A section that is accepted and not read.
    public init(_ name: SectionName, use: Use) {
        self.name = name
        meaning = ""
        self.use = use
        keys = []
        pattern = nil
        retired = []
    }

    func key(_ name: String) -> SettingDeclaration? {
        keys.first { $0.name.isSameName(as: name) } ?? pattern?.declaration(name)
    }
}

/// All sections that a daemon knows.
public struct SettingsSchema: Sendable {
    /// In the order of the reference.
    public let sections: [SettingsSection]
    /// Variables of the environment that look like settings and are something else.
    let otherVariables: Set<String>

    /// - Parameters:
    ///   - sections: in the order of the reference.
    ///   - otherVariables: variables of the environment that look like settings and are something else.
    public init(_ sections: [SettingsSection], otherVariables: Set<String> = []) {
        self.sections = sections
        self.otherVariables = otherVariables
    }

    /// Finds what a title in brackets names.
    ///
    /// - Returns: the section and, where it has labels, the label as written; `nil` for a title that nobody declared.
    func section(titled title: String) -> (section: SettingsSection, label: String?)? {
        let words = title.split { $0 == " " || $0 == "\t" }
        for section in sections {
            let own = section.name.title.split(separator: " ")
            let isSame =
                words.count >= own.count && zip(words, own).allSatisfy { String($0).isSameName(as: String($1)) }
            guard isSame else { continue }
            let rest = words.dropFirst(own.count).joined(separator: " ")
            if section.name.placeholder == nil, rest.isEmpty { return (section, nil) }
            if section.name.placeholder != nil, !rest.isEmpty { return (section, rest) }
        }
        return nil
    }
}

extension String {
    /// Keys, sections and labels do not care for the case of letters.
    func isSameName(as other: String) -> Bool { lowercased() == other.lowercased() }
}
