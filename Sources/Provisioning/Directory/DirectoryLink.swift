public import LDAP
import JobCore

/// One connection to the directory that is made when it is needed and made again when it is lost, for ever.
///
/// All who ask meanwhile wait for the same try. A connection that somebody reports lost is closed for everybody. New
/// settings hold for all who ask, so that nobody waits for a server that is no longer named.
@MainActor public final class LDAPLink {
    private let name: String
    private let login: LDAPLogin
    private var retry: RetryPolicy
    private let availability: LDAPAvailability
    private let clock: any WallClock

    private var current: LDAPConnection?
    private var connecting: Task<Void, Never>?
    /// Those who have asked for the connection that is being made.
    private var waiting: [AsyncStream<LDAPConnection>.Continuation] = []
    private var isStopped = false
    /// Failures since the directory last did what it was asked; a server that answers only to refuse counts as away.
    private var failures = 0

    /// - Parameters:
    ///   - name: what messages call the connection, for instance `watch`.
    ///   - login: shared by all links of a daemon.
    ///   - retry: how long to wait between tries; its number of attempts is not looked at.
    init(
        name: String, login: LDAPLogin, retry: RetryPolicy, availability: LDAPAvailability,
        clock: any WallClock = SystemWallClock()
    ) {
        self.name = name
        self.login = login
        self.retry = retry
        self.availability = availability
        self.clock = clock
    }

    /// The connection, as soon as there is one.
    /// - Throws: `CancellationError` when the link is stopped or the asking task is cancelled.
    public func connection() async throws -> LDAPConnection {
        guard !isStopped else { throw CancellationError() }
        if let current, !current.isClosed { return current }
        if connecting == nil { connecting = Task { await self.connect() } }
        // A stream ends with the task that reads it; the value of another task would be waited for all the same.
        let (answer, continuation) = AsyncStream<LDAPConnection>.makeStream()
        waiting.append(continuation)
        for await connection in answer { return connection }
        throw CancellationError()
    }

    /// Tries once to reach a server, over a connection that ends at once.
    /// - Throws: what each server answered, or has answered where it refuses the credentials.
    func tryOnce() async throws(LDAPError) { try await login.connect(waits: false).close() }

    /// A connection of the caller's own, made as soon as a server can be reached. It ends with its last reference.
    ///
    /// That the directory is away is for the link itself to say.
    /// - Throws: `CancellationError` when the link is stopped or the asking task is cancelled, or the directory's refusal.
    func ownConnection() async throws -> LDAPConnection {
        var generator = SystemRandomNumberGenerator()
        var tries = 0
        while !isStopped {
            do throws(LDAPError) {
                return try await login.connect()
            } catch {
                try Task.checkCancellation()
                guard error.isRetryable else { throw error }
            }
            tries += 1
            let delay = retry.delay(afterAttempt: tries, using: &generator) ?? retry.maximumDelay
            try await clock.sleep(for: delay)
        }
        throw CancellationError()
    }

    /// Closes a connection that failed; whoever asks next gets a new one.
    public func drop(_ connection: LDAPConnection, because error: LDAPError) {
        connection.close()
        guard connection === current else { return }
        current = nil
        noteFailure(error)
    }

    /// The directory has done what it was asked on this link.
    func noteSuccess() {
        guard failures != 0 else { return }
        failures = 0
        availability.recovered(name)
    }

    private func noteFailure(_ error: LDAPError) {
        failures += 1
        availability.failed(name, error)
    }

    /// Begins anew, since the login has another server or other credentials. What is under way is lost, as with any lost connection.
    func reconfigure(retry: RetryPolicy) {
        self.retry = retry
        close()
        // The waits belong to the servers that were named before.
        failures = min(failures, 1)
        if connecting != nil, !isStopped {
            connecting?.cancel()
            connecting = Task { await self.connect() }
        }
    }

    /// Ends the connection and every wait for one.
    public func stop() {
        isStopped = true
        connecting?.cancel()
        answerAll(nil)
        close()
    }

    private func close() {
        current?.close()
        current = nil
    }

    private func answerAll(_ connection: LDAPConnection?) {
        for continuation in waiting {
            if let connection { continuation.yield(connection) }
            continuation.finish()
        }
        waiting = []
    }

    /// Tries until there is a connection, or until cancelled: then somebody else has taken over.
    private func connect() async {
        while true {
            // A single loss is usually a restart, and the next try costs nothing.
            if failures > 1 {
                var generator = SystemRandomNumberGenerator()
                let delay = retry.delay(afterAttempt: failures - 1, using: &generator) ?? retry.maximumDelay
                do { try await clock.sleep(for: delay) } catch { return }
            }
            do {
                let connection = try await login.connect()
                guard !Task.isCancelled else { return connection.close() }
                current = connection
                connecting = nil
                return answerAll(connection)
            } catch {
                guard !Task.isCancelled else { return }
                noteFailure(error)
            }
        }
    }
}
