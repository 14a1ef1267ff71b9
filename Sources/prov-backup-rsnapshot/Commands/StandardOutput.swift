import Daemon
import Glibc
import JobCore
import Synchronization
import SystemPackage

/// What a command prints. Where that cannot be written the command ends: a list that is not whole must not pass for one that is.
enum StandardOutput {
    /// Gives a stream that was handed over closed a descriptor on which each use fails; else the next file that is opened would take its place.
    static func holdStandardStreams() {
        for (stream, mode) in [(STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY)]
        where fcntl(stream, F_GETFD) < 0 {
            // The lowest free number is this one.
            _ = open("/dev/null", mode)
        }
    }

    /// What has not been handed over yet; a terminal gets each text at once.
    private static let buffer = Mutex<[UInt8]>([])
    private static let isTerminal = isatty(STDOUT_FILENO) == 1

    /// Writes text as it is. Pipes and files get it in large pieces, or with ``flush()``.
    static func write(_ text: String) {
        buffer.withLock { bytes in
            bytes += text.utf8
            if isTerminal || bytes.count >= 1 << 16 { drain(&bytes) }
        }
    }

    /// What was printed is seen at once, also by a pipe.
    static func flush() { buffer.withLock { drain(&$0) } }

    /// Writes the rest; a file system may tell only now that it has no room.
    static func close() {
        flush()
        if Glibc.close(STDOUT_FILENO) != 0 { fail(Errno(rawValue: errno)) }
    }

    private static func drain(_ bytes: inout [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count >= 0 { rest = rest.dropFirst(count) } else if errno != EINTR { fail(Errno(rawValue: errno)) }
        }
        bytes.removeAll(keepingCapacity: true)
    }

    /// A reader that has gone has read enough: as with other programs, nobody hears of it.
    private static func fail(_ error: Errno) -> Never {
        if error == .brokenPipe {
            signal(SIGPIPE, SIG_DFL)
            raise(SIGPIPE)
        }
        printError("standard output cannot be written: \(error); look at what it is redirected to")
        _exit(ProcessExitStatus.failure.rawValue)
    }
}

/// Prints text, each of its lines safe for a terminal and of bounded length.
///
/// In this target it stands for Swift's `print`, which does not tell that nothing was written.
func print(_ text: some CustomStringConvertible) {
    let lines = text.description.split(separator: "\n", omittingEmptySubsequences: false)
    StandardOutput.write(lines.map { OneLine.of(String($0)) }.joined(separator: "\n") + "\n")
}

/// Prints a value as one line of JSON. It is whole however long it is: a program that reads it must not take a part for the value.
func printJSON(_ value: some Encodable) throws { StandardOutput.write(try JSONText.line(value) + "\n") }

/// Swift's own, which ``StandardOutput`` knows nothing of.
@available(*, unavailable, message: "use StandardOutput.write")
func print(_: Any..., separator: String = " ", terminator: String = "\n") {}
