/// Which operations wait to be sent and which wait for their answer. Pure: the connection's thread asks it what to do and does it.
struct OperationTable {
    /// The name of an operation on one connection, in the order of asking.
    typealias ID = UInt64
    typealias Instant = ContinuousClock.Instant

    /// What a message means.
    enum Action: Hashable {
        /// It has been put with the others of its operation.
        case gathered
        /// It is for the consumer of a stream.
        case forward(ID, Message)
        /// It was the last one; the operation is forgotten.
        case finish(ID, Response)
    }

    /// An operation that was given up.
    struct Dropped: Hashable {
        var id: ID
        /// The one to abandon at the server; nil when it was never sent.
        var messageID: Int32?
    }

    private struct Outstanding {
        var id: ID
        var messageID: Int32
        var deadline: Instant?
        var isStream: Bool
        var response = Response()
    }

    private var waiting: [(id: ID, deadline: Instant?, isStream: Bool)] = []
    private var outstanding: [Outstanding] = []

    /// The one to send next.
    var next: ID? { waiting.first?.id }

    /// When the next one expires; nil when none does.
    var nextDeadline: Instant? {
        var next: Instant?
        func take(_ deadline: Instant?) { if let deadline { next = min(next ?? deadline, deadline) } }
        // By their places: the operations themselves, with all that they gather, are not to be copied for it.
        for place in waiting.indices { take(waiting[place].deadline) }
        for place in outstanding.indices { take(outstanding[place].deadline) }
        return next
    }

    mutating func enqueue(_ id: ID, deadline: Instant?, isStream: Bool) { waiting.append((id, deadline, isStream)) }

    /// The next one has been sent.
    mutating func sent(as messageID: Int32) {
        guard !waiting.isEmpty else { return }
        let (id, deadline, isStream) = waiting.removeFirst()
        outstanding.append(Outstanding(id: id, messageID: messageID, deadline: deadline, isStream: isStream))
    }

    /// A message has come; nil when nobody waits for it any more.
    mutating func received(_ message: Message, for messageID: Int32) -> Action? {
        guard let place = outstanding.firstIndex(where: { $0.messageID == messageID }) else { return nil }
        let id = outstanding[place].id
        guard !outstanding[place].isStream else {
            if case .result = message { outstanding.remove(at: place) }
            return .forward(id, message)
        }
        switch message {
        case .entry(let entry, _): outstanding[place].response.entries.append(entry)
        case .reference(let uris): outstanding[place].response.references += uris
        case .intermediate: break
        case .result(let outcome):
            var response = outstanding.remove(at: place).response
            response.outcome = outcome
            return .finish(id, response)
        }
        return .gathered
    }

    /// Nobody wants the answer any more; nil when there is no such operation (any more).
    mutating func drop(_ id: ID) -> Dropped? {
        if let place = waiting.firstIndex(where: { $0.id == id }) {
            waiting.remove(at: place)
            return Dropped(id: id, messageID: nil)
        }
        guard let place = outstanding.firstIndex(where: { $0.id == id }) else { return nil }
        return Dropped(id: id, messageID: outstanding.remove(at: place).messageID)
    }

    /// Drops those whose time is over.
    mutating func dropExpired(at now: Instant) -> [Dropped] {
        guard let first = nextDeadline, first <= now else { return [] }
        func isOver(_ deadline: Instant?) -> Bool { deadline.map { $0 <= now } ?? false }
        let dropped =
            outstanding.filter { isOver($0.deadline) }.map { Dropped(id: $0.id, messageID: $0.messageID) }
            + waiting.filter { isOver($0.deadline) }.map { Dropped(id: $0.id, messageID: nil) }
        outstanding.removeAll { isOver($0.deadline) }
        waiting.removeAll { isOver($0.deadline) }
        return dropped
    }
}
