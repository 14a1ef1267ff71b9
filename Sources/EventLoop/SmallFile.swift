import Glibc
package import SystemPackage

// Small files and directories, read as a whole. These calls may block.

extension FileDescriptor {
    /// The next bytes, so many at most.
    package func bytes(atMost limit: Int) throws(Errno) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < limit {
            var failure: Errno?
            let part = [UInt8](unsafeUninitializedCapacity: min(8_192, limit - bytes.count)) { buffer, count in
                let number = Glibc.read(rawValue, buffer.baseAddress, buffer.count)
                if number < 0 { failure = Errno(rawValue: errno) }
                count = max(0, number)
            }
            if let failure {
                guard failure == .interrupted else { throw failure }
            } else if part.isEmpty {
                break
            } else {
                bytes += part
            }
        }
        return bytes
    }

    /// All bytes to the end.
    /// - Throws: also EFBIG for more than the limit.
    package func contents(limit: Int) throws(Errno) -> [UInt8] {
        let bytes = try bytes(atMost: limit + 1)
        guard bytes.count <= limit else { throw .fileTooLarge }
        return bytes
    }
}

extension FilePath {
    /// Opens the file for reading, and closes it afterwards.
    package func reading<Value>(
        _ options: FileDescriptor.OpenOptions = [], _ body: (FileDescriptor) throws(Errno) -> Value
    ) throws(Errno) -> Value {
        let file = withPlatformString { open($0, O_RDONLY | O_CLOEXEC | options.rawValue) }
        guard file >= 0 else { throw Errno(rawValue: errno) }
        defer { close(file) }
        return try body(FileDescriptor(rawValue: file))
    }

    /// The names in a directory without `.` and `..`, each with its type (`DT_DIR` and so on, readdir(3)).
    package func entries() throws(Errno) -> [(name: String, type: UInt8)] {
        guard let list = withPlatformString({ opendir($0) }) else { throw Errno(rawValue: errno) }
        defer { closedir(list) }
        var entries: [(name: String, type: UInt8)] = []
        errno = 0
        while let entry = readdir(list) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { entries.append((name, entry.pointee.d_type)) }
            errno = 0
        }
        guard errno == 0 else { throw Errno(rawValue: errno) }
        return entries
    }
}
