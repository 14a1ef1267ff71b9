import Glibc
import JobCore
import SystemPackage

/// The sections and keys of an INI file, with their lines. Values are not interpreted.
///
/// A line is blank, a comment (`#` or `;` first), `[Section]`, or `KEY = value`. A value extends to the end of its line, so it may contain `#`, `;`
/// and `=`; blanks around it are ignored. Every other line is a problem with file and line; one pass finds all problems.
struct INIDocument: Hashable, Sendable {
    /// One `KEY = value`.
    struct Item: Hashable, Sendable {
        let key: String
        let value: String
        /// From 1.
        let line: Int
    }

    /// One `[Section]` with its items. A title that occurs twice makes two sections.
    struct Section: Hashable, Sendable {
        let title: String
        /// Of the title, from 1.
        let line: Int
        fileprivate(set) var items: [Item] = []
    }

    /// The file's name, for messages.
    let source: String
    private(set) var sections: [Section] = []
    private(set) var problems: [SettingsProblem] = []

    /// - Parameters:
    ///   - bytes: UTF-8, with or without a byte order mark, lines ended by LF or CRLF.
    ///   - source: the file's name, for messages.
    init(parsing bytes: some Sequence<UInt8>, source: String) {
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
            return refuse(line, "there is no key before the equals sign", hint: "write KEY = value")
        }
        guard !sections.isEmpty else {
            return refuse(line, "the key \(key) is before the first section", hint: "write a line [Section] above it")
        }
        let value = text[text.index(after: equals)...].trimmingBlanks
        sections[sections.count - 1].items.append(Item(key: String(key), value: String(value), line: line))
    }

    private mutating func readSection(_ text: String, line: Int) {
        let title = text.dropFirst().dropLast().trimmingBlanks
        guard text.hasSuffix("]"), !title.isEmpty, !title.contains(where: { $0 == "[" || $0 == "]" }) else {
            // The following keys must not become part of the previous section, so they get an unknown one.
            sections.append(Section(title: "", line: line))
            return refuse(
                line, "the section is not written as [Section]",
                hint: "write the name between [ and ], alone on its line")
        }
        sections.append(Section(title: String(title), line: line))
    }

    /// The line is not shown, because it may contain a password.
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
    /// Without leading and trailing blanks and tabs.
    var trimmingBlanks: Substring {
        var rest = self.drop { $0 == " " || $0 == "\t" }
        while let last = rest.last, last == " " || last == "\t" { rest.removeLast() }
        return rest
    }
}

/// The content and mode of a settings file or a secret's file.
struct SettingsFile {
    let bytes: [UInt8]
    private let mode: mode_t

    private static let limit = 1 << 20

    /// Why a file could not be read.
    struct Unreadable: Error {
        let reason: String
        let hint: String
        fileprivate(set) var isAbsent = false

        static let notText = Unreadable(reason: "the file is not text in UTF-8", hint: "save it in UTF-8")
        static let empty = Unreadable(reason: "the file is empty", hint: "write the secret into it")
    }

    /// - Throws: also if another user could change the file.
    init(reading path: FilePath) throws(Unreadable) {
        if let fault = TrustedPath("", Self.absolute(path), .file).fault {
            throw Unreadable(reason: fault.findingOfFile, hint: fault.hint)
        }
        let descriptor = open(path.string, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        guard descriptor >= 0 else { throw Self.failure(errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw Self.failure(errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw Unreadable(reason: "this is not a regular file", hint: "name a file")
        }
        mode = status.st_mode
        bytes = try Self.readAll(descriptor)
    }

    /// Whether users other than the owner can read or write it.
    var isOpenToOthers: Bool { mode & 0o066 != 0 }

    /// The content without the last line end, which editors and `echo` add; nil: not text.
    var secretText: String? {
        var content = bytes[...]
        if content.last == UInt8(ascii: "\n") { content.removeLast() }
        if content.last == UInt8(ascii: "\r") { content.removeLast() }
        guard !content.contains(0) else { return nil }
        return String(validating: content, as: UTF8.self)
    }

    /// Paths on the command line may be relative.
    private static func absolute(_ path: FilePath) -> FilePath {
        if path.isAbsolute { return path }
        var directory = [CChar](repeating: 0, count: Int(PATH_MAX))
        guard getcwd(&directory, directory.count) != nil else { return path }
        return FilePath(platformString: directory).pushing(path)
    }

    private static func readAll(_ descriptor: Int32) throws(Unreadable) -> [UInt8] {
        var content: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count == 0 { return content }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure(errno) }
            content += buffer[..<count]
            guard content.count <= limit else {
                throw Unreadable(reason: "the file is larger than 1 MiB", hint: "name a settings file")
            }
        }
    }

    private static func failure(_ code: Int32) -> Unreadable {
        let hint =
            switch code {
            case ENOENT, ENOTDIR: "check the path, or create the file"
            case EACCES, EPERM: "let the daemon's user read it, or run as root"
            default: "check the file system: dmesg"
            }
        return Unreadable(
            reason: "the file cannot be read: \(Errno(rawValue: code))", hint: hint,
            isAbsent: code == ENOENT || code == ENOTDIR)
    }
}
