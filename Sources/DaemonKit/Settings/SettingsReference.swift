/// Writes down what the declarations say: the reference for readers and the files that are shipped.
public struct SettingsReference: Sendable {
    private let sections: [SettingsSection]

    /// - Parameter titles: the sections to write, in this order; `nil` for all that are read.
    public init(_ schema: SettingsSchema, sections titles: [String]? = nil) {
        sections =
            titles.map { titles in titles.compactMap { title in schema.sections.first { $0.name.title == title } } }
            ?? schema.sections.filter { $0.use == .read }
    }

    /// One Markdown table for each section.
    public var markdown: String {
        sections.map { section in
            let head = """
                ### [\(section.name)]

                \(section.meaning)

                | key | value | default | meaning |
                |---|---|---|---|

                """
            return head
                + section.keys.map { Self.row("`\($0.name)`", $0) }.joined()
                + (section.pattern.map { Self.row($0.form, $0.example) } ?? "")
        }.joined(separator: "\n")
    }

    private static func row(_ name: String, _ key: SettingDeclaration) -> String {
        "| \(name) | \(cell(key.form)) | \(cell(defaultCell(key))) | \(cell(key.meaning)) |\n"
    }

    /// A settings file with every key explained; what the reader must look at is set, all else stands as a comment with
    /// its default.
    ///
    /// - Parameter head: what the file says of itself, without comment signs.
    public func template(head: String) -> String {
        let blocks = sections.map { section in
            let name = section.name
            let title = name.placeholder == nil ? "[\(name)]" : "# [\(name.filled(with: name.example))]"
            let keys = section.keys + [section.pattern?.example].compactMap(\.self)
            return
                ([Self.comment(section.meaning) + title + "\n"] + keys.map { templateBlock($0, in: section) })
                .joined(separator: "\n")
        }
        return ([Self.comment(head)] + blocks).joined(separator: "\n")
    }

    private func templateBlock(_ key: SettingDeclaration, in section: SettingsSection) -> String {
        let defaultWords = key.defaultNote ?? (key.defaultText.isEmpty ? "" : key.defaultText)
        let form = defaultWords.isEmpty ? key.form : "\(key.form); default: \(defaultWords)"
        let text = Self.comment("\(key.meaning) (\(form))")
        if let example = key.example, section.name.placeholder == nil { return text + "\(key.name) = \(example)\n" }
        let value = key.example ?? key.defaultText
        return text + (value.isEmpty ? "# \(key.name) =\n" : "# \(key.name) = \(value)\n")
    }

    private static func defaultCell(_ key: SettingDeclaration) -> String {
        if let note = key.defaultNote { return note }
        return key.defaultText.isEmpty ? "" : "`\(key.defaultText)`"
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
