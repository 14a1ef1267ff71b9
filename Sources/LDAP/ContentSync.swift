import DequeModule
import EventLoop

extension LDAPConnection {
    /// Follows the entries that match a search: first their current state, then each change (RFC 4533).
    ///
    /// - Parameters:
    ///   - search: everything but its page size counts.
    ///   - persists: whether changes follow, for ever, after the current state.
    package nonisolated func contentSync(_ search: SearchRequest, persists: Bool = true) -> ContentSync {
        ContentSync(self, search, persists: persists)
    }
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
    private let persists: Bool
    private var decoder = SyncDecoder()
    private var events: Deque<SyncEvent> = []
    /// No more messages come; nil: they do.
    private var end: Result<Void, LDAPError>?
    private var consumer: CheckedContinuation<Void, Never>?
    private var isFull = false

    fileprivate nonisolated init(_ connection: LDAPConnection, _ search: SearchRequest, persists: Bool) {
        let request = Request.search(search)
        self.connection = connection
        self.request = request
        self.persists = persists
        EventLoop.shared.post {
            connection.start(request, controls: [.syncRequest(persists: persists)], receiver: self)
        }
    }

    deinit { connection.close() }

    package nonisolated func makeAsyncIterator() -> ContentSync { self }

    /// The next event; nil at the end, which a persistent one does not have.
    package func next() async throws(LDAPError) -> SyncEvent? {
        if events.isEmpty { await waitForEvent() }
        guard let event = events.popFirst() else {
            try end?.get()
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
            case .result(let outcome) where outcome.code != .success:
                end = .failure(connection.error(outcome, request))
            case .result where persists:
                end = .failure(error(.serverDown, "the server has ended the persistent search"))
            case .result:
                events.append(decoder.endRefresh())
                end = .success(())
            }
        } catch {
            end = .failure(connection.malformed("a message", request))
        }
        isFull = end == nil && events.count >= Self.capacity
        wake()
        return isFull
    }

    /// No more messages come.
    func finish(_ error: LDAPError) {
        if end == nil { end = .failure(error) }
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

    mutating func endRefresh() -> SyncEvent {
        defer { isRefreshing = false }
        return isRefreshing ? .refreshDone : .unchanged
    }

    private static func uuid(_ bytes: ArraySlice<UInt8>) throws(BERReader.Malformed) -> EntryUUID {
        guard let uuid = EntryUUID(bytes: bytes) else { throw BERReader.Malformed() }
        return uuid
    }
}
