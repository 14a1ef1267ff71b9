import FoundationEssentials
import JobCore

/// The state machine of one connection: read one line, let the handler reply, write the reply, close.
///
/// Reading and writing have a deadline each, so that silent and stalled clients are disconnected. The handler has no time limit.
struct ControlExchange {
    /// The next action of the driver.
    enum Action: Equatable {
        case wait
        /// Give the request to the handler, and its reply to `answered`.
        case handle(ControlRequest)
        /// Close the connection.
        case close
    }

    private enum Phase {
        case reading([UInt8])
        case answering
        case writing(ArraySlice<UInt8>)
        case over
    }

    private var phase = Phase.reading([])
    private let timeLimit: Duration
    private let requestLimit: Int
    /// When the connection is closed; nil while the handler runs.
    private(set) var deadline: ContinuousClock.Instant?

    /// - Parameter requestLimit: the maximum size of a request in bytes.
    init(now: ContinuousClock.Instant, timeLimit: Duration, requestLimit: Int = ControlRequest.sizeLimit) {
        self.timeLimit = timeLimit
        self.requestLimit = requestLimit
        deadline = now + timeLimit
    }

    /// Whether the request is incomplete.
    var reads: Bool { if case .reading = phase { true } else { false } }

    /// The rest of the reply.
    var unsent: ArraySlice<UInt8> { if case .writing(let rest) = phase { rest } else { [] } }

    mutating func received(_ bytes: some Sequence<UInt8>, now: ContinuousClock.Instant) -> Action {
        guard case .reading(var line) = phase else { return .wait }
        for byte in bytes {
            if byte == UInt8(ascii: "\n") {
                phase = .answering
                deadline = nil
                return .handle(ControlRequest(line: line))
            }
            line.append(byte)
            guard line.count <= requestLimit else {
                return answered(.refusal("the request is longer than \(requestLimit) bytes"), now: now)
            }
        }
        phase = .reading(line)
        return .wait
    }

    /// The client has closed its sending side. After a complete request it still gets the reply.
    mutating func endOfInput() -> Action {
        guard case .reading = phase else { return .wait }
        phase = .over
        return .close
    }

    mutating func answered(_ reply: ControlReply, now: ContinuousClock.Instant) -> Action {
        if case .over = phase { return .close }
        let bytes = reply.bytes
        guard !bytes.isEmpty else {
            phase = .over
            return .close
        }
        phase = .writing(bytes[...])
        deadline = now + timeLimit
        return .wait
    }

    mutating func sent(_ count: Int) -> Action {
        guard case .writing(let rest) = phase else { return .close }
        guard count < rest.count else {
            phase = .over
            return .close
        }
        phase = .writing(rest.dropFirst(count))
        return .wait
    }
}

/// A request over a control socket: one line of JSON.
package struct ControlRequest: Hashable, Sendable {
    /// The maximum size of a request in bytes, without its line end.
    package static let sizeLimit = 64 * 1024

    /// Without the line end.
    package let line: [UInt8]

    /// The client's user according to the kernel (`SO_PEERCRED`); nil: not received over a socket.
    package internal(set) var user: UInt32?

    /// - Parameter line: JSON without a line feed, at most `sizeLimit` bytes.
    package init(line: [UInt8]) { self.line = line }

    package init(encoding value: some Encodable) throws { line = try JSONLine.encode(value) }

    package func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try JSONDecoder().decode(type, from: Data(line))
    }
}

/// The reply of a handler: one line of JSON.
package struct ControlReply: Hashable, Sendable {
    /// Without the line end. Empty: the connection is closed without a reply.
    package let line: [UInt8]

    /// - Parameter line: JSON without a line feed.
    package init(line: [UInt8]) { self.line = line }

    package init(encoding value: some Encodable) throws { line = try JSONLine.encode(value) }

    /// A reply with the reason why a request is refused. The client throws `ControlClientError.refused` for it.
    package static func refusal(_ reason: String) -> Self {
        (try? ControlReply(encoding: [refused: OneLine.of(reason)]))
            ?? ControlReply(line: Array(#"{"refused":"the reason cannot be written"}"#.utf8))
    }

    var bytes: [UInt8] { line.isEmpty ? [] : line + [UInt8(ascii: "\n")] }

    /// The reason; nil for every reply that is not a refusal.
    var refusal: String? { (try? JSONDecoder().decode([String: String].self, from: Data(line)))?[Self.refused] }

    private static let refused = "refused"
}
