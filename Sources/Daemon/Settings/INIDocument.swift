/// An INI file as it was written: sections and keys with their lines, nothing interpreted yet.
///
/// One rule for each line: blank, a comment (`#` or `;` first), `[Section]`, or `KEY = value`. A value goes to the end of
/// its line, so it may hold `#`, `;` and `=`; blanks around it do not belong to it. Anything else is a problem that names
/// file and line, and reading goes on behind it, so that one pass finds all of them.
package struct INIDocument: Hashable, Sendable {
    /// One `KEY = value`.
    package struct Item: Hashable, Sendable {
        /// The key as it was written.
        package let key: String
        /// The value without the blanks around it.
        package let value: String
        /// Counted from 1.
        package let line: Int
    }

    /// One `[Section]` with what stands below it. A section that is opened again is a further one.
    package struct Section: Hashable, Sendable {
        /// What stands between the brackets, without the blanks around it.
        package let title: String
        /// The line of the brackets, counted from 1.
        package let line: Int
        /// In the order of the file.
        package fileprivate(set) var items: [Item] = []
    }

    /// The file's name as messages say it.
    package let source: String
    /// In the order of the file.
    package private(set) var sections: [Section] = []
    /// Every line that could not be read.
    package private(set) var problems: [SettingsProblem] = []

    /// Reads a whole file.
    ///
    /// - Parameters:
    ///   - bytes: UTF-8, with or without a byte order mark, lines ended by LF or CRLF.
    ///   - source: the file's name, for messages alone.
    package init(parsing bytes: some Sequence<UInt8>, source: String) {
        self.source = source
        let lines = Array(bytes).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (offset, line) in lines.enumerated() {
            var content = line
            if offset == 0, content.starts(with: [0xEF, 0xBB, 0xBF]) { content = content.dropFirst(3) }
            read(content, line: offset + 1)
        }
    }

    private mutating func read(_ bytes: ArraySlice<UInt8>, line: Int) {
        let bytes = bytes.trimmingBlanks
        guard let first = bytes.first, first != UInt8(ascii: "#"), first != UInt8(ascii: ";") else { return }
        guard let text = String(validating: bytes, as: UTF8.self), !text.utf8.contains(0) else {
            return refuse(line, "the line is not text in UTF-8", hint: "save the file in UTF-8")
        }
        if first == UInt8(ascii: "[") { return readSection(text, line: line) }
        guard let equals = text.firstIndex(of: "=") else {
            return refuse(
                line, "the line is neither [Section] nor KEY = value nor a comment",
                hint: "write KEY = value, or begin the line with #")
        }
        let key = text[..<equals].trimmingBlanks
        guard !key.isEmpty else {
            return refuse(line, "no key stands before the equals sign", hint: "write KEY = value")
        }
        guard !sections.isEmpty else {
            return refuse(line, "the key \(key) stands before any section", hint: "write a line [Section] above it")
        }
        let value = text[text.index(after: equals)...].trimmingBlanks
        sections[sections.count - 1].items.append(Item(key: String(key), value: String(value), line: line))
    }

    private mutating func readSection(_ text: String, line: Int) {
        let title = text.dropFirst().dropLast().trimmingBlanks
        guard text.hasSuffix("]"), !title.isEmpty, !title.contains(where: { $0 == "[" || $0 == "]" }) else {
            // What follows must not fall into the section before: it gets one of its own, which nobody knows.
            sections.append(Section(title: "", line: line))
            return refuse(
                line, "the section is not written as [Section]",
                hint: "write the name between [ and ], alone on its line")
        }
        sections.append(Section(title: String(title), line: line))
    }

    /// The line itself is never shown: what could not be read may be a password.
    private mutating func refuse(_ line: Int, _ reason: String, hint: String) {
        problems.append(
            SettingsProblem(severity: .error, place: .file(source, line: line), reason: reason, hint: hint))
    }
}

extension UInt8 {
    fileprivate var isBlank: Bool { self == 0x20 || self == 0x09 || self == 0x0D }
}

extension ArraySlice<UInt8> {
    fileprivate var trimmingBlanks: Self {
        var rest = self.drop(while: \.isBlank)
        while let last = rest.last, last.isBlank { rest.removeLast() }
        return rest
    }
}

extension Substring {
    /// Without blanks and tabs at either end.
    var trimmingBlanks: Substring {
        var rest = self.drop { $0 == " " || $0 == "\t" }
        while let last = rest.last, last == " " || last == "\t" { rest.removeLast() }
        return rest
    }
}
