import Testing

@testable import Daemon

struct ControlExchangeTests {
    private let start = ContinuousClock.now
    private let timeLimit = Duration.seconds(10)

    private func exchange() -> ControlExchange { ControlExchange(now: start, timeLimit: timeLimit) }

    @Test func `a line in pieces is one request, and what follows it is ignored`() {
        var exchange = exchange()
        #expect(exchange.received("{\"a\"".utf8, now: start) == .wait)
        #expect(exchange.reads)
        let request = ControlRequest(line: Array("{\"a\":1}".utf8))
        #expect(exchange.received(":1}\nmore\n".utf8, now: start) == .handle(request))
        #expect(exchange.received("x\n".utf8, now: start) == .wait)
        #expect(!exchange.reads)
    }

    @Test func `reading and writing have deadlines, the handler has none`() {
        var exchange = exchange()
        #expect(exchange.deadline == start + timeLimit)
        _ = exchange.received("x".utf8, now: start + .seconds(5))
        #expect(exchange.deadline == start + timeLimit)
        _ = exchange.received("\n".utf8, now: start)
        #expect(exchange.deadline == nil)
        _ = exchange.answered(ControlReply(line: [1, 2]), now: start + .seconds(100))
        #expect(exchange.deadline == start + .seconds(110))
        #expect(exchange.sent(1) == .wait)
        #expect(exchange.deadline == start + .seconds(110))
    }

    @Test func `a reply is written in several pieces, then the connection is closed`() {
        var exchange = exchange()
        _ = exchange.received("\n".utf8, now: start)
        #expect(exchange.answered(ControlReply(line: [65, 66, 67]), now: start) == .wait)
        #expect(Array(exchange.unsent) == [65, 66, 67, 10])
        #expect(exchange.sent(3) == .wait)
        #expect(Array(exchange.unsent) == [10])
        #expect(exchange.sent(1) == .close)
    }

    @Test func `an empty reply closes the connection`() {
        var exchange = exchange()
        _ = exchange.received("\n".utf8, now: start)
        #expect(exchange.answered(ControlReply(line: []), now: start) == .close)
    }

    @Test func `a request of the maximum size is accepted, one byte more is refused`() {
        var exchange = exchange()
        let largest = [UInt8](repeating: 65, count: ControlRequest.sizeLimit)
        #expect(exchange.received(largest + [10], now: start) == .handle(ControlRequest(line: largest)))
        var other = self.exchange()
        #expect(other.received(largest, now: start) == .wait)
        #expect(other.received([65], now: start) == .wait)
        #expect(String(decoding: other.unsent, as: UTF8.self).contains("longer than 65536 bytes"))
        #expect(!other.reads)
    }

    @Test func `an incomplete request closes the connection; a client that stops sending after it gets the reply`() {
        var exchange = exchange()
        _ = exchange.received("abc".utf8, now: start)
        #expect(exchange.endOfInput() == .close)
        var other = self.exchange()
        _ = other.received("abc\n".utf8, now: start)
        #expect(other.endOfInput() == .wait)
        #expect(other.answered(ControlReply(line: [65]), now: start) == .wait)
        #expect(!other.unsent.isEmpty)
    }
}
