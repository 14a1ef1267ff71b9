import EventLoop
import Glibc
import JobCore
package import SystemPackage

/// A line of an INI file that is neither blank nor a comment (`#` or `;` first). Values are not interpreted.
///
/// A value extends to the end of its line, so it may contain `#`, `;` and `=`; blanks around it are ignored.
enum INILine: Hashable {
    /// nil: it is not written as `[Section]`.
    case section(String?)
    case item(key: String, value: String)

    /// - Parameter bytes: UTF-8, without the LF, with or without the CR.
    /// - Returns: nil for a blank line or a comment.
    /// - Throws: never with the line's text, because it may contain a password.
    init?(parsing bytes: ArraySlice<UInt8>) throws(SettingValueError) {
        let bytes = bytes.trimmingBlanks
        guard let first = bytes.first, first != UInt8(ascii: "#"), first != UInt8(ascii: ";") else { return nil }
        guard let text = String(validating: bytes, as: UTF8.self), !text.utf8.contains(0) else {
            throw SettingValueError("the line is not text in UTF-8", hint: "save the file in UTF-8")
        }
        if first == UInt8(ascii: "[") {
            let title = text.dropFirst().dropLast().trimmingBlanks
            let isRight = text.hasSuffix("]") && !title.isEmpty && !title.contains { $0 == "[" || $0 == "]" }
            self = .section(isRight ? String(title) : nil)
            return
        }
        guard let equals = text.firstIndex(of: "=") else {
            throw SettingValueError(
                "the line is neither [Section] nor KEY = value nor a comment",
                hint: "write KEY = value, or begin the line with #")
        }
        let key = text[..<equals].trimmingBlanks
        guard !key.isEmpty else {
            throw SettingValueError("there is no key before the equals sign", hint: "write KEY = value")
        }
        self = .item(key: String(key), value: String(text[text.index(after: equals)...].trimmingBlanks))
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

extension FilePath {
    /// Paths on the command line may be relative. nil: the working directory no longer exists.
    package var absolute: FilePath? {
        guard isRelative else { return self }
        guard let here = getcwd(nil, 0) else { return nil }
        defer { free(here) }
        return FilePath(platformString: here).pushing(self)
    }
}

/// The content and mode of a settings file or a secret's file.
struct SettingsFile {
    let bytes: [UInt8]
    private let mode: mode_t

    private static let limit = 1 << 20

    /// - Throws: also if another user could change the file.
    init(reading path: FilePath) throws(SettingValueError) {
        if let fault = TrustedPath("", path.absolute ?? path, .file).fault {
            throw SettingValueError(fault.findingOfFile, hint: fault.hint)
        }
        let file: (bytes: [UInt8], mode: mode_t)?
        do throws(Errno) {
            file = try path.reading(FileDescriptor.OpenOptions(rawValue: O_NOCTTY | O_NONBLOCK)) {
                opened throws(Errno) in
                var status = stat()
                guard fstat(opened.rawValue, &status) == 0 else { throw Errno(rawValue: errno) }
                guard status.st_mode & S_IFMT == S_IFREG else { return nil }
                return (try opened.contents(limit: Self.limit), status.st_mode)
            }
        } catch .fileTooLarge {
            throw SettingValueError("the file is larger than 1 MiB", hint: "name a settings file")
        } catch {
            throw Self.failure(error)
        }
        guard let file else { throw SettingValueError("this is not a regular file", hint: "name a file") }
        (bytes, mode) = file
    }

    /// Whether users other than the owner can read or write it.
    var isOpenToOthers: Bool { mode & 0o066 != 0 }

    /// The content without the last line end, which editors and `echo` add.
    func secretText() throws(SettingValueError) -> String {
        var content = bytes[...]
        if content.last == UInt8(ascii: "\n") { content.removeLast() }
        if content.last == UInt8(ascii: "\r") { content.removeLast() }
        guard !content.contains(0), let text = String(validating: content, as: UTF8.self) else {
            throw SettingValueError("the file is not text in UTF-8", hint: "save it in UTF-8")
        }
        return text
    }

    private static func failure(_ code: Errno) -> SettingValueError {
        let hint =
            switch code {
            case .noSuchFileOrDirectory, .notDirectory: "check the path, or create the file"
            case .permissionDenied, .notPermitted: "let the daemon's user read it, or run as root"
            default: "check the file system: dmesg"
            }
        return SettingValueError("the file cannot be read: \(code)", hint: hint)
    }
}
