package import DaemonKit
import JobCore

/// What is made from the declarations of the settings: the reference and the shipped files.
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
