import Glibc
import SystemPackage

/// The pipe on which an interpreter hears requests. Not for two threads at once.
///
/// The read end is held here as well, so that writing to an interpreter that has gone raises no SIGPIPE. Writing never waits: the interpreter reads
/// each line before the next is written, and a line that does not fit into an empty pipe is refused.
final class RequestPipe {
    /// What the interpreter is to have as its standard input.
    let readEnd: FileDescriptor
    private var writeEnd: FileDescriptor?

    /// Without privileges a pipe can be made no larger.
    private static let size: Int32 = 1 << 20
    private static let setPipeSize: Int32 = 1031

    init() throws(Errno) {
        let ends = try FileDescriptor.pipe(options: .closeOnExec)
        readEnd = ends.readEnd
        writeEnd = ends.writeEnd
        guard fcntl(ends.writeEnd.rawValue, F_SETFL, O_NONBLOCK) == 0 else { throw Errno(rawValue: errno) }
        // Where the system does not let us, a pipe of the usual size will do.
        _ = fcntl(ends.writeEnd.rawValue, Self.setPipeSize, Self.size)
    }

    /// Writes a whole line.
    /// - Throws: when it does not fit, or the pipe has been closed; it is of no more use then.
    func send(_ line: [UInt8]) throws(Errno) {
        guard let writeEnd else { throw Errno.brokenPipe }
        let count = line.withUnsafeBytes { write(writeEnd.rawValue, $0.baseAddress, $0.count) }
        guard count >= 0 else { throw Errno(rawValue: errno) }
        guard count == line.count else { throw Errno.resourceTemporarilyUnavailable }
    }

    /// The interpreter finds the end of its input.
    func hangUp() {
        guard let end = writeEnd else { return }
        writeEnd = nil
        close(end.rawValue)
    }

    deinit {
        hangUp()
        close(readEnd.rawValue)
    }
}
