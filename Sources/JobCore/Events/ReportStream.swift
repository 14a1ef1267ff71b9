/// Splits the text stream of an interpreter into lines and assigns each to a report.
///
/// Marks in the stream, which contain a secret word, say where an event begins and ends and which job is meant.
/// Memory is bounded: of each event, and of the text between two events, a limited number of bytes is passed on and
/// the rest is counted.
struct ReportStream: Sendable {
    enum Piece: Hashable, Sendable {
        /// A line without its line feed. Without a job: outside of any event.
        case line(String, JobID?)
        /// The handler of the event with this number is called.
        case began(Int)
        /// The event with this number is over and all its output has arrived.
        case ended(Int)
    }

    /// Longer lines are split.
    static let longestLine = 4096

    private let mark: [UInt8]
    private let limit: Int
    private var pending: [UInt8] = []
    private var job: JobID?
    private var eventJob: JobID?
    private var passed = 0
    private var dropped = 0

    /// - Parameters:
    ///   - word: the secret word of marks.
    ///   - limit: how many bytes are passed on per event.
    init(word: String, limit: Int) {
        mark = [0] + Array(word.utf8) + [UInt8(ascii: " ")]
        self.limit = limit
    }

    /// Adds received bytes.
    mutating func append(_ bytes: some Collection<UInt8>) -> [Piece] {
        pending.append(contentsOf: bytes)
        var pieces: [Piece] = []
        var rest = pending[...]
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            take(rest[..<end], into: &pieces)
            rest = rest[(end + 1)...]
        }
        // A mark is short and ends with a line feed, so the first half of so many bytes without one contains no part
        // of a mark.
        while rest.count > 2 * Self.longestLine {
            pass(rest.prefix(Self.longestLine), into: &pieces)
            rest = rest.dropFirst(Self.longestLine)
        }
        pending = Array(rest)
        return pieces
    }

    /// The stream has ended.
    mutating func finish() -> [Piece] {
        var pieces: [Piece] = []
        if !pending.isEmpty { take(pending[...], into: &pieces) }
        pending = []
        reportDropped(into: &pieces)
        return pieces
    }

    private mutating func take(_ line: ArraySlice<UInt8>, into pieces: inout [Piece]) {
        guard let start = place(ofMarkIn: line), let words = words(after: start, in: line) else {
            return pass(line, into: &pieces)
        }
        if start > line.startIndex { pass(line[..<start], into: &pieces) }
        switch words.kind {
        case "begin":
            reportDropped(into: &pieces)
            eventJob = words.second.map(JobID.init)
            job = eventJob
            if let number = words.first { pieces.append(.began(Int(clamping: number))) }
        case "job":
            job = words.first.map(JobID.init)
        default:
            job = eventJob
            reportDropped(into: &pieces)
            eventJob = nil
            job = nil
            if let number = words.first { pieces.append(.ended(Int(clamping: number))) }
        }
    }

    private func place(ofMarkIn line: ArraySlice<UInt8>) -> Int? {
        var from = line.startIndex
        while let zero = line[from...].firstIndex(of: 0) {
            if line[zero...].starts(with: mark) { return zero }
            from = zero + 1
        }
        return nil
    }

    /// - Returns: nil if the text after the word is not a mark.
    private func words(after start: Int, in line: ArraySlice<UInt8>) -> (kind: String, first: UInt64?, second: UInt64?)?
    {
        let words = String(decoding: line[(start + mark.count)...], as: UTF8.self).split(separator: " ")
        guard words.count == 3, ["begin", "job", "end"].contains(words[0]) else { return nil }
        return (String(words[0]), UInt64(words[1]), UInt64(words[2]))
    }

    private mutating func pass(_ line: ArraySlice<UInt8>, into pieces: inout [Piece]) {
        var rest = line
        repeat {
            let piece = rest.prefix(Self.longestLine)
            rest = rest.dropFirst(piece.count)
            guard passed + piece.count + 1 <= limit else {
                dropped += piece.count + 1
                continue
            }
            passed += piece.count + 1
            pieces.append(.line(OneLine.escaping(String(decoding: piece, as: UTF8.self)), job))
        } while !rest.isEmpty
    }

    private mutating func reportDropped(into pieces: inout [Piece]) {
        if dropped > 0 {
            pieces.append(
                .line("[\(dropped) more bytes were left out: \(limit) bytes are kept of each event]", eventJob))
        }
        passed = 0
        dropped = 0
    }
}
