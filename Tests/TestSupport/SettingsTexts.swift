package import Daemon
import JobCore

/// What is made from the declarations of the settings: the reference, for browsers and as a manual page, and the shipped files.
extension SettingsSchema {
    /// How settings are read, one paragraph each; code is between backquotes.
    private static let rules = [
        """
        Settings are INI files: `[Section]` and `KEY = value`. The service's own file (option `-c`, by default \
        `/etc/Provisioning/Backup/Rsnapshot.conf`) wins over the global one (option `-g`, by default \
        `/etc/Provisioning/Global.conf`), and the environment wins over both: `PROV_`, section, `_` and key, with `_` for blanks, \
        such as `PROV_OPERATION_MODE_SLEEP=5s`.
        """,
        """
        Comments begin with `#` or `;` on a line of their own. Lists are separated by blanks. Yes and no are written as \
        `1` or `0`, `yes` or `no`, `true` or `false`, `on` or `off`. Durations are seconds, or have a unit: `30s`, `5m`, `2h`, `1d`. \
        Keys are not case-sensitive. An unknown key gives a warning (in [Exit NAME] an error), a wrong value an error; both name file and line.
        """,
        """
        A change takes effect with a reload, for jobs that start after it. Keys marked with "restart" take effect at the next \
        start of the daemon.
        """,
    ]

    private var described: [Section] { sections.filter { $0.replacement == nil } }

    /// The rules, and a Markdown table for each section.
    package var reference: String {
        let tables = described.map { section in
            let rows = section.keys.filter(\.isListed).map { key in
                let cells = [key.row, key.form, key.shownDefault, key.meaning + (key.needsRestart ? " (restart)" : "")]
                return "| \(cells.map(Self.cell).joined(separator: " | ")) |\n"
            }
            return """
                ## [\(section.name)]

                \(section.meaning)

                | key | value | default | meaning |
                |---|---|---|---|

                """ + rows.joined()
        }
        return (Self.rules.map { $0 + "\n" } + tables).joined(separator: "\n")
    }

    /// The same for a manual page in mdoc(7): the rules.
    package static var manualRules: String { rules.map(ManualText.lines).joined(separator: ".Pp\n") }

    /// A subsection of a manual page for each section.
    package var manualSections: String {
        described.map { section in
            let items = section.keys.filter(\.isListed).map { key in
                let byDefault = key.shownDefault.isEmpty ? nil : "default: \(key.shownDefault)"
                let notes = [key.form, byDefault, key.needsRestart ? "restart" : nil].compactMap(\.self)
                return ".It \(ManualText.words(key.row))\n"
                    + ManualText.lines(key.meaning) + ManualText.lines("(\(notes.joined(separator: "; ")))")
            }
            return ".Ss [\(section.name)]\n\(ManualText.lines(section.meaning)).Bl -tag -width Ds\n" + items.joined()
                + ".El\n"
        }.joined()
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

extension SettingDeclaration {
    /// As the reference shows it: in words, or as code; empty where there is none.
    fileprivate var shownDefault: String { defaultNote ?? (defaultText.isEmpty ? "" : "`\(defaultText)`") }
}

/// Text with code between backquotes, for a manual page in mdoc(7).
package enum ManualText {
    /// Ends with a line break; each sentence has a line of its own.
    package static func lines(_ text: String) -> String {
        text.replacing(". ", with: ".\n").split(separator: "\n").map { line in
            (line.hasPrefix(".") || line.hasPrefix("'") ? "\\&" : "") + inline(String(line)) + "\n"
        }.joined()
    }

    /// For the line of a macro: no word is taken for another macro.
    package static func words(_ text: String) -> String {
        inline(text).split(separator: " ").map { "\\&\($0)" }.joined(separator: " ")
    }

    private static func inline(_ text: String) -> String {
        text.replacing("\\", with: "\\e").split(separator: "`", omittingEmptySubsequences: false).enumerated().map {
            $0.offset.isMultiple(of: 2) ? String($0.element) : "\\fB\($0.element)\\fP"
        }.joined()
    }
}
