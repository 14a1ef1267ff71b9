import SystemPackage

/// Small files that only their owner can read.
enum TextFile {
    static func read(_ path: FilePath) throws(SandboxError) -> String {
        if let text = try readIfThere(path) { return text }
        throw SandboxError(.directory, "there is no \(path)", hint: "stop the sandbox and start it in a new directory")
    }

    /// The text of a file, nothing where it is not there or, below /proc, where its process has gone.
    static func readIfThere(_ path: FilePath) throws(SandboxError) -> String? {
        do {
            let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
            return try file.closeAfter {
                var bytes: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 65536)
                while true {
                    let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
                    if count == 0 { return String(decoding: bytes, as: UTF8.self) }
                    bytes += buffer[..<count]
                }
            }
        } catch {
            if let number = error as? Errno, [.noSuchFileOrDirectory, .noSuchProcess].contains(number) { return nil }
            throw SandboxError(.directory, "cannot read \(path): \(error)", hint: "check its owner and mode")
        }
    }

    static func write(_ text: String, to path: FilePath) throws(SandboxError) {
        do {
            let file = try FileDescriptor.open(
                path, .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: .ownerReadWrite)
            try file.closeAfter { _ = try file.writeAll(Array(text.utf8)) }
        } catch {
            throw SandboxError(
                .directory, "cannot write \(path): \(error)", hint: "name a directory in which this user may write")
        }
    }
}
