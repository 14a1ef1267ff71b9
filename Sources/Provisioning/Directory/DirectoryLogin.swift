import LDAP
import JobCore

/// How all links of an engine log in: one at a time, and seldom while the server refuses the credentials.
///
/// A password policy counts wrong passwords and locks the account, often for ever; so what one connection was told holds for all.
@MainActor final class LDAPLogin {
    private var servers: ServerList
    private var options: ConnectionOptions
    private let availability: LDAPAvailability
    private let clock: any WallClock

    private var turn = LoginTurn()
    /// Goes up with new settings: what a try with the old ones comes to says nothing of the new ones.
    private var generation = 0
    /// Those who wait for the end of a try or of a wait; they get the error of a try that has failed for them as well.
    private var waiting: [AsyncStream<LDAPError?>.Continuation] = []
    private var alarm: Task<Void, Never>?
    private var isStopped = false

    /// - Parameter servers: one list for all, so that all writes go to one provider at a time.
    init(
        servers: ServerList, options: ConnectionOptions, availability: LDAPAvailability, clock: any WallClock
    ) {
        self.servers = servers
        self.options = options
        self.availability = availability
        self.clock = clock
    }

    /// A new connection. Those who ask while another try is under way share its failure.
    /// - Parameter waits: while the credentials are refused, waits until they may be tried; else fails with the refusal, without a try.
    /// - Throws: what the servers answered; `userCancelled` when the task is cancelled or the engine stops.
    func connect(waits: Bool = true) async throws(LDAPError) -> LDAPConnection {
        while !isStopped, !Task.isCancelled {
            switch turn.ask() {
            case .granted:
                do throws(LDAPError) {
                    return try await connectNow()
                } catch {
                    guard error.code == .invalidCredentials, waits else { throw error }
                }
            case .taken:
                if let error = await change() { throw error }
            case .refused(let error):
                guard waits else { throw error }
                _ = await change()
            }
        }
        throw LDAPError(.userCancelled, operation: "connect", server: "the directory")
    }

    private func connectNow() async throws(LDAPError) -> LDAPConnection {
        let mine = generation
        do throws(LDAPError) {
            let connection = try await servers.connect(options: options)
            if mine == generation {
                turn.succeeded()
                availability.credentialsAccepted(connection.passwordPolicy, at: clock.now)
                wake()
            }
            return connection
        } catch {
            if mine == generation { failed(error) }
            throw error
        }
    }

    private func failed(_ error: LDAPError) {
        guard let wait = turn.failed(error) else {
            availability.forgetRefusal()
            return wake(error.code == .userCancelled ? nil : error)
        }
        availability.credentialsRefused(error, nextTry: clock.now + wait)
        alarm = Task { [clock] in
            do { try await clock.sleep(for: wait) } catch { return }
            endWait()
        }
        wake()
    }

    private func endWait() {
        guard !Task.isCancelled else { return }
        turn.waitIsOver()
        wake()
    }

    /// Goes on with other servers or credentials, or tries the same at once.
    /// - Parameter links: has them begin anew; none tries before all have.
    func reconfigure(servers: ServerList, options: ConnectionOptions, links: () -> Void) async {
        generation += 1
        self.servers = servers
        self.options = options
        alarm?.cancel()
        availability.forgetRefusal()
        turn = LoginTurn(isTaken: true)
        links()
        turn = LoginTurn()
        wake()
    }

    /// Ends every wait.
    func stop() {
        isStopped = true
        alarm?.cancel()
        wake()
    }

    private func change() async -> LDAPError? {
        // A stream ends with the task that reads it.
        let (changes, continuation) = AsyncStream<LDAPError?>.makeStream()
        waiting.append(continuation)
        for await error in changes { return error }
        return nil
    }

    private func wake(_ error: LDAPError? = nil) {
        for continuation in waiting {
            continuation.yield(error)
            continuation.finish()
        }
        waiting = []
    }
}

/// Whether an engine's credentials may be tried now. A pure value.
struct LoginTurn: Hashable, Sendable {
    enum Answer: Hashable, Sendable {
        /// The asker tries, and tells how it ended.
        case granted
        /// Another one tries.
        case taken
        /// Nobody may try.
        case refused(LDAPError)
    }

    static let firstWait = Duration.seconds(300)
    static let laterWait = Duration.seconds(3_600)

    private var isTaken: Bool
    private var refusals = 0
    private var refusal: LDAPError?

    init(isTaken: Bool = false) { self.isTaken = isTaken }

    mutating func ask() -> Answer {
        if let refusal { return .refused(refusal) }
        if isTaken { return .taken }
        isTaken = true
        return .granted
    }

    mutating func succeeded() { self = LoginTurn() }

    /// - Returns: how long nobody may try; nil: another try may follow at once.
    mutating func failed(_ error: LDAPError) -> Duration? {
        isTaken = false
        guard error.code == .invalidCredentials else { return nil }
        refusals += 1
        refusal = error
        return refusals == 1 ? Self.firstWait : Self.laterWait
    }

    /// The next who asks may try.
    mutating func waitIsOver() { refusal = nil }
}
