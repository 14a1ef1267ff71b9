package import JobCore

/// All sections that a daemon knows. The reference and the shipped files are made from them by a test.
package struct SettingsSchema: Sendable {
    /// A section without its types.
    package struct Section: Sendable {
        package let name: SectionName
        package let meaning: String
        /// In the order of the reference, the keys that name a secret's file included.
        package let keys: [SettingDeclaration]
        let retired: [RetiredSetting]
        /// What does the work of a section that is accepted and not read; `nil` for one that is read.
        package let replacement: String?

        package init<Settings: SettingsSection>(_ section: Settings.Type) {
            name = Settings.section
            meaning = Settings.meaning
            keys = Settings.keys.map(\.declaration).flatMap { [$0] + [$0.companion].compactMap(\.self) }
            retired = Settings.retired
            replacement = nil
        }

        package init(retired title: String, replacement: String) {
            name = SectionName(title)
            meaning = ""
            keys = []
            retired = []
            self.replacement = replacement
        }

        func key(_ name: String) -> SettingDeclaration? { keys.first { $0.name.isSameName(as: name) } }
    }

    /// In the order of the reference.
    package let sections: [Section]
    /// Variables of the environment that look like settings and are something else.
    let otherVariables: Set<String>

    /// - Parameters:
    ///   - sections: in the order of the reference.
    ///   - otherVariables: variables of the environment that look like settings and are something else.
    package init(_ sections: [Section], otherVariables: Set<String> = []) {
        self.sections = sections
        self.otherVariables = otherVariables
    }

    /// Finds the section of a title in brackets.
    ///
    /// - Returns: the section and, where it has labels, the label as written; `nil` for a title that is not declared.
    func section(titled title: String) -> (section: Section, label: String?)? {
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
    /// Keys, sections and labels do not distinguish the case of letters.
    func isSameName(as other: String) -> Bool { lowercased() == other.lowercased() }
}

extension SettingDeclaration {
    /// Whether the reference has a row for it.
    package var isListed: Bool { !row.isEmpty }
}
