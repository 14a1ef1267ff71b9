import EventLoop

/// The events of a content synchronization (RFC 4533).
///
/// It uses the whole connection: while the consumer lags by 1,000 events nothing is read at all, so that the server is slowed down
/// and memory stays bounded. The connection is closed when the iteration ends: by its end, an error, cancellation, or leaving the loop.
/// Iterate once.
public struct ContentSync: AsyncSequence, Sendable {
    /// What it gives.
    public typealias Element = SyncEvent
    /// How it fails: among others `syncRefreshRequired` (begin anew without the cookie), `unavailableCriticalExtension` (the server does not
    /// offer it), `busy`, `unavailable`, `unwillingToPerform`, and any error with `isConnectionLost`.
    public typealias Failure = LDAPError

    let connection: LDAPConnection
    let request: ContentSyncRequest

    /// Begins the synchronization.
    public func makeAsyncIterator() -> Iterator { Iterator(session: Session(connection, request)) }

    /// Hands out the events in the order of the server.
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

    /// One run; closes the connection when nobody holds it any more.
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
    /// Keeps in step with the entries that match, from their present state on.
    public nonisolated func contentSync(_ request: ContentSyncRequest) -> ContentSync {
        ContentSync(connection: self, request: request)
    }
}

/// Which entries to keep in step with (RFC 4533).
public struct ContentSyncRequest: Hashable, Sendable {
    /// Whether the server goes on telling after the present state.
    public enum Mode: Int, Hashable, Sendable {
        /// The present state, then the end.
        case refreshOnly = 1
        /// The present state, then each change, for ever.
        case refreshAndPersist = 3
    }

    /// Where the search begins.
    public var base: DN
    /// How far it goes.
    public var scope: SearchScope
    /// Which entries are wanted. One that stops matching is told as deleted.
    public var filter: Filter
    /// Which attributes are wanted, as in a search.
    public var attributes: [AttributeName]
    /// Where an earlier synchronization came to; nil begins anew.
    public var cookie: [UInt8]?
    /// Whether to go on after the present state.
    public var mode: Mode

    /// Everything below `base`, for ever, unless the arguments say less.
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

/// One thing that a content synchronization tells, in the order of the server.
public enum SyncEvent: Hashable, Sendable {
    /// Why an entry was sent.
    public enum Change: Hashable, Sendable {
        /// It is there; new to the content, or sent for the first time. The same entry may come twice.
        case add
        /// It was there before and has changed; a rename shows as another DN under the same UUID.
        case modify
    }

    /// An entry that belongs to the content, as it is now.
    case entry(Entry, EntryUUID, Change)
    /// An entry that belongs to the content and has not changed since the cookie.
    case present(EntryUUID)
    /// An entry that no longer belongs to the content: deleted, moved away, or not matching any more. The three cannot be told apart.
    case deleted(EntryUUID)
    /// Many at once: entries that are gone, or that are unchanged.
    case identifiers([EntryUUID], deleted: Bool)
    /// A part of the refresh has ended that named what is there (`deletes` false: what was not named is gone, unless the refresh began with
    /// a cookie and more parts follow) or what is gone (`deletes` true). Mind it only with a cookie.
    case phaseDone(deletes: Bool)
    /// The present state has been told whole. What follows are changes as they happen.
    case refreshDone
    /// From here a later synchronization can go on, once everything told so far has been dealt with.
    case cookie([UInt8])
}

// MARK: - The stream

/// The bounded way from a connection to the consumer of a content synchronization.
///
/// When the consumer lags by `capacity` events the connection stops reading, so that the server feels it through TCP; it goes on when the
/// consumer has taken what is there.
@MainActor final class SyncStream {
    /// The consumer gets them in one piece, so that at most twice as many are in memory.
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

    /// - Returns: whether the connection shall stop reading until it is resumed.
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

    /// Nothing more comes.
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

    /// All that is there, at least one event; empty at the end. For one consumer.
    /// - Parameter resume: is called when the connection had stopped reading.
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

/// Turns the messages of a content synchronization (RFC 4533, sections 2 and 3) into events. Pure: no message is lost, sent twice or put in
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
