import LDAP
import JobCore
import Logging

/// Notices wishes: follows the pending set by a persistent search or by polling, and lists it anew now and then.
///
/// It sends change notifications: one too many costs a read, and the relist makes up for one too few.
@MainActor public struct Watcher {
    /// When and how to look (settings `DETECTION`, `POLL_INTERVAL`, `RELIST_INTERVAL`).
    public struct Timing: Sendable {
        /// Persistent search, polling, or whichever the server offers.
        public var detection: Detection
        /// Between two polls.
        public var pollInterval: Duration
        /// Between two lists of all that is pending.
        public var relistInterval: Duration

        /// The defaults of the settings.
        public init(
            detection: Detection = .auto, pollInterval: Duration = .seconds(10),
            relistInterval: Duration = .seconds(300)
        ) {
            self.detection = detection
            self.pollInterval = pollInterval
            self.relistInterval = relistInterval
        }
    }

    /// The persistent search has a connection for itself.
    let persistLink: LDAPLink
    let liveness: SearchLiveness
    let reader: AccountReader
    let timing: Timing
    let retry: RetryPolicy
    let clock: any WallClock
    let logger: Logger

    /// Sends change notifications until the task is cancelled.
    /// - Parameter sink: may suspend to hold the watcher back.
    func run(_ sink: @escaping @Sendable (ChangeNotification) async -> Void) async throws {
        let turn = ListTurn()
        try await withThrowingTaskGroup { group in
            group.addTask { try await follow(sink, turn) }
            group.addTask { try await relist(sink, turn) }
            try await group.next()
            group.cancelAll()
        }
    }

    /// Hands over all that is pending now.
    /// - Throws: `CancellationError`, or a `LDAPError`, also when an entry is seen whose entryUUID is not given.
    func list(_ sink: @Sendable (ChangeNotification) async -> Void) async throws {
        var nameless: DN?
        try await reader.forEach(reader.scope.pending, attributes: Self.attributes) { entry in
            guard let uuid = entry.text(AttributeNames.entryUUID).flatMap({ EntryUUID(text: $0) }) else {
                nameless = nameless ?? entry.dn
                return
            }
            let csn = entry[AttributeNames.entryCSN].first
            await sink(.look(AccountKey(uuid: uuid, dn: entry.dn), csn: csn, isChange: false))
        }
        guard let nameless else { return }
        throw LDAPError(
            .insufficientAccessRights, operation: "read \(nameless)", server: "the directory",
            diagnostic: AccountReader.hidden([AttributeNames.entryUUID]))
    }

    private static let attributes = [AttributeNames.entryUUID, AttributeNames.entryCSN]

    private func follow(_ sink: @Sendable (ChangeNotification) async -> Void, _ turn: ListTurn) async throws {
        var generator = SystemRandomNumberGenerator()
        var machine = WatcherStateMachine(
            detection: timing.detection, pollInterval: timing.pollInterval, relistInterval: timing.relistInterval,
            retry: retry)
        var announced: WatcherStateMachine.Action?
        var event = WatcherStateMachine.Event.started
        var listing: LDAPError?
        while true {
            let action = machine.handle(event, using: &generator)
            try Task.checkCancellation()
            if action != announced, action == .poll || action == .persist {
                announced = action
                logger.info(
                    action == .persist
                        ? "wishes are noticed by a persistent search"
                        : "wishes are noticed by polling every \(timing.pollInterval)")
            }
            switch action {
            case .persist:
                event = .persistEnded(try await persist(sink) { _ = machine.handle(.refreshed, using: &generator) })
            case .poll:
                event = try await poll(sink, turn, after: &listing)
            case .sleep(let duration):
                try await clock.sleep(for: duration)
                event = .slept
            case .proceed:
                event = .slept
            }
        }
    }

    /// Follows the persistent search until it ends; it always ends with an error.
    private func persist(
        _ sink: @Sendable (ChangeNotification) async -> Void, refreshed: () -> Void
    ) async throws -> LDAPError {
        let connection = try await persistLink.connection()
        let scope = reader.scope
        let request = ContentSyncRequest(
            base: scope.base, scope: .subtree, filter: scope.pending, attributes: [AttributeNames.entryCSN])
        let guardian = Task { [persistLink, liveness, clock, logger] in
            try await liveness.untilSilent(by: clock)
            let silence =
                "it has told of nothing for \(SearchLiveness.longestSilence) after a change by the daemon itself"
            logger.warning("the persistent search is begun anew: \(silence)")
            persistLink.drop(
                connection,
                because: LDAPError(
                    .unavailable, operation: "content synchronization of \(scope.base)",
                    server: connection.server.description, diagnostic: silence))
        }
        defer { guardian.cancel() }
        var isRefreshed = false
        do throws(LDAPError) {
            for try await event in connection.contentSync(request) {
                liveness.heard()
                switch event {
                case .entry(let entry, let uuid, _):
                    let csn = entry[AttributeNames.entryCSN].first
                    await sink(.look(AccountKey(uuid: uuid, dn: entry.dn), csn: csn, isChange: isRefreshed))
                case .deleted(let uuid):
                    await sink(.left(uuid))
                case .identifiers(let uuids, deleted: true):
                    for uuid in uuids { await sink(.left(uuid)) }
                case .refreshDone:
                    isRefreshed = true
                    persistLink.noteSuccess()
                    refreshed()
                case .present, .identifiers, .phaseDone, .cookie:
                    break
                }
            }
            throw LDAPError(
                .unavailable, operation: "content synchronization of \(scope.base)",
                server: connection.server.description,
                diagnostic: "the server ended it without being asked to")
        } catch {
            try Task.checkCancellation()
            if error.code == .unavailableCriticalExtension, timing.detection == .auto {
                connection.close()
                persistLink.noteSuccess()
            } else {
                persistLink.drop(connection, because: error)
            }
            return error
        }
    }

    /// - Parameter last: what the poll before met with; only what is new is told loudly.
    private func poll(
        _ sink: @Sendable (ChangeNotification) async -> Void, _ turn: ListTurn, after last: inout LDAPError?
    ) async throws -> WatcherStateMachine.Event {
        do {
            try await turn.take { try await list(sink) }
            if last != nil { logger.notice("the pending accounts can be listed again") }
            last = nil
            return .polled
        } catch let error as LDAPError {
            logger.log(level: error == last ? .debug : .error, "the pending accounts cannot be listed: \(error)")
            last = error
            return .pollFailed(error)
        }
    }

    private func relist(_ sink: @Sendable (ChangeNotification) async -> Void, _ turn: ListTurn) async throws {
        while true {
            try await clock.sleep(for: timing.relistInterval)
            do {
                try await turn.take { try await list(sink) }
            } catch let error as LDAPError {
                logger.error("the pending accounts cannot be listed: \(error)")
            }
        }
    }
}

/// Lets one list be made at a time: a server keeps one paged search for each connection and fails the other, and a list that is held up may take long.
@MainActor final class ListTurn {
    private var isTaken = false

    /// Does it, unless another is under way: that one finds the same, and what it has passed already the next one finds.
    func take(_ list: () async throws -> Void) async rethrows {
        guard !isTaken else { return }
        isTaken = true
        defer { isTaken = false }
        try await list()
    }
}
