import Daemon
import Glibc
import SystemPackage

/// Files that a command was told to read.
enum TextFiles {
    static func open(_ path: String) throws -> FileDescriptor {
        do {
            return try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
        } catch let error as Errno {
            throw CommandFailure("\(path): \(error)", hint: "check the path and its rights")
        }
    }

    /// Replaces the file as a whole, so that a reader never sees half of it.
    static func write(
        _ text: String, to path: String, mode: FilePermissions = [.ownerReadWrite, .groupRead, .otherRead]
    ) throws {
        let draft = "\(path).new"
        do {
            let file = try FileDescriptor.open(
                FilePath(draft), .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: mode)
            _ = try file.closeAfter { try file.writeAll(text.utf8) }
        } catch let error as Errno {
            throw CommandFailure("\(draft) cannot be written: \(error)", hint: "check the directory and its rights")
        }
        guard rename(draft, path) == 0 else {
            throw CommandFailure(
                "\(path) cannot be replaced: \(Errno(rawValue: errno))", hint: "check the directory and its rights")
        }
    }

    /// In bytes; 0 when it is not a plain file.
    static func size(of file: FileDescriptor) -> Int {
        var status = stat()
        return fstat(file.rawValue, &status) == 0 ? Int(status.st_size) : 0
    }

    /// A secret as a file holds it: the first line, without its end.
    static func firstLine(of path: String) throws -> String {
        let text = String(decoding: try contents(of: path, limit: 1 << 16), as: UTF8.self)
        return String(text.prefix { !$0.isNewline })
    }

    /// What an LDIF value's URL names: a local file.
    static func contents(ofURL url: String) throws -> [UInt8] {
        guard url.lowercased().hasPrefix("file:///"), !url.contains("%") else {
            throw CommandFailure("the URL \(url) cannot be read", hint: "use file:///PATH with a plain path")
        }
        return try contents(of: String(url.dropFirst("file://".count)), limit: 64 << 20)
    }

    private static func contents(of path: String, limit: Int) throws -> [UInt8] {
        let file = try open(path)
        defer { _ = Glibc.close(file.rawValue) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
            guard count > 0 else { return bytes }
            bytes += buffer[..<count]
            if bytes.count > limit {
                throw CommandFailure("\(path) is larger than \(limit) bytes", hint: "name another file")
            }
        }
    }
}
