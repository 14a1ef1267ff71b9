import CLinux
import EventLoop
import Glibc
import Synchronization
public import SystemPackage

/// Small files that are replaced as a whole: a reader finds the old contents or the new, also after a crash.
enum StateFile {
    /// Larger files were not written by this program; the rest is not read.
    private static let largestSize = 4096

    /// - Returns: nil if the file does not exist.
    static func read(_ file: FilePath, atMost largestSize: Int = largestSize) throws(StateFileError) -> [UInt8]? {
        do throws(Errno) {
            return try file.reading(.noFollow) { opened throws(Errno) in try opened.bytes(atMost: largestSize) }
        } catch .noSuchFileOrDirectory {
            return nil
        } catch {
            throw StateFileError("read", file, error)
        }
    }

    /// Writes a new file next to the old one and renames it.
    /// - Parameter isDurable: whether it must survive a power failure, which costs one or two disk flushes. Otherwise
    ///   it survives only the end of the process.
    static func replace(_ file: FilePath, with contents: String, isDurable: Bool) throws(StateFileError) {
        // There is one writer: one daemon per state directory, and the callers serialize.
        let draft = file.removingLastComponent().appending(".\(file.lastComponent?.string ?? "").new")
        do {
            let descriptor = try FileDescriptor.open(
                draft, .writeOnly, options: [.create, .truncate, .closeOnExec, .noFollow],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
            try descriptor.closeAfter {
                _ = try descriptor.writeAll(contents.utf8)
                if isDurable { try flush(descriptor) }
            }
            guard clinux_renameat2(AT_FDCWD, draft.string, AT_FDCWD, file.string, 0) == 0 else {
                throw Errno(rawValue: errno)
            }
            if isDurable {
                let directory = try FileDescriptor.open(
                    file.removingLastComponent(), .readOnly, options: [.directory, .closeOnExec])
                try directory.closeAfter { try flush(directory) }
            }
        } catch {
            throw StateFileError("write", file, error)
        }
    }

    /// Moves a file out of the way, for a person to look at: nothing is deleted.
    /// - Returns: its new name, `FILE.KIND-SECONDS`.
    static func setAside(_ file: FilePath, as kind: String = "damaged", at seconds: Int)
        throws(StateFileError) -> FilePath
    {
        try giveNewName(to: file, as: kind, at: seconds) { aside in
            clinux_renameat2(AT_FDCWD, file.string, AT_FDCWD, aside.string, numericCast(CLINUX_RENAME_NOREPLACE))
        }
    }

    /// Replaces a damaged file at once, so that it is never missing, and keeps the old one under a new name.
    /// - Returns: the new name of the old file, as of ``setAside(_:as:at:)``.
    static func replaceDamaged(
        _ file: FilePath, with contents: String, at seconds: Int
    ) throws(StateFileError) -> FilePath {
        let aside = try giveNewName(to: file, as: "damaged", at: seconds) { aside in link(file.string, aside.string) }
        do throws(StateFileError) { try replace(file, with: contents, isDurable: true) } catch {
            // The next start finds it again.
            unlink(aside.string)
            throw error
        }
        return aside
    }

    /// - Parameter give: the system call, which fails with EEXIST when the name is taken.
    private static func giveNewName(
        to file: FilePath, as kind: String, at seconds: Int, _ give: (FilePath) -> Int32
    ) throws(StateFileError) -> FilePath {
        for number in 0..<1000 {
            let aside = FilePath("\(file.string).\(kind)-\(seconds)\(number == 0 ? "" : "-\(number)")")
            if give(aside) == 0 { return aside }
            guard errno == EEXIST else { break }
        }
        throw StateFileError("set aside", file, Errno(rawValue: errno))
    }

    private static func flush(_ descriptor: FileDescriptor) throws {
        guard fsync(descriptor.rawValue) == 0 else { throw Errno(rawValue: errno) }
    }
}

/// A file of the state directory that could not be read or written.
public struct StateFileError: Error, Hashable, Sendable {
    /// The operation: "read", "write", "set aside" or "remove".
    public var operation: String
    /// The file, also if the error concerns its temporary file or its directory.
    public var path: FilePath
    /// The system error.
    public var errno: Errno

    init(_ operation: String, _ path: FilePath, _ error: any Error) {
        self.operation = operation
        self.path = path
        self.errno = error as? Errno ?? .ioError
    }
}

extension StateFileError: CustomStringConvertible {
    /// What failed, where, and the hint.
    public var description: String { "\(reason); \(hint)" }

    /// What failed, and where.
    package var reason: String { "\(path.printable): cannot \(operation): \(errno) (errno \(errno.rawValue))" }

    /// How to fix it.
    public var hint: String {
        let directory = path.removingLastComponent().shellWord
        return switch errno {
        case _ where errno.isShortage || errno == .diskQuotaExceeded:
            errno.shortageHint(at: path.removingLastComponent())
        case .noSuchFileOrDirectory: "create the directory: mkdir -p \(directory)"
        default: "make sure that the daemon's user can write there: ls -ld \(directory) \(path.shellWord)"
        }
    }
}

/// Allocates job numbers: each is used once and is greater than all earlier ones, also across restarts and crashes.
///
/// The file contains the first number that is not reserved yet. Numbers are reserved in blocks, and the file is
/// flushed to disk before the first number of a block is used, so a crash skips numbers but never repeats one. Only
/// one instance may use the file; the daemon's lock ensures that.
///
/// An invalid file is set aside, and numbering continues with the milliseconds since 1970, which is greater than
/// every earlier number unless there were more than a thousand jobs per second.
///
/// Blocks are reserved on a thread that may block: two flushes of a small file for every thousand jobs.
public final class JobIDSource: Sendable {
    private struct State {
        var next: UInt64
        var end: UInt64
    }

    /// A message for the operator if a damaged file was set aside.
    public let notice: String?

    private let file: FilePath
    private let block: UInt64
    private let state: Mutex<State>
    /// Held while a block is being reserved.
    private let reserving = Mutex(())

    /// Reads the file. Nothing is written before the first number is requested, unless the file is damaged.
    /// - Parameters:
    ///   - file: in an existing directory; if there is no file, numbering begins with 1.
    ///   - block: how many numbers are reserved at a time (1…1,000,000).
    public init(
        file: FilePath, block: UInt64 = 1000, now: Timestamp = SystemWallClock().now
    ) throws(StateFileError) {
        self.file = file
        self.block = min(max(1, block), 1_000_000)
        guard let contents = try StateFile.read(file) else {
            notice = nil
            state = Mutex(State(next: 1, end: 1))
            return
        }
        if let first = Self.number(in: contents) {
            notice = nil
            state = Mutex(State(next: first, end: first))
            return
        }
        let first = UInt64(clamping: now.nanosecondsSince1970 / 1_000_000)
        let end = first + self.block
        // Reserved now: if the daemon ends before its first job, the next start must not begin with 1.
        let aside = try StateFile.replaceDamaged(file, with: Self.text(end), at: Int(now.secondsSince1970))
        notice =
            "\(file.printable): does not contain a job number; it was set aside as \(aside.printable), and job numbers continue with \(first)"
        state = Mutex(State(next: first, end: end))
    }

    /// The next number.
    /// - Throws: ``StateFileError`` if a block cannot be reserved.
    public func next() async throws(StateFileError) -> JobID {
        if let next = reserved() { return next }
        return try await BlockingWork.run { [self] () throws(StateFileError) in
            try reserving.withLock { _ throws(StateFileError) in
                while true {
                    if let next = reserved() { return next }
                    try reserve()
                }
            }
        }
    }

    /// From now on numbers are also greater than this one, which is in use although the file does not tell it.
    func raise(above known: JobID) {
        state.withLock { state in
            state.next = max(state.next, known.number + 1)
            state.end = max(state.end, state.next)
        }
    }

    private func reserved() -> JobID? {
        state.withLock { state in
            guard state.next < state.end else { return nil }
            defer { state.next += 1 }
            return JobID(state.next)
        }
    }

    private func reserve() throws(StateFileError) {
        let end = state.withLock(\.next) + block
        try StateFile.replace(file, with: Self.text(end), isDurable: true)
        state.withLock { $0.end = end }
    }

    private static func text(_ end: UInt64) -> String { "\(end)\n" }

    /// Strict, so that a truncated or overwritten file is not read as a smaller number: digits without a leading
    /// zero, then a line feed. Half of the range is left for further blocks.
    private static func number(in contents: [UInt8]) -> UInt64? {
        guard contents.last == UInt8(ascii: "\n") else { return nil }
        let digits = contents.dropLast()
        guard let first = digits.first, first != UInt8(ascii: "0"), digits.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = UInt64(String(decoding: digits, as: UTF8.self)), number <= UInt64.max / 2
        else { return nil }
        return number
    }
}
