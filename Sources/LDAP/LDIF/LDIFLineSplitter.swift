/// Cuts a stream of bytes into physical lines, wherever the stream was cut into pieces before.
///
/// Lines end in LF or CRLF; the last one may end with the file. A byte order mark before the first line is dropped.
struct LDIFLineSplitter: Sendable {
    enum Line {
        /// A line without its end.
        case text(ArraySlice<UInt8>)
        /// A line of more than `limit` bytes; handed out as soon as that is known, and once.
        case tooLong
    }

    /// The number, from 1, of the line that was handed out last.
    private(set) var number = 0
    private let limit: Int
    private var buffer: [UInt8] = []
    private var start = 0  // of what was not handed out yet
    private var scanned = 0  // there is no line feed between `start` and here
    private var isDropping = false  // the rest of a line that was too long
    private var isFinished = false

    /// - Parameter limit: bytes that a line may have, without the line feed.
    init(limit: Int) { self.limit = limit }

    mutating func append(_ bytes: some Sequence<UInt8>) {
        // Moving the rest to the front only when it is the smaller part keeps the work linear.
        if start > buffer.count / 2 {
            buffer.removeSubrange(..<start)
            scanned -= start
            start = 0
        }
        buffer.append(contentsOf: bytes)
    }

    mutating func finish() { isFinished = true }

    /// Whether the stream has ended and every line was handed out.
    var isAtEnd: Bool { isFinished && start == buffer.count }

    /// - Returns: nil when there is no whole line, or, after `finish()`, none at all.
    mutating func next() -> Line? {
        while true {
            let lineFeed = buffer[scanned...].firstIndex(of: UInt8(ascii: "\n"))
            let end = lineFeed ?? buffer.count
            scanned = end
            let isComplete = lineFeed != nil || (isFinished && start < end)
            if isDropping {
                isDropping = !isComplete
                consume(through: lineFeed ?? end - 1)
                guard isComplete else { return nil }
                continue
            }
            if end - start > limit {
                number += 1
                isDropping = !isComplete
                consume(through: lineFeed ?? end - 1)
                return .tooLong
            }
            guard isComplete else { return nil }
            number += 1
            var line = buffer[start..<end]
            consume(through: lineFeed ?? end - 1)
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if number == 1, line.starts(with: [0xEF, 0xBB, 0xBF]) { line.removeFirst(3) }
            return .text(line)
        }
    }

    private mutating func consume(through last: Int) {
        start = last + 1
        scanned = start
    }
}

/// A line after unfolding.
struct LDIFLine: Sendable {
    /// The first physical line's number, from 1.
    let number: Int
    var bytes: [UInt8]

    /// Whether the line is the `-` that ends a modification; spaces behind it are of no matter.
    var isSeparator: Bool {
        bytes.first == UInt8(ascii: "-") && bytes.dropFirst().allSatisfy { $0 == UInt8(ascii: " ") }
    }

    /// About what a line takes in memory beyond its bytes.
    static let overhead = 64
}

/// A line as name and value, the value not yet decoded.
struct LDIFField {
    /// A `value-spec` of RFC 2849, without the spaces before the value, and without TABs there, which ldapmodify passes over as well.
    enum Content {
        case plain(ArraySlice<UInt8>)
        case base64(ArraySlice<UInt8>)
        case url(ArraySlice<UInt8>)

        init(afterColon bytes: ArraySlice<UInt8>) {
            func value(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
                bytes.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
            }
            switch bytes.first {
            case UInt8(ascii: ":"): self = .base64(value(bytes.dropFirst()))
            case UInt8(ascii: "<"): self = .url(value(bytes.dropFirst()))
            default: self = .plain(value(bytes))
            }
        }
    }

    /// The number of the line, from 1.
    let line: Int
    let name: String
    let content: Content

    /// The name as a word of the format.
    var keyword: String { name.lowercased() }
}
