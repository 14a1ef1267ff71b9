import Testing

@testable import JobCore

@Suite struct OutputCaptureTests {
    @Test(
        "for any chunk sizes, head and tail are the stream's beginning and end and the rest is counted",
        arguments: [0, 1, 9, 10, 11, 29, 30, 31, 60, 100, 1000], [1, 3, 7, 19, 20, 21, 64, 1000])
    func chunks(total: Int, chunk: Int) {
        let stream = (0..<total).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ 7) }
        var capture = OutputCapture(headLimit: 10, tailLimit: 20)
        for start in stride(from: 0, to: total, by: chunk) { capture.append(stream[start..<min(start + chunk, total)]) }
        let captured = capture.captured
        #expect(captured.head == Array(stream.prefix(10)))
        #expect(captured.tail == Array(stream.dropFirst(10).suffix(20)))
        #expect(captured.dropped == max(0, total - 30))
    }

    @Test("chunks of mixed sizes leave no gap and no duplicate")
    func mixed() {
        let stream = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 17) }
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<50 {
            var capture = OutputCapture(headLimit: 100, tailLimit: 300)
            var rest = stream[...]
            while !rest.isEmpty {
                let chunk = rest.prefix(Int.random(in: 1...700, using: &generator))
                capture.append(chunk)
                rest = rest.dropFirst(chunk.count)
            }
            #expect(
                capture.captured
                    == CapturedOutput(head: Array(stream.prefix(100)), tail: Array(stream.suffix(300)), dropped: 9600))
        }
    }

    @Test("limits of zero keep nothing and count everything")
    func nothing() {
        var capture = OutputCapture(headLimit: 0, tailLimit: 0)
        capture.append([1, 2, 3])
        #expect(capture.captured == CapturedOutput(head: [], tail: [], dropped: 3))
    }
}
