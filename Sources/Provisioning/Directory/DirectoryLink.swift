public import DirectoryClient
public import JobCore
import Synchronization

/// One connection to the directory that is made when it is needed and made again when it is lost, for ever.
///
/// All who ask meanwhile wait for the same try. A connection that somebody reports lost is closed for everybody.
public actor DirectoryLink {
    private let name: String
    private let servers: ServerList
    private let options: ConnectionOptions
    private let retry: RetryPolicy
    private let availability: DirectoryAvailability
    private let clock: any WallClock

    private var current: DirectoryConnection?
    private var connecting: Task<DirectoryConnection, any Error>?
    private var isStopped = false
    /// Failures since the directory last did what it was asked; a server that answers only to refuse counts as away.
    private nonisolated let failures = Atomic<Int>(0)

    /// - Parameters:
    ///   - name: what messages call the connection, for instance `watch`.
    ///   - servers: shared by all links of a daemon, so that all its writes go to one provider at a time.
    ///   - retry: how long to wait between tries; its number of attempts is not looked at.
    public init(
        name: String, servers: ServerList, options: ConnectionOptions, retry: RetryPolicy,
        availability: DirectoryAvailability, clock: any WallClock = SystemWallClock()
    ) {
        self.name = name
        self.servers = servers
        self.options = options
        self.retry = retry
        self.availability = availability
        self.clock = clock
    }

    /// The connection, as soon as there is one.
    /// - Throws: `CancellationError` when the link is stopped.
    public func connection() async throws -> DirectoryConnection {
        guard !isStopped else { throw CancellationError() }
        if let current, !current.isClosed { return current }
        let attempt = connecting ?? Task { try await self.connect() }
        connecting = attempt
        return try await attempt.value
    }

    /// Closes a connection that failed; whoever asks next gets a new one.
    public func drop(_ connection: DirectoryConnection, because error: DirectoryError) {
        connection.close()
        guard connection === current else { return }
        current = nil
        noteFailure(error)
    }

    /// The directory has done what it was asked on this link.
    nonisolated func noteSuccess() {
        guard failures.load(ordering: .relaxed) != 0 else { return }
        failures.store(0, ordering: .relaxed)
        availability.recovered(name)
    }

    private nonisolated func noteFailure(_ error: DirectoryError) {
        failures.add(1, ordering: .relaxed)
        availability.failed(name, error)
    }

    /// Ends the connection and every wait for one.
    public func stop() {
        isStopped = true
        connecting?.cancel()
        current?.close()
        current = nil
    }

    private func connect() async throws -> DirectoryConnection {
        defer { connecting = nil }
        while true {
            // A single loss is usually a restart, and the next try costs nothing.
            let failed = failures.load(ordering: .relaxed)
            if failed > 1 {
                var generator = SystemRandomNumberGenerator()
                let delay = retry.delay(afterAttempt: failed - 1, using: &generator) ?? retry.maximumDelay
                try await clock.sleep(until: clock.now + delay)
            }
            do {
                let connection = try await servers.connect(options: options)
                guard !isStopped else {
                    connection.close()
                    throw CancellationError()
                }
                current = connection
                return connection
            } catch let error as DirectoryError {
                try Task.checkCancellation()
                noteFailure(error)
            }
        }
    }
}
