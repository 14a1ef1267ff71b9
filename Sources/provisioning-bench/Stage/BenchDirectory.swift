import FoundationEssentials
import Glibc
import SystemPackage

/// The directory of a run, which holds all that it makes. It lies where only its owner can write, as home roots must.
struct BenchDirectory: Sendable {
    let path: FilePath

    /// Makes one.
    init() throws {
        let temporary = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        let parent: FilePath = geteuid() == 0 ? "/var/lib" : FilePath(temporary)
        var name = Array(parent.appending("prov-bench.XXXXXX").string.utf8CString)
        guard mkdtemp(&name) != nil else {
            throw BenchFailure("no directory can be made in \(parent): \(Errno(rawValue: errno)); set TMPDIR")
        }
        path = FilePath(String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
        chmod(path.string, 0o755)
    }

    func remove() throws { try FileManager.default.removeItem(atPath: path.string) }
}

/// Small deeds on files, with errors that name the file.
enum Files {
    static func make(_ directory: FilePath, mode: mode_t = 0o755) throws {
        guard mkdir(directory.string, mode) == 0 else {
            throw BenchFailure("\(directory) cannot be made: \(Errno(rawValue: errno))")
        }
    }

    static func own(_ directory: FilePath, _ number: Int) throws {
        guard geteuid() != 0 || chown(directory.string, uid_t(number), gid_t(number)) == 0 else {
            throw BenchFailure("\(directory) cannot be given away: \(Errno(rawValue: errno))")
        }
    }

    static func write(_ text: String, to path: FilePath, mode: mode_t = 0o600) throws {
        do {
            let file = try FileDescriptor.open(
                path, .writeOnly, options: [.create, .truncate, .closeOnExec],
                permissions: FilePermissions(rawValue: mode))
            try file.closeAfter { _ = try file.writeAll(Array(text.utf8)) }
        } catch {
            throw BenchFailure("\(path) cannot be written: \(error)")
        }
    }

    static func read(_ path: FilePath) throws -> String {
        do {
            let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
            return try file.closeAfter {
                var bytes: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 16_384)
                while true {
                    let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
                    if count == 0 { return String(decoding: bytes, as: UTF8.self) }
                    bytes += buffer[..<count]
                }
            }
        } catch {
            throw BenchFailure("\(path) cannot be read: \(error)")
        }
    }

    static func removeIfThere(_ path: FilePath) throws {
        if FileManager.default.fileExists(atPath: path.string) {
            try FileManager.default.removeItem(atPath: path.string)
        }
    }
}
