import EventLoop

/// The events of a content synchronization (RFC 4533).
///
/// It uses the whole connection: while the consumer lags by 1,000 events nothing is read, so that the server is slowed down
/// and memory stays bounded. The connection is closed when the iteration ends: by its end, an error, cancellation, or leaving the loop.
/// Iterate once.
public struct ContentSync: AsyncSequence, Sendable {
    /// An event.
    public typealias Element = SyncEvent
    /// The error: among others `syncRefreshRequired` (start again without the cookie), `unavailableCriticalExtension` (the server does not
    /// offer it), `busy`, `unavailable`, `unwillingToPerform`, and any error with `isConnectionLost`.
    public typealias Failure = LDAPError

    let connection: LDAPConnection
    let request: ContentSyncRequest

    /// Begins the synchronization.
    public func makeAsyncIterator() -> Iterator { Iterator(session: Session(connection, request)) }

    /// Returns the events in the order of the server.
    public struct Iterator: AsyncIteratorProtocol {
        private let session: Session
        private var events: ArraySlice<SyncEvent> = []

        init(session: Session) { self.session = session }

        /// The next event; nil at the end, which a persistent one does not have.
        public mutating func next() async throws(LDAPError) -> SyncEvent? { try await next(isolation: nil) }

        /// The next event; nil at the end, which a persistent one does not have.
        public mutating func next(
            isolation actor: isolated (any Actor)?
        ) async throws(LDAPError) -> SyncEvent? {
            if events.isEmpty { events = try await session.take()[...] }
            return events.popFirst()
        }
    }

    /// One run; closes the connection when the last reference to it is released.
    final class Session: Sendable {
        private let connection: LDAPConnection
        private let stream: SyncStream

        init(_ connection: LDAPConnection, _ request: ContentSyncRequest) {
            let message = Request.search(
                base: request.base, scope: request.scope, filter: request.filter, attributes: request.attributes,
                sizeLimit: 0)
            let stream = SyncStream(
                request: message, server: "\(connection.server)", persists: request.mode == .refreshAndPersist)
            self.connection = connection
            self.stream = stream
            EventLoop.shared.post {
                connection.start(
                    message, controls: [.syncRequest(request.mode, cookie: request.cookie)], stream: stream)
            }
        }

        deinit { connection.close() }

        func take() async throws(LDAPError) -> [SyncEvent] {
            try await withTaskCancellationHandler {
                await stream.take { connection.resume() }
            } onCancel: {
                EventLoop.shared.post {
                    self.stream.cancel()
                    self.connection.close()
                }
            }.get()
        }
    }
}

extension LDAPConnection {
    /// Follows the entries that match, from their current state on.
    public nonisolated func contentSync(_ request: ContentSyncRequest) -> ContentSync {
        ContentSync(connection: self, request: request)
    }
}

/// The entries to follow (RFC 4533).
public struct ContentSyncRequest: Hashable, Sendable {
    /// Whether the server reports changes after the current state.
    public enum Mode: Int, Hashable, Sendable {
        /// The current state, then the end.
        case refreshOnly = 1
        /// The current state, then each change, for ever.
        case refreshAndPersist = 3
    }

    /// The base of the search.
    public var base: DN
    /// The scope of the search.
    public var scope: SearchScope
    /// The filter. An entry that stops matching is reported as deleted.
    public var filter: Filter
    /// The attributes, as in a search.
    public var attributes: [AttributeName]
    /// The state of an earlier synchronization; nil: starts from the beginning.
    public var cookie: [UInt8]?
    /// Whether to continue after the current state.
    public var mode: Mode

    /// By default everything below `base`, for ever.
    public init(
        base: DN, scope: SearchScope = .subtree, filter: Filter, attributes: [AttributeName] = [],
        cookie: [UInt8]? = nil, mode: Mode = .refreshAndPersist
    ) {
        self.base = base
        self.scope = scope
        self.filter = filter
        self.attributes = attributes
        self.cookie = cookie
        self.mode = mode
    }
}

/// An event of a content synchronization.
public enum SyncEvent: Hashable, Sendable {
    /// Why an entry was sent.
    public enum Change: Hashable, Sendable {
        /// It is new to the content, or sent for the first time. The same entry may come twice.
        case add
        /// It was in the content before and has changed; a renamed entry has another DN under the same UUID.
        case modify
    }

    /// The current state of an entry of the content.
    case entry(Entry, EntryUUID, Change)
    /// An entry of the content that has not changed since the cookie.
    case present(EntryUUID)
    /// An entry that is no longer in the content: deleted, moved away, or not matching any more. The three cannot be distinguished.
    case deleted(EntryUUID)
    /// Many entries at once that are deleted, or that are unchanged.
    case identifiers([EntryUUID], deleted: Bool)
    /// A phase of the refresh has ended that named existing entries (`deletes` false: entries that were not named are gone, unless the refresh began with
    /// a cookie and more phases follow) or deleted ones (`deletes` true). Relevant only with a cookie.
    case phaseDone(deletes: Bool)
    /// The current state is complete. Changes follow as they happen.
    case refreshDone
    /// A later synchronization can continue from here, once all events before have been handled.
    case cookie([UInt8])
}

// MARK: - The stream

/// The bounded queue from a connection to the consumer of a content synchronization.
///
/// When the consumer lags by `capacity` events the connection stops reading, so that TCP slows the server down; it continues when the
/// consumer has taken the events.
@MainActor final class SyncStream {
    /// The consumer takes all at once, so that at most twice as many are in memory.
    private static let capacity = 1000

    private let request: Request
    private let server: String
    private let persists: Bool
    private var decoder = SyncDecoder()
    private var events: [SyncEvent] = []
    private var end: Result<[SyncEvent], LDAPError>?
    private var consumer: CheckedContinuation<Void, Never>?
    private var isFull = false

    nonisolated init(request: Request, server: String, persists: Bool) {
        self.request = request
        self.server = server
        self.persists = persists
    }

    /// - Returns: whether the connection must stop reading until it is resumed.
    func receive(_ message: Message) -> Bool {
        guard end == nil else { return false }
        do throws(BERReader.Malformed) {
            switch message {
            case .entry(let entry, let controls): events += try decoder.events(entry: entry, controls: controls)
            case .intermediate(SyncDecoder.info?, let value?): events += try decoder.events(info: value)
            case .intermediate, .reference: break
            case .result(let outcome) where outcome.code == .success && !persists:
                events += try decoder.events(end: outcome.controls)
                end = .success([])
            case .result(let outcome): end = .failure(error(outcome))
            }
        } catch {
            let words = "a message of the content synchronization is not what RFC 4533 says"
            end = .failure(LDAPError(.decodingError, operation: "\(request)", server: server, diagnostic: words))
        }
        isFull = end == nil && events.count >= Self.capacity
        wake()
        return isFull
    }

    private func error(_ outcome: Outcome) -> LDAPError {
        guard outcome.code == .success else { return LDAPError(outcome, operation: "\(request)", server: server) }
        return LDAPError(
            .serverDown, operation: "\(request)", server: server,
            diagnostic: "the server has ended the persistent search", isConnectionLost: true)
    }

    /// No more events come.
    func finish(_ error: LDAPError) {
        if end == nil { end = .failure(error) }
        wake()
    }

    /// The consumer's task was cancelled.
    func cancel() { finish(LDAPError(.userCancelled, operation: "\(request)", server: server)) }

    private func wake() {
        consumer?.resume()
        consumer = nil
    }

    /// All waiting events, at least one; empty at the end. For one consumer.
    /// - Parameter resume: called if the connection had stopped reading.
    func take(resume: @MainActor () -> Void) async -> Result<[SyncEvent], LDAPError> {
        while events.isEmpty {
            if let end { return end }
            await withCheckedContinuation { consumer = $0 }
        }
        let taken = events
        events = []
        if isFull {
            isFull = false
            resume()
        }
        return .success(taken)
    }
}

// MARK: - Messages into events

/// Turns the messages of a content synchronization (RFC 4533, sections 2 and 3) into events. No message is lost, doubled or put in
/// another order, and garbage is an error.
struct SyncDecoder {
    static let state = "1.3.6.1.4.1.4203.1.9.1.2"
    static let done = "1.3.6.1.4.1.4203.1.9.1.3"
    static let info = "1.3.6.1.4.1.4203.1.9.1.4"

    private var isRefreshing = true

    /// - Parameter controls: of the message; must hold the Sync State control.
    mutating func events(entry: Entry, controls: [Control]) throws(BERReader.Malformed) -> [SyncEvent] {
        guard let value = controls.value(of: Self.state) else { throw BERReader.Malformed() }
        var reader = BERReader(value)
        var members = try reader.members(BER.sequence)
        let state = try members.number(BER.enumerated)
        let uuid = try Self.uuid(members.content(BER.octets))
        let cookie = try members.optional(BER.octets)
        let event: SyncEvent =
            switch state {
            case 0: .present(uuid)
            case 1: .entry(entry, uuid, .add)
            case 2: .entry(entry, uuid, .modify)
            case 3: .deleted(uuid)
            default: throw BERReader.Malformed()
            }
        return [event] + Self.event(cookie)
    }

    /// - Parameter info: the value of a Sync Info message.
    mutating func events(info: [UInt8]) throws(BERReader.Malformed) -> [SyncEvent] {
        var reader = BERReader(info)
        switch reader.nextTag {
        case BER.context(0):
            return Self.event(try reader.content(BER.context(0)))
        case BER.context(1, constructed: true), BER.context(2, constructed: true):
            let deletes = reader.nextTag == BER.context(1, constructed: true)
            var members = try reader.members(
                deletes ? BER.context(1, constructed: true) : BER.context(2, constructed: true))
            let cookie = try members.optional(BER.octets)
            let isDone = try members.flag(default: true)
            return [.phaseDone(deletes: deletes)] + (isDone ? endRefresh() : []) + Self.event(cookie)
        case BER.context(3, constructed: true):
            var members = try reader.members(BER.context(3, constructed: true))
            let cookie = try members.optional(BER.octets)
            let deletes = try members.flag(default: false)
            var set = try members.members(BER.set)
            var uuids: [EntryUUID] = []
            while !set.isAtEnd { uuids.append(try Self.uuid(set.content(BER.octets))) }
            return [.identifiers(uuids, deleted: deletes)] + Self.event(cookie)
        default: throw BERReader.Malformed()
        }
    }

    /// - Parameter controls: of the successful end of the search; the Sync Done control says how a refresh without persisting ended.
    mutating func events(end controls: [Control]) throws(BERReader.Malformed) -> [SyncEvent] {
        guard let value = controls.value(of: Self.done) else { return endRefresh() }
        var reader = BERReader(value)
        var members = try reader.members(BER.sequence)
        let cookie = try members.optional(BER.octets)
        let deletes = try members.flag(default: false)
        return (isRefreshing ? [.phaseDone(deletes: deletes)] : []) + endRefresh() + Self.event(cookie)
    }

    private mutating func endRefresh() -> [SyncEvent] {
        defer { isRefreshing = false }
        return isRefreshing ? [.refreshDone] : []
    }

    private static func event(_ cookie: ArraySlice<UInt8>?) -> [SyncEvent] { cookie.map { [.cookie(Array($0))] } ?? [] }

    private static func uuid(_ bytes: ArraySlice<UInt8>) throws(BERReader.Malformed) -> EntryUUID {
        guard let uuid = EntryUUID(bytes: bytes) else { throw BERReader.Malformed() }
        return uuid
    }
}
