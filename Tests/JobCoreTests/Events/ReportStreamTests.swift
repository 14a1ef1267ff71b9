import Testing

@testable import JobCore

@Suite struct ReportStreamTests {
    private func pieces(_ parts: [String], limit: Int = 1000) -> [ReportStream.Piece] {
        var stream = ReportStream(word: "w", limit: limit)
        return parts.flatMap { stream.append(Array($0.utf8)) } + stream.finish()
    }

    private let text = "out\n\0w begin 1 7\na\nb\0w job 8 -\nc\n\0w job 7 -\nd\0w end 1 -\nlate"
    private let expected: [ReportStream.Piece] = [
        .line("out", nil), .began(1), .line("a", JobID(7)), .line("b", JobID(7)), .line("c", JobID(8)),
        .line("d", JobID(7)),
        .ended(1), .line("late", nil),
    ]

    @Test("marks assign lines to jobs, for any split of the stream")
    func cuts() {
        #expect(pieces([text]) == expected)
        #expect(pieces(text.unicodeScalars.map { String($0) }) == expected)
        for place in text.indices { #expect(pieces([String(text[..<place]), String(text[place...])]) == expected) }
    }

    @Test("text that resembles a mark is text")
    func noMarks() {
        #expect(
            pieces(["\0v end 1 -\n\0w leave 1 -\n\0w end\nw end 1 -\n"]) == [
                .line(#"\u{0}v end 1 -"#, nil), .line(#"\u{0}w leave 1 -"#, nil), .line(#"\u{0}w end"#, nil),
                .line("w end 1 -", nil),
            ])
    }

    @Test("of each event a limited number of bytes is passed on, and the rest is counted")
    func limit() {
        let text = "\0w begin 1 7\n12345\n123456\n1\n\0w end 1 -\n\0w begin 2 7\n12345678\n\0w end 2 -\n"
        #expect(
            pieces([text], limit: 10) == [
                .began(1), .line("12345", JobID(7)), .line("1", JobID(7)),
                .line("[7 more bytes were left out: 10 bytes are kept of each event]", JobID(7)), .ended(1),
                .began(2), .line("12345678", JobID(7)), .ended(2),
            ])
    }

    @Test("a line without an end is passed on in pieces, and a mark after it is found")
    func longLine() {
        let long = String(repeating: "x", count: 3 * ReportStream.longestLine)
        let found = pieces(["\0w begin 1 7\n", long, "y\0w end 1 -\n"], limit: 1 << 20)
        #expect(found.count == 6)
        #expect(found.last == .ended(1))
        #expect(found[4] == .line("y", JobID(7)))
    }
}

@Suite struct InterpreterBackoffTests {
    @Test("losses in a row cause a pause that doubles up to a limit; a handled event resets it")
    func doubling() {
        let now = ContinuousClock.now
        var backoff = InterpreterBackoff()
        #expect(backoff.mayStart(at: now))
        #expect(
            (1...10).map { _ in backoff.lost(at: now) } == [nil, nil]
                + [60, 120, 240, 480, 960, 1920, 3600, 3600].map { .seconds($0) })
        #expect(!backoff.mayStart(at: now + .seconds(3599)))
        #expect(backoff.mayStart(at: now + .seconds(3600)))
        backoff.reset()
        #expect(backoff.mayStart(at: now))
        #expect(backoff.lost(at: now) == nil)
    }
}
