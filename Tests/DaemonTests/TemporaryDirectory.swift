import Foundation
import SystemPackage

/// A directory of a test's own, removed with its last holder.
final class TemporaryDirectory: Sendable {
    let path: FilePath

    init() throws {
        var template = Array("/tmp/daemonkit-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        path = FilePath(String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }

    deinit {
        do { try FileManager.default.removeItem(atPath: path.string) } catch { print("left behind: \(path): \(error)") }
    }

    func file(_ name: String, _ content: String, mode: Int = 0o600) throws -> FilePath {
        let file = path.appending(name)
        try Data(content.utf8).write(to: URL(filePath: file.string))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file.string)
        return file
    }
}
