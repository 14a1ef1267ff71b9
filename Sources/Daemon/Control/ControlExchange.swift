import FoundationEssentials
import JobCore

/// One client's visit as a pure machine: read one line, have it answered, write the answer, close.
///
/// Reading and writing have a deadline each, so that a client that says nothing, or does not listen, is sent away; the
/// handler takes as long as it needs.
struct ControlExchange {
    /// What the driver must do next.
    enum Action: Equatable {
        /// Nothing but wait.
        case wait
        /// Hand the request to the handler, and its reply to `answered`.
        case handle(ControlRequest)
        /// The visit is over.
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
    /// When the visit ends by itself; `nil` while the handler works.
    private(set) var deadline: ContinuousClock.Instant?

    /// - Parameter requestLimit: the most bytes of a request.
    init(now: ContinuousClock.Instant, timeLimit: Duration, requestLimit: Int = ControlRequest.sizeLimit) {
        self.timeLimit = timeLimit
        self.requestLimit = requestLimit
        deadline = now + timeLimit
    }

    /// Whether bytes of the client are wanted.
    var reads: Bool { if case .reading = phase { true } else { false } }

    /// What is still to be written.
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

    /// The client will send nothing more. It may still read: only a visit without a request is over.
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

/// What a client of the control socket asks: one line of JSON. What it means is the handler's affair.
package struct ControlRequest: Hashable, Sendable {
    /// The most bytes that a request may have, its line end not counted.
    package static let sizeLimit = 64 * 1024

    /// The line without its end.
    package let line: [UInt8]

    /// Who asks, as the kernel says (`SO_PEERCRED`); nil where it has not come over a socket.
    package internal(set) var user: UInt32?

    /// - Parameter line: JSON without a line feed, at most `sizeLimit` bytes.
    package init(line: [UInt8]) { self.line = line }

    /// - Throws: what the encoder says.
    package init(encoding value: some Encodable) throws { line = try JSONLine.encode(value) }

    /// - Throws: what the decoder says; it belongs to whoever sent the request.
    package func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try JSONDecoder().decode(type, from: Data(line))
    }
}

/// What the handler answers: lines of JSON.
package struct ControlReply: Hashable, Sendable {
    /// Without their ends. None holds a line feed.
    package let lines: [[UInt8]]

    /// - Parameter lines: each the JSON of one value on one line.
    package init(lines: [[UInt8]]) { self.lines = lines }

    /// - Throws: what the encoder says.
    package init(encoding values: (any Encodable & Sendable)...) throws {
        lines = try values.map { try JSONLine.encode($0) }
    }

    /// An answer that says why there is none. The client makes `ControlClientError.refused` of it.
    package static func refusal(_ reason: String) -> Self {
        // A dictionary of one text can always be encoded.
        do {
            return try ControlReply(encoding: Refusal(refused: OneLine.of(reason)))
        } catch {
            return ControlReply(lines: [Array(#"{"refused":"the reason cannot be written"}"#.utf8)])
        }
    }

    var bytes: [UInt8] { lines.flatMap { $0 + [UInt8(ascii: "\n")] } }

    struct Refusal: Codable {
        let refused: String
    }
}
