import Glibc
import JobCore
import SystemPackage

/// A settings file or a secret's file as it was when it was read: bytes and mode from one descriptor.
struct SettingsFile {
    let bytes: [UInt8]
    private let mode: mode_t

    /// Larger files are no settings.
    private static let limit = 1 << 20

    /// Why a file could not be read.
    struct Unreadable: Error {
        let reason: String
        let hint: String
        fileprivate var isAbsent = false

        static let notText = Unreadable(reason: "the file is not text in UTF-8", hint: "save it in UTF-8")
        static let empty = Unreadable(reason: "the file is empty", hint: "write the secret into it")
    }

    /// - Throws: also where others could change the file: nothing of it is believed then.
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

    init?(readingIfPresent path: FilePath) throws(Unreadable) {
        do throws(Unreadable) {
            try self.init(reading: path)
        } catch  where error.isAbsent {
            return nil
        }
    }

    /// Whether anybody but the owner can read or write it.
    var isOpenToOthers: Bool { mode & 0o066 != 0 }

    /// The content of a secret's file without the line end that editors and `echo` leave; `nil` when it is not text.
    var secretText: String? {
        var content = bytes[...]
        if content.last == UInt8(ascii: "\n") { content.removeLast() }
        if content.last == UInt8(ascii: "\r") { content.removeLast() }
        guard !content.contains(0) else { return nil }
        return String(validating: content, as: UTF8.self)
    }

    /// A command may name its settings from where it was started.
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
            default: "look at the file system"
            }
        return Unreadable(
            reason: "the file cannot be read: \(Errno(rawValue: code))", hint: hint,
            isAbsent: code == ENOENT || code == ENOTDIR)
    }
}
