package import JobCore

/// All sections that a daemon knows, and the texts that are made from their declarations: the reference and the shipped files.
package struct SettingsSchema: Sendable {
    /// A section without its types.
    package struct Section: Sendable {
        package let name: SectionName
        let meaning: String
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
    var isListed: Bool { !row.isEmpty }
}

// MARK: - Texts

extension SettingsSchema {
    /// One Markdown table for each section.
    package var reference: String {
        sections.filter { $0.replacement == nil }.map { section in
            """
            ### [\(section.name)]

            \(section.meaning)

            | key | value | default | meaning |
            |---|---|---|---|

            """
                + section.keys.filter(\.isListed).map { (key: SettingDeclaration) -> String in
                    let byDefault = key.defaultNote ?? (key.defaultText.isEmpty ? "" : "`\(key.defaultText)`")
                    let cells = [key.row, key.form, byDefault, key.meaning].map(Self.cell)
                    return "| \(cells.joined(separator: " | ")) |\n"
                }.joined()
        }.joined(separator: "\n")
    }

    /// A settings file with every key explained; what the reader must look at is set, all else is a comment with its default.
    ///
    /// - Parameters:
    ///   - titles: the sections to write, in this order.
    ///   - head: what the file says of itself, without comment signs.
    package func template(_ titles: [String], head: String) -> String {
        let blocks = titles.flatMap { title in sections.filter { $0.name.title == title } }.map { section in
            let name = section.name
            let title = name.placeholder == nil ? "[\(name)]" : "# [\(name.filled(with: name.example))]"
            let keys = section.keys.filter(\.isListed).map { Self.block($0, isActive: name.placeholder == nil) }
            return ([Self.comment(section.meaning) + title + "\n"] + keys).joined(separator: "\n")
        }
        return ([Self.comment(head)] + blocks).joined(separator: "\n")
    }

    /// - Parameter isActive: whether an example is set rather than shown.
    private static func block(_ key: SettingDeclaration, isActive: Bool) -> String {
        let byDefault = key.defaultNote ?? key.defaultText
        let form = byDefault.isEmpty ? key.form : "\(key.form); default: \(byDefault)"
        let text = comment("\(key.meaning) (\(form))")
        if let example = key.example, isActive { return text + "\(key.name) = \(example)\n" }
        let value = key.example ?? key.defaultText
        return text + (value.isEmpty ? "# \(key.name) =\n" : "# \(key.name) = \(value)\n")
    }

    private static func cell(_ text: String) -> String {
        text.replacing("|", with: "\\|").replacing("\n", with: " ")
    }

    /// Folded at 110 columns.
    private static func comment(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { paragraph in
            var lines: [String] = [""]
            for word in paragraph.split(separator: " ") {
                let last = lines[lines.count - 1]
                if !last.isEmpty, last.count + 1 + word.count > 108 {
                    lines.append(String(word))
                } else {
                    lines[lines.count - 1] = last.isEmpty ? String(word) : "\(last) \(word)"
                }
            }
            return lines.map { $0.isEmpty ? "#\n" : "# \($0)\n" }.joined()
        }.joined()
    }
}
