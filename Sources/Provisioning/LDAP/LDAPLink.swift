import EventLoop
import JobCore
import LDAP

/// A connection that is made when it is needed, and made again when it is lost, without an end to the attempts.
///
/// Callers that ask at the same time share one attempt. A connection that one caller reports as lost is closed for all.
@MainActor final class LDAPLink {
    private let name: String
    private let login: LDAPLogin
    private let availability: LDAPAvailability
    private let clock: any WallClock

    private var current: LDAPConnection?
    private var connecting: Task<Void, Never>?
    /// Callers that wait for the connection.
    private let waiters = Waiters<LDAPConnection>()
    private var isStopped = false
    /// Lost connections and failed logins since the last successful operation.
    private var failures = 0
    /// Operations for which the server was too busy, and that have not ended.
    private var busyOperations = 0

    /// - Parameters:
    ///   - name: for messages, such as `watch`.
    ///   - login: shared by all links of a daemon.
    init(name: String, login: LDAPLogin, availability: LDAPAvailability, clock: any WallClock) {
        self.name = name
        self.login = login
        self.availability = availability
        self.clock = clock
    }

    /// The connection, as soon as there is one.
    /// - Throws: `CancellationError` when the link is stopped or the calling task is cancelled.
    func connection() async throws -> LDAPConnection {
        guard !isStopped else { throw CancellationError() }
        if let current, !current.isClosed { return current }
        if connecting == nil { connecting = Task { await self.connect() } }
        // Unlike awaiting the task's value, this ends when the calling task is cancelled.
        guard let connection = await waiters.wait() else { throw CancellationError() }
        return connection
    }

    /// Does something repeatable on a connection, until a server has answered.
    /// - Throws: `CancellationError` when the link is stopped, or the server's refusal.
    func withConnection<Result>(
        _ body: (LDAPConnection) async throws(LDAPError) -> Result
    ) async throws -> Result {
        var busy = 0
        defer { isNoLongerBusy(after: busy) }
        while true {
            let connection = try await self.connection()
            do throws(LDAPError) {
                let result = try await body(connection)
                noteSuccess()
                return result
            } catch {
                try Task.checkCancellation()
                guard error.isRetryable else { throw error }
                if error.isBusy {
                    busy += 1
                    try await waitWhileBusy(error, tries: busy)
                } else {
                    drop(connection, because: error)
                }
            }
        }
    }

    /// Waits before an operation is repeated for which the server was too busy. The connection stays: a new one would get the same answer, and
    /// would break off what others do on this one.
    /// - Parameter tries: of the operation, in a row; at least 1.
    func waitWhileBusy(_ error: LDAPError, tries: Int) async throws {
        if tries == 1 { busyOperations += 1 }
        availability.failed(busyName, error)
        try await pause(afterFailures: tries)
    }

    /// An operation has ended that may have waited.
    func isNoLongerBusy(after tries: Int) {
        guard tries > 0 else { return }
        busyOperations -= 1
        if busyOperations == 0 { availability.recovered(busyName) }
    }

    /// Not the link's own name, since other operations succeed meanwhile.
    private var busyName: String { "\(name), busy" }

    /// A connection of the caller's own, as soon as a server can be reached. It is closed with its last reference. Failures are not logged, since
    /// the link logs its own.
    /// - Throws: `CancellationError` when the link is stopped or the calling task is cancelled, or the server's refusal.
    func ownConnection() async throws -> LDAPConnection {
        var tries = 0
        while !isStopped {
            do throws(LDAPError) {
                return try await login.connect()
            } catch {
                try Task.checkCancellation()
                guard error.isRetryable else { throw error }
            }
            tries += 1
            try await pause(afterFailures: tries)
        }
        throw CancellationError()
    }

    /// The delay before a connection of the caller's own is opened again.
    /// - Parameter count: failures in a row; at least 1.
    func pause(afterFailures count: Int) async throws { try await clock.sleep(for: login.delay(afterFailures: count)) }

    /// Closes a connection that failed; the next caller gets a new one.
    func drop(_ connection: LDAPConnection, because error: LDAPError) {
        connection.close()
        guard connection === current else { return }
        current = nil
        noteFailure(error)
    }

    /// A server refused a write: if it is a replica, and the settings name other servers, those are tried first.
    func leaveReplica(_ connection: LDAPConnection, because error: LDAPError) {
        guard error.isReplicaRefusal, connection === current, login.leaveReplica() else { return }
        drop(connection, because: error)
    }

    /// An operation on this link succeeded.
    func noteSuccess() {
        guard failures != 0 else { return }
        failures = 0
        availability.recovered(name)
    }

    private func noteFailure(_ error: LDAPError) {
        failures += 1
        availability.failed(name, error)
    }

    /// Connects again, since the login has other servers or credentials. Operations under way fail as with a lost connection.
    func reconnect() {
        close()
        // The delays belong to the old servers.
        failures = min(failures, 1)
        if connecting != nil, !isStopped {
            connecting?.cancel()
            connecting = Task { await self.connect() }
        }
    }

    /// Ends the connection and every wait for one.
    func stop() {
        isStopped = true
        connecting?.cancel()
        waiters.resume()
        close()
    }

    private func close() {
        current?.close()
        current = nil
    }

    /// Tries until there is a connection, or until the task is cancelled because another one has taken over.
    private func connect() async {
        while true {
            // A single loss is usually a restart of the server, so the first attempt has no delay.
            if failures > 1 {
                do { try await clock.sleep(for: login.delay(afterFailures: failures - 1)) } catch { return }
            }
            do {
                let connection = try await login.connect()
                guard !Task.isCancelled else { return connection.close() }
                current = connection
                connecting = nil
                return waiters.resume(connection)
            } catch {
                guard !Task.isCancelled else { return }
                noteFailure(error)
            }
        }
    }
}

/// Logs in for all links of an engine: one attempt at a time, and few attempts while the server refuses the credentials.
///
/// A password policy counts wrong passwords and locks the account, often for ever; so a refusal holds for all links.
@MainActor final class LDAPLogin {
    private let configuration: @MainActor () -> Engine.Configuration
    /// One list for all links, so that all writes go to one server at a time.
    private var servers: ServerList
    private let availability: LDAPAvailability
    private let clock: any WallClock

    private var state = LoginState()
    /// Increases with new settings, so that the result of an attempt with the old ones is ignored.
    private var generation = 0
    /// Callers that wait for the end of an attempt or of a delay; they get the error of a failed attempt.
    private let waiters = Waiters<LDAPError>()
    private var alarm: Task<Void, Never>?
    private var leftReplica: ContinuousClock.Instant?
    private var isStopped = false

    init(
        _ configuration: @escaping @MainActor () -> Engine.Configuration, availability: LDAPAvailability,
        clock: any WallClock
    ) {
        self.configuration = configuration
        servers = ServerList(configuration().servers)
        self.availability = availability
        self.clock = clock
    }

    /// A new connection. Callers during another attempt share its failure.
    /// - Parameter waits: while the credentials are refused, waits for the next attempt; else throws the refusal at once.
    /// - Throws: what the servers answered; `userCancelled` when the task is cancelled or the engine stops.
    func connect(waits: Bool = true) async throws(LDAPError) -> LDAPConnection {
        while !isStopped, !Task.isCancelled {
            switch state.ask() {
            case .granted:
                do throws(LDAPError) {
                    return try await connectNow()
                } catch {
                    guard error.code == .invalidCredentials, waits else { throw error }
                }
            case .taken:
                if let error = await waiters.wait() { throw error }
            case .refused(let error):
                guard waits else { throw error }
                _ = await waiters.wait()
            }
        }
        throw LDAPError(.userCancelled, operation: "connect", server: "the LDAP server")
    }

    private func connectNow() async throws(LDAPError) -> LDAPConnection {
        let mine = generation
        do throws(LDAPError) {
            let connection = try await servers.connect(options: configuration().connection)
            if mine == generation {
                state = LoginState()
                availability.credentialsAccepted(connection.passwordPolicy, at: clock.now)
                waiters.resume()
            }
            return connection
        } catch {
            if mine == generation { failed(error) }
            throw error
        }
    }

    private func failed(_ error: LDAPError) {
        guard let delay = state.failed(error) else {
            availability.forgetRefusal()
            return waiters.resume(error.code == .userCancelled ? nil : error)
        }
        availability.credentialsRefused(error, nextTry: clock.now + delay)
        alarm = Task { [clock] in
            do { try await clock.sleep(for: delay) } catch { return }
            guard !Task.isCancelled else { return }
            state.delayEnded()
            waiters.resume()
        }
        waiters.resume()
    }

    /// The delay after so many failed attempts to connect in a row.
    func delay(afterFailures failures: Int) -> Duration {
        var generator = SystemRandomNumberGenerator()
        return configuration().ldapRetry.endlessDelay(afterAttempt: failures, using: &generator)
    }

    /// The next connection is tried at another server. While all others are away it is the replica again, so this is seldom done.
    /// - Returns: whether it is to be made.
    func leaveReplica() -> Bool {
        guard leftReplica.map({ .now - $0 > .seconds(30) }) ?? true, servers.leaveReplica() else { return false }
        leftReplica = .now
        return true
    }

    /// Servers or credentials may be other ones: forgets what the old ones answered, and tries at once.
    /// - Parameter reconnectLinks: called before the first attempt.
    func startOver(reconnectLinks: () -> Void) {
        generation += 1
        servers = ServerList(configuration().servers)
        alarm?.cancel()
        availability.forgetRefusal()
        state = LoginState()
        reconnectLinks()
        waiters.resume()
    }

    /// Ends every wait.
    func stop() {
        isStopped = true
        alarm?.cancel()
        waiters.resume()
    }
}

/// Whether the credentials may be tried now.
struct LoginState: Hashable, Sendable {
    enum Answer: Hashable, Sendable {
        /// The caller tries, and reports the result.
        case granted
        /// Another caller tries.
        case taken
        /// No attempt may be made.
        case refused(LDAPError)
    }

    private var isTaken = false
    private var refusals = 0
    private var refusal: LDAPError?

    mutating func ask() -> Answer {
        if let refusal { return .refused(refusal) }
        if isTaken { return .taken }
        isTaken = true
        return .granted
    }

    /// - Returns: how long no attempt may be made; nil: another one may follow at once.
    mutating func failed(_ error: LDAPError) -> Duration? {
        isTaken = false
        guard error.code == .invalidCredentials else { return nil }
        refusals += 1
        refusal = error
        return refusals == 1 ? ServerList.firstRefusalDelay : ServerList.laterRefusalDelay
    }

    /// The next attempt may be made.
    mutating func delayEnded() { refusal = nil }
}
