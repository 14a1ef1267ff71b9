import DequeModule
import EventLoop

extension LDAPConnection {
    /// Follows the entries that match a search: first their current state, then each change (RFC 4533), for ever.
    ///
    /// - Parameter search: everything but its page size counts.
    package nonisolated func contentSync(_ search: SearchRequest) -> ContentSync { ContentSync(self, search) }
}

/// The events of a content synchronization, in the order of the server.
///
/// It uses the whole connection: while the consumer lags by 1,000 events nothing is read, so that TCP slows the server down and
/// memory stays bounded. The connection is closed when the iteration ends: by its end, an error, cancellation, or leaving the loop.
/// Iterate once, by one consumer.
///
/// It fails among others with `unavailableCriticalExtension` (the server does not offer it), `syncRefreshRequired` (start again), `busy`,
/// `unavailable`, `unwillingToPerform`, and any error with `isConnectionLost`.
@MainActor package final class ContentSync: AsyncSequence, AsyncIteratorProtocol {
    package typealias Element = SyncEvent
    package typealias Failure = LDAPError

    /// When so many events wait, the connection stops reading until half of them have been taken.
    private static let capacity = 1000

    private let connection: LDAPConnection
    private let request: Request
    private var decoder = SyncDecoder()
    private var events: Deque<SyncEvent> = []
    /// Why no more messages come; nil: they do.
    private var end: LDAPError?
    private var consumer: CheckedContinuation<Void, Never>?
    private var isFull = false

    fileprivate nonisolated init(_ connection: LDAPConnection, _ search: SearchRequest) {
        let request = Request.search(search)
        self.connection = connection
        self.request = request
        EventLoop.shared.post { connection.start(request, controls: [.syncRequest], receiver: self) }
    }

    deinit { connection.close() }

    package nonisolated func makeAsyncIterator() -> ContentSync { self }

    /// The next event; never nil, since the only end is an error.
    package func next() async throws(LDAPError) -> SyncEvent? {
        if events.isEmpty { await waitForEvent() }
        guard let event = events.popFirst() else {
            if let end { throw end }
            return nil
        }
        if isFull, events.count <= Self.capacity / 2 {
            isFull = false
            connection.resume()
        }
        return event
    }

    /// Returns when there is an event or the end.
    private func waitForEvent() async {
        await withTaskCancellationHandler {
            while events.isEmpty, end == nil { await withCheckedContinuation { consumer = $0 } }
        } onCancel: {
            EventLoop.shared.post {
                self.finish(self.error(.userCancelled))
                self.connection.close()
            }
        }
    }

    // MARK: - For the connection

    /// - Returns: whether the connection must stop reading until it is resumed.
    func receive(_ message: Message) -> Bool {
        guard end == nil else { return false }
        do throws(BERReader.Malformed) {
            switch message {
            case .entry(let entry, let controls): events.append(try decoder.event(entry: entry, controls: controls))
            case .intermediate(SyncDecoder.info?, let value?): events.append(try decoder.event(info: value))
            case .intermediate, .reference: break
            case .result(let outcome) where outcome.code != .success: end = connection.error(outcome, request)
            case .result: end = error(.serverDown, "the server has ended the persistent search")
            }
        } catch {
            end = connection.malformed("a message", request)
        }
        isFull = end == nil && events.count >= Self.capacity
        wake()
        return isFull
    }

    /// No more messages come.
    func finish(_ error: LDAPError) {
        if end == nil { end = error }
        wake()
    }

    private func wake() {
        consumer?.resume()
        consumer = nil
    }

    private func error(_ code: ResultCode, _ diagnostic: String = "") -> LDAPError {
        LDAPError(
            code, operation: "\(request)", server: "\(connection.server)", diagnostic: diagnostic,
            isConnectionLost: code == .serverDown)
    }
}

/// An event of a content synchronization.
package enum SyncEvent: Hashable, Sendable {
    /// The current state of an entry of the content: new, changed or renamed. The same entry may come twice.
    case entry(Entry, EntryUUID)
    /// Entries that are no longer in the content: deleted, moved away, or not matching any more. The three cannot be distinguished.
    case deleted([EntryUUID])
    /// The current state is complete. Changes follow as they happen.
    case refreshDone
    /// The server has reported that nothing in the content has changed, such as a new cookie after an unrelated write.
    case unchanged
}

// MARK: - Messages into events

/// Turns each message of a content synchronization (RFC 4533, sections 2 and 3) into its event. What the RFC does not allow is an error.
///
/// The request has no cookie: so the server sends the whole content, and names of entries that have not changed mean nothing.
struct SyncDecoder {
    static let state = "1.3.6.1.4.1.4203.1.9.1.2"
    static let info = "1.3.6.1.4.1.4203.1.9.1.4"

    private var isRefreshing = true

    /// - Parameter controls: of the message; must hold the Sync State control.
    func event(entry: Entry, controls: [Control]) throws(BERReader.Malformed) -> SyncEvent {
        guard let value = controls.value(of: Self.state) else { throw BERReader.Malformed() }
        var reader = BERReader(value)
        var members = try reader.members(BER.sequence)
        let state = try members.number(BER.enumerated)
        let uuid = try Self.uuid(members.content(BER.octets))
        _ = try members.optional(BER.octets)  // cookie
        switch state {
        case 0: return .unchanged
        case 1, 2: return .entry(entry, uuid)
        case 3: return .deleted([uuid])
        default: throw BERReader.Malformed()
        }
    }

    /// - Parameter info: the value of a Sync Info message.
    mutating func event(info: [UInt8]) throws(BERReader.Malformed) -> SyncEvent {
        var reader = BERReader(info)
        guard let tag = reader.nextTag else { throw BERReader.Malformed() }
        switch tag {
        case BER.context(0):  // new cookie
            _ = try reader.content(tag)
            return .unchanged
        case BER.context(1, constructed: true), BER.context(2, constructed: true):  // end of a phase of the refresh
            var members = try reader.members(tag)
            _ = try members.optional(BER.octets)  // cookie
            return try members.flag(default: true) ? endRefresh() : .unchanged
        case BER.context(3, constructed: true):  // set of entries
            var members = try reader.members(tag)
            _ = try members.optional(BER.octets)  // cookie
            let isDeleted = try members.flag(default: false)
            var set = try members.members(BER.set)
            var uuids: [EntryUUID] = []
            while !set.isAtEnd { uuids.append(try Self.uuid(set.content(BER.octets))) }
            return isDeleted ? .deleted(uuids) : .unchanged
        default: throw BERReader.Malformed()
        }
    }

    private mutating func endRefresh() -> SyncEvent {
        defer { isRefreshing = false }
        return isRefreshing ? .refreshDone : .unchanged
    }

    private static func uuid(_ bytes: ArraySlice<UInt8>) throws(BERReader.Malformed) -> EntryUUID {
        guard let uuid = EntryUUID(bytes: bytes) else { throw BERReader.Malformed() }
        return uuid
    }
}
