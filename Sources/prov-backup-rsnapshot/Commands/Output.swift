import Daemon
import FoundationEssentials
import Glibc
import JobCore
import Synchronization
import SystemPackage

/// The standard output of commands. If it cannot be written, the command fails, so that an incomplete list is not taken for a complete one.
enum StandardOutput {
    /// Opens closed standard streams with a descriptor on which every use fails, so that no other file gets their numbers.
    static func holdStandardStreams() {
        for (stream, mode) in [(STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY)]
        where fcntl(stream, F_GETFD) < 0 {
            // open(2) returns the lowest free number.
            _ = open("/dev/null", mode)
        }
    }

    /// Text that is not written yet. A terminal is written to at once.
    private static let buffer = Mutex<[UInt8]>([])
    private static let isTerminal = isatty(STDOUT_FILENO) == 1

    /// Writes text unchanged, to pipes and files in large pieces.
    static func write(_ text: String) {
        buffer.withLock { bytes in
            bytes += text.utf8
            if isTerminal || bytes.count >= 1 << 16 { drain(&bytes) }
        }
    }

    /// Writes the buffer, for commands that go on. If the reader has gone, the program ends, even if there is nothing to write.
    static func flush() {
        buffer.withLock { drain(&$0) }
        var output = pollfd(fd: STDOUT_FILENO, events: 0, revents: 0)
        if poll(&output, 1, 0) > 0, output.revents & Int16(POLLERR) != 0 { fail(.brokenPipe) }
    }

    /// Writes the buffer and closes the stream, which may report an error of earlier writes. A reader that has gone has everything that it wanted.
    static func close() {
        buffer.withLock { drain(&$0) }
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

    /// A closed pipe ends the program by SIGPIPE, as usual.
    private static func fail(_ error: Errno) -> Never {
        if error == .brokenPipe {
            signal(SIGPIPE, SIG_DFL)
            raise(SIGPIPE)
        }
        printError("standard output cannot be written: \(error); check where it is redirected to: df -h")
        _exit(ProcessExitStatus.failure.rawValue)
    }
}

/// Prints text with escaped lines of bounded length. It replaces Swift's `print`, which ignores errors.
func print(_ text: some CustomStringConvertible) {
    let lines = text.description.split(separator: "\n", omittingEmptySubsequences: false)
    StandardOutput.write(lines.map { OneLine.of(String($0)) }.joined(separator: "\n") + "\n")
}

/// Prints a value as one line of JSON, of any length.
func printJSON(_ value: some Encodable) throws { StandardOutput.write(try jsonLine(value) + "\n") }

/// Swift's `print` does not use ``StandardOutput``.
@available(*, unavailable, message: "use StandardOutput.write")
func print(_: Any..., separator: String = " ", terminator: String = "\n") {}

/// JSON on one line, with sorted keys, bytes as text, and escaped control characters.
func jsonLine(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.dataEncodingStrategy = .custom { bytes, encoder in
        var container = encoder.singleValueContainer()
        try container.encode(String(decoding: bytes, as: UTF8.self))
    }
    return escapingControls(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// In JSON, these characters only occur in strings, where they may be escaped by their number (RFC 8259, section 7).
private func escapingControls(_ json: String) -> String {
    guard json.unicodeScalars.contains(where: OneLine.mustBeEscaped) else { return json }
    var result = ""
    for scalar in json.unicodeScalars {
        guard OneLine.mustBeEscaped(scalar) else {
            result.unicodeScalars.append(scalar)
            continue
        }
        for unit in String(scalar).utf16 {
            let digits = String(unit, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }
    }
    return result
}

/// A line for each title and its value; fields without a value are left out.
func fieldLines(_ fields: [(String, String?)], width: Int) -> [String] {
    fields.compactMap { title, value in
        value.map { title + String(repeating: " ", count: max(1, width - title.count)) + OneLine.escaping($0) }
    }
}

/// A table with headings and aligned columns.
struct TextTable {
    private let headings: [String]
    private var widths: [Int]

    /// - Parameter least: the least widths of the columns, for rows that are printed one by one.
    init(_ headings: [String], least: [Int] = []) {
        self.headings = headings
        widths = headings.enumerated().map { max($1.count, $0 < least.count ? least[$0] : 0) }
    }

    /// The headings and the rows as lines. Later rows get the same column widths.
    mutating func lines(_ rows: [[String]]) -> [String] {
        let rows = rows.map { $0.map(OneLine.escaping) }
        for row in rows {
            for (place, cell) in row.enumerated() where place < widths.count {
                widths[place] = max(widths[place], cell.count)
            }
        }
        return ([headings] + rows).map(line)
    }

    /// A further row, with the same column widths.
    func line(_ row: [String]) -> String {
        var line = ""
        for (place, cell) in row.map(OneLine.escaping).enumerated() {
            line += cell
            guard place + 1 < row.count else { break }
            line += String(repeating: " ", count: max(0, widths[place] - cell.count) + 2)
        }
        return String(line.reversed().drop { $0 == " " }.reversed())
    }
}

/// A progress bar on standard error, if that is a terminal.
struct ProgressBar {
    private let title: String
    private let total: Int
    private let isShown: Bool
    private var done = 0
    private var shownPercent = -1

    /// - Parameter total: 0: unknown, and the bar is not shown.
    init(title: String, total: Int) {
        self.title = title
        self.total = total
        isShown = isatty(STDERR_FILENO) == 1 && total > 0
    }

    mutating func advance(by count: Int) {
        done += count
        let percent = min(100, total > 0 ? done * 100 / total : 0)
        guard isShown, percent != shownPercent else { return }
        shownPercent = percent
        let filled = percent * 30 / 100
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled)
        StandardError.write("\r\(title) [\(bar)] \(percent) %")
    }

    /// Ends the line of the bar.
    func finish() {
        if isShown, shownPercent >= 0 { StandardError.write("\n") }
    }
}
