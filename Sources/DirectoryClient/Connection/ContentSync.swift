import DirectoryModel

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
