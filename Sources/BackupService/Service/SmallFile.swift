import SystemPackage

/// Reads files that are small by nature: templates, lists of the kernel, configurations of one account.
enum SmallFile {
    /// More than any such file has.
    static let limit = 4 << 20

    /// - Throws: `Errno`; EFBIG for a file that is longer than `limit`, EILSEQ for one that is not UTF-8.
    static func text(at path: FilePath) throws -> String {
        let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
        return try file.closeAfter { try text(of: file) }
    }

    static func text(of file: FileDescriptor) throws -> String {
        guard let text = String(validating: try bytes(of: file), as: UTF8.self) else { throw Errno.illegalByteSequence }
        return text
    }

    /// - Throws: `Errno`; EFBIG for a file that is longer than `limit`.
    static func bytes(at path: FilePath) throws -> [UInt8] {
        let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
        return try file.closeAfter { try bytes(of: file) }
    }

    /// - Throws: `Errno`; EFBIG for a file that is longer than `limit`.
    static func bytes(of file: FileDescriptor) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let part = try [UInt8](unsafeUninitializedCapacity: 8192) { buffer, count in
                count = try file.read(into: UnsafeMutableRawBufferPointer(buffer))
            }
            if part.isEmpty { return bytes }
            bytes += part
            if bytes.count > limit { throw Errno.fileTooLarge }
        }
    }
}
