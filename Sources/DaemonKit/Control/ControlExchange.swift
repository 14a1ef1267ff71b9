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
    private let patience: Duration
    private let requestLimit: Int
    /// When the visit ends by itself; `nil` while the handler works.
    private(set) var deadline: ContinuousClock.Instant?

    /// - Parameter requestLimit: the most bytes of a request.
    init(now: ContinuousClock.Instant, patience: Duration, requestLimit: Int = ControlRequest.sizeLimit) {
        self.patience = patience
        self.requestLimit = requestLimit
        deadline = now + patience
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
        deadline = now + patience
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

    func isLate(at now: ContinuousClock.Instant) -> Bool { deadline.map { $0 <= now } ?? false }
}
