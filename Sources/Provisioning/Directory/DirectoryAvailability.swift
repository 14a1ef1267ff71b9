import DirectoryClient
public import Logging
import Synchronization

/// Says when the directory goes away and when it is back: once per change, not once per try.
public final class DirectoryAvailability: Sendable {
    private struct State {
        /// Failed tries of each connection that is down, by its name.
        var failures: [String: Int] = [:]
        var announcedError = false
        var attemptsUntilError: Int
    }

    private let state: Mutex<State>
    private let logger: Logger

    /// - Parameter attemptsUntilError: after so many failed tries in a row the message becomes an error (setting
    ///   `ATTEMPTS`).
    public init(attemptsUntilError: Int, logger: Logger) {
        state = Mutex(State(attemptsUntilError: attemptsUntilError))
        self.logger = logger
    }

    func reconfigure(attemptsUntilError: Int) { state.withLock { $0.attemptsUntilError = attemptsUntilError } }

    /// Whether no connection is being sought in vain.
    public var isAvailable: Bool { state.withLock { $0.failures.isEmpty } }

    /// - Parameter connection: which of the daemon's connections it was, for instance `watch`.
    func failed(_ connection: String, _ error: DirectoryError) {
        let (isFirst, isMany) = state.withLock { state in
            let isFirst = state.failures.isEmpty
            state.failures[connection, default: 0] += 1
            let isMany = !state.announcedError && (state.failures[connection] ?? 0) >= state.attemptsUntilError
            state.announcedError = state.announcedError || isMany
            return (isFirst, isMany)
        }
        if isMany {
            logger.error("the directory is still out of reach, and is tried again for ever: \(error)")
        } else if isFirst {
            logger.warning("the directory is out of reach, and is tried again: \(error)")
        } else {
            logger.debug("the directory was tried again: \(error)", metadata: ["connection": "\(connection)"])
        }
    }

    func recovered(_ connection: String) {
        let tries = state.withLock { state -> Int? in
            guard let tries = state.failures.removeValue(forKey: connection), state.failures.isEmpty else { return nil }
            state.announcedError = false
            return tries
        }
        if let tries { logger.notice("the directory is back after \(tries) failed tries") }
    }
}
