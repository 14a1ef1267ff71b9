public import DirectoryModel

/// The events of a content synchronization (RFC 4533).
///
/// It uses the whole connection: while the consumer lags by 1,000 events the thread does not read at all, so that the server is slowed down
/// and memory stays bounded. The connection is closed when the iteration ends: by its end, an error, cancellation, or leaving the loop.
/// Iterate once.
public struct ContentSync: AsyncSequence, Sendable {
    /// What it gives.
    public typealias Element = SyncEvent
    /// How it fails: among others `syncRefreshRequired` (begin anew without the cookie), `unavailableCriticalExtension` (the server does not
    /// offer it), `busy`, `unavailable`, `unwillingToPerform`, and any error with `isConnectionLost`.
    public typealias Failure = DirectoryError

    let connection: DirectoryConnection
    let request: ContentSyncRequest

    /// Begins the synchronization.
    public func makeAsyncIterator() -> Iterator { Iterator(session: Session(connection, request)) }

    /// Hands out the events in the order of the server.
    public struct Iterator: AsyncIteratorProtocol {
        private let session: Session
        private var events: ArraySlice<SyncEvent> = []

        init(session: Session) { self.session = session }

        /// The next event; nil at the end, which a persistent one does not have.
        public mutating func next() async throws(DirectoryError) -> SyncEvent? { try await next(isolation: nil) }

        /// The next event; nil at the end, which a persistent one does not have.
        public mutating func next(
            isolation actor: isolated (any Actor)?
        ) async throws(DirectoryError) -> SyncEvent? {
            if events.isEmpty { events = try await session.take()[...] }
            return events.popFirst()
        }
    }

    /// One run; closes the connection when nobody holds it any more.
    final class Session: Sendable {
        private let connection: DirectoryConnection
        private let stream: SyncStream

        init(_ connection: DirectoryConnection, _ request: ContentSyncRequest) {
            let message = Request.search(
                base: request.base, scope: request.scope, filter: request.filter, attributes: request.attributes,
                sizeLimit: 0)
            self.connection = connection
            stream = SyncStream(
                request: message, server: "\(connection.server)", persists: request.mode == .refreshAndPersist)
            let operation = Operation(
                id: connection.mailbox.nextID(), request: message,
                controls: [.syncRequest(request.mode, cookie: request.cookie)], deadline: nil, reply: .stream(stream))
            if let end = connection.mailbox.post(.start(operation)) { operation.fail(end.about("\(message)")) }
        }

        deinit { connection.close() }

        func take() async throws(DirectoryError) -> [SyncEvent] {
            let answer = await withTaskCancellationHandler {
                do throws(DirectoryError) {
                    return Result<[SyncEvent], DirectoryError>.success(
                        try await stream.take { connection.mailbox.post(.resume) })
                } catch {
                    return .failure(error)
                }
            } onCancel: {
                stream.cancel()
                connection.close()
            }
            return try answer.get()
        }
    }
}

extension DirectoryConnection {
    /// Keeps in step with the entries that match, from their present state on.
    public func contentSync(_ request: ContentSyncRequest) -> ContentSync {
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
