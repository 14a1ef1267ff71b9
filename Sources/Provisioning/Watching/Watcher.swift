import LDAP
import JobCore
import Logging

/// Detects requests by a persistent search or by polling, and lists all pending accounts now and then.
///
/// It sends change notifications. A superfluous one costs a read, and the relist makes up for a lost one.
@MainActor public final class Watcher {
    /// The settings `DETECTION`, `POLL_INTERVAL` and `RELIST_INTERVAL`.
    public struct Timing: Sendable {
        /// Persistent search, polling, or whichever the server supports.
        public var detection: Detection
        /// The wait between two polls.
        public var pollInterval: Duration
        /// The wait between two lists of all pending accounts.
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

    typealias Sink = @Sendable (ChangeNotification) async -> Void

    /// The persistent search has a connection of its own.
    private let link: LDAPLink
    private let liveness: SearchLiveness
    private let entries: AccountEntries
    private let timing: Timing
    private let clock: any WallClock
    private let logger: Logger
    private var detection: DetectionState
    /// The way in which requests are detected, as it was logged last.
    private var announced: String?
    /// The error of the last poll; the same error is logged once.
    private var pollError: LDAPError?
    private var isListing = false

    /// Watches with the current settings.
    init(_ context: EngineContext, link: LDAPLink) {
        let configuration = context.configuration()
        self.link = link
        liveness = context.liveness
        entries = AccountEntries(link: context.link, scope: configuration.scope)
        timing = configuration.timing
        // The link waits for a server that is unreachable; a search that ended is restarted soon.
        let retry = RetryPolicy(
            maximumAttempts: .max, delay: min(.seconds(1), configuration.ldapRetry.delay),
            maximumDelay: configuration.ldapRetry.maximumDelay)
        detection = DetectionState(timing, retry: retry)
        clock = context.clock
        logger = context.logger
    }

    /// Sends change notifications until the task is cancelled.
    /// - Parameter sink: may suspend to hold the watcher back.
    func run(_ sink: @escaping Sink) async throws {
        try await withThrowingTaskGroup { group in
            group.addTask { try await self.follow(sink) }
            group.addTask { try await self.relist(sink) }
            try await group.next()
            group.cancelAll()
        }
    }

    /// Sends a notification for each pending account.
    /// - Throws: `CancellationError`, or an `LDAPError`, also when the server does not return the entryUUID of an entry.
    func list(_ sink: Sink) async throws {
        var nameless: DN?
        try await entries.forEach(entries.scope.pending, attributes: Self.attributes) { entry in
            guard let uuid = entry.uuid else {
                nameless = nameless ?? entry.dn
                return
            }
            let csn = entry[AttributeNames.entryCSN].first
            await sink(.pending(AccountKey(uuid: uuid, dn: entry.dn), csn: csn, isChange: false))
        }
        guard let nameless else { return }
        throw LDAPError(
            .insufficientAccessRights, operation: "read \(nameless)", server: "the LDAP server",
            diagnostic: AccountEntries.hidden([AttributeNames.entryUUID]))
    }

    /// One list at a time, since a server keeps one paged search for each connection, and a sink may hold a list back for long. A second one is
    /// left out: the first finds the same, and the next one finds changes behind it.
    private func listUnlessListing(_ sink: Sink) async throws {
        guard !isListing else { return }
        isListing = true
        defer { isListing = false }
        try await list(sink)
    }

    private static let attributes = [AttributeNames.entryUUID, AttributeNames.entryCSN]

    private func follow(_ sink: @escaping Sink) async throws {
        var generator = SystemRandomNumberGenerator()
        while true {
            try Task.checkCancellation()
            let delay: Duration
            if !detection.isPolling {
                delay = detection.failed(try await persist(sink), using: &generator)
            } else if let error = try await poll(sink) {
                delay = detection.failed(error, using: &generator)
            } else {
                delay = detection.polled()
            }
            if delay > .zero { try await clock.sleep(for: delay) }
        }
    }

    /// Once for each way, when it works.
    private func announce(_ way: String) {
        guard way != announced else { return }
        announced = way
        logger.info("\(way)")
    }

    /// Follows the persistent search until it ends, which is always with an error.
    private func persist(_ sink: Sink) async throws -> LDAPError {
        let connection = try await link.connection()
        let scope = entries.scope
        let pending = SearchRequest(
            base: scope.base, filter: scope.pending, attributes: [AttributeNames.entryCSN])
        let guardian = Task { [link, liveness, clock, logger] in
            try await liveness.waitForSilence(by: clock)
            let silence =
                "it reported no change for \(SearchLiveness.longestSilence) after a change by the daemon itself"
            logger.warning("restarting the persistent search: \(silence)")
            link.drop(
                connection,
                because: LDAPError(
                    .unavailable, operation: "content synchronization of \(scope.base)",
                    server: connection.server.description, diagnostic: silence))
        }
        defer { guardian.cancel() }
        var isRefreshed = false
        do throws(LDAPError) {
            for try await event in connection.contentSync(pending) {
                liveness.receivedChange()
                // While the sink holds it back, nothing more is read.
                liveness.isReading = false
                defer { liveness.isReading = true }
                switch event {
                case .entry(let entry, let uuid):
                    let csn = entry[AttributeNames.entryCSN].first
                    await sink(.pending(AccountKey(uuid: uuid, dn: entry.dn), csn: csn, isChange: isRefreshed))
                case .deleted(let uuids):
                    for uuid in uuids { await sink(.noLongerPending(uuid)) }
                case .refreshDone:
                    isRefreshed = true
                    link.noteSuccess()
                    detection.refreshed()
                    announce("requests are detected by a persistent search")
                case .unchanged:
                    break
                }
            }
            throw LDAPError(
                .unavailable, operation: "content synchronization of \(scope.base)",
                server: connection.server.description,
                diagnostic: "the server ended it without being asked to")
        } catch {
            try Task.checkCancellation()
            if detection.replacesSearch(error) {
                connection.close()
                link.noteSuccess()
            } else {
                link.drop(connection, because: error)
            }
            return error
        }
    }

    /// - Returns: nil when all pending accounts were listed.
    private func poll(_ sink: Sink) async throws -> LDAPError? {
        do {
            try await listUnlessListing(sink)
            if pollError != nil { logger.notice("the pending accounts can be listed again") }
            announce("requests are detected by polling every \(timing.pollInterval)")
            pollError = nil
        } catch let error as LDAPError {
            logger.log(level: error == pollError ? .debug : .error, "the pending accounts cannot be listed: \(error)")
            pollError = error
        }
        return pollError
    }

    private func relist(_ sink: Sink) async throws {
        while true {
            try await clock.sleep(for: timing.relistInterval)
            do {
                try await listUnlessListing(sink)
            } catch let error as LDAPError {
                logger.error("the pending accounts cannot be listed: \(error)")
            }
        }
    }
}

/// Whether the persistent search still reports changes. Its connection may be dead without an error, such as one that a firewall has forgotten.
///
/// Each claim and outcome is a change that the search must report. If it reports none for ``longestSilence`` after one, it is restarted.
@MainActor final class SearchLiveness {
    static let longestSilence = Duration.seconds(30)

    /// Writes so far.
    private var count: UInt64 = 0
    /// Reports of the search so far.
    private(set) var changes: UInt64 = 0
    /// The number of the first write since the search last reported a change; nil: there was none.
    private var unanswered: UInt64?
    private var listener: AsyncStream<Void>.Continuation?
    /// Whether the search's reports are read; what is not read is no silence.
    var isReading = true

    /// The daemon has changed a pending entry.
    /// - Parameter before: ``changes`` before that. The search often reports a change before the write is answered, and then nothing more.
    func wrote(since before: UInt64) {
        count += 1
        guard unanswered == nil, changes == before else { return }
        unanswered = count
        listener?.yield()
    }

    /// The search has reported a change.
    func receivedChange() {
        changes += 1
        unanswered = nil
    }

    /// Returns when the search has been silent for too long. For one caller at a time.
    /// - Throws: `CancellationError`.
    func waitForSilence(by clock: any WallClock) async throws {
        let (writes, listener) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        // The search that starts now returns the writes before it.
        unanswered = nil
        self.listener = listener
        for await _ in writes {
            while let first = unanswered {
                try await clock.sleep(for: Self.longestSilence)
                if unanswered == first, isReading { return }
            }
        }
        throw CancellationError()
    }
}
