import Glibc
import Provisioning
import SystemPackage

/// The lock file of an account's snapshots, held by this process: rsnapshot by hand, which reads the number in it, refuses meanwhile.
///
/// It lies in a directory that only root can write. One whose process is gone, or is no rsnapshot, is left over and replaced: numbers
/// of processes come again.
final class AccountLock: Sendable {
    let file: FilePath

    /// Somebody else works on the account's snapshots.
    struct Held: Error, Hashable {
        var file: FilePath
        /// The process and what it is called.
        var holder: String
    }

    /// - Throws: ``Held``, or `Errno`.
    init(_ file: FilePath) throws {
        self.file = file
        let draft = FilePath("\(file.string).\(getpid())")
        let written = try FileDescriptor.open(
            draft, .writeOnly, options: [.create, .truncate, .noFollow, .closeOnExec],
            permissions: [.ownerReadWrite, .groupRead, .otherRead])
        defer { unlink(draft.string) }
        try written.closeAfter { _ = try written.writeAll("\(getpid())\n".utf8) }
        // A second round, since the first may find a lock that is left over.
        for _ in 0..<2 {
            if link(draft.string, file.string) == 0 { return }
            guard errno == EEXIST else { throw Errno(rawValue: errno) }
            if let holder = Self.holder(of: file) { throw Held(file: file, holder: holder) }
            unlink(file.string)
        }
        throw Errno.fileExists
    }

    deinit { unlink(file.string) }

    /// Who holds a lock file.
    /// - Returns: nil when nobody does, or this process itself.
    static func holder(of file: FilePath) -> String? {
        guard let line = try? SmallFile.text(at: file).prefix(while: { !$0.isNewline }),
            let number = EntryReader.decimal(String(line)), number != UInt64(getpid()),
            let command = try? SmallFile.bytes(at: FilePath("/proc/\(number)/cmdline"))
        else { return nil }
        // rsnapshot is a script: its interpreter's command line names it, and so does the daemon's own.
        let words = command.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        let isOurs = words.prefix(3).contains { $0.contains("rsnapshot") }
        return isOurs ? "process \(number) (\(words.joined(separator: " ").prefix(120)))" : nil
    }
}
