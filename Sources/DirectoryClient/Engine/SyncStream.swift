import Synchronization

/// The bounded way from the connection's thread to the consumer of a content synchronization.
///
/// When the consumer lags by `capacity` events the thread stops reading, so that the server feels it through TCP; it goes on when the
/// consumer has taken what is there.
final class SyncStream: Sendable {
    /// The consumer gets them in one piece, so that at most twice as many are in memory.
    static let capacity = 1000

    private struct State {
        var decoder = SyncDecoder()
        var events: [SyncEvent] = []
        var end: Result<Void, DirectoryError>?
        var consumer: CheckedContinuation<Void, Never>?
        var isPaused = false
    }

    private let state = Mutex(State())
    private let request: Request
    private let server: String
    private let persists: Bool

    init(request: Request, server: String, persists: Bool) {
        self.request = request
        self.server = server
        self.persists = persists
    }

    /// For the thread.
    /// - Returns: whether it shall stop reading until `resume`.
    func receive(_ message: Message) -> Bool {
        let (consumer, isPaused) = state.withLock { state -> (CheckedContinuation<Void, Never>?, Bool) in
            guard state.end == nil else { return (nil, false) }
            do throws(BERReader.Malformed) {
                switch message {
                case .entry(let entry, let controls):
                    state.events += try state.decoder.events(entry: entry, controls: controls)
                case .intermediate(SyncDecoder.info?, let value?): state.events += try state.decoder.events(info: value)
                case .intermediate, .reference: break
                case .result(let outcome) where outcome.code == .success && !persists:
                    state.events += try state.decoder.events(end: outcome.controls)
                    state.end = .success(())
                case .result(let outcome): state.end = .failure(error(outcome))
                }
            } catch {
                let words = "a message of the content synchronization is not what RFC 4533 says"
                state.end = .failure(
                    DirectoryError(.decodingError, operation: "\(request)", server: server, diagnostic: words))
            }
            state.isPaused = state.end == nil && state.events.count >= Self.capacity
            defer { state.consumer = nil }
            return (state.consumer, state.isPaused)
        }
        consumer?.resume()
        return isPaused
    }

    private func error(_ outcome: Outcome) -> DirectoryError {
        guard outcome.code == .success else { return DirectoryError(outcome, operation: "\(request)", server: server) }
        return DirectoryError(
            .serverDown, operation: "\(request)", server: server,
            diagnostic: "the server has ended the persistent search",
            isConnectionLost: true)
    }

    /// Nothing more comes.
    func finish(_ error: DirectoryError) {
        let consumer = state.withLock { state in
            if state.end == nil { state.end = .failure(error) }
            defer { state.consumer = nil }
            return state.consumer
        }
        consumer?.resume()
    }

    /// The consumer's task was cancelled.
    func cancel() { finish(DirectoryError(.userCancelled, operation: "\(request)", server: server)) }

    /// All that is there, at least one event; empty at the end. For one consumer.
    /// - Parameter resume: is called when the thread had stopped reading.
    func take(resume: () -> Void) async throws(DirectoryError) -> [SyncEvent] {
        while true {
            let (events, end, wasPaused) = state.withLock { state in
                defer {
                    state.events = []
                    state.isPaused = false
                }
                return (state.events, state.end, state.isPaused)
            }
            if wasPaused { resume() }
            if !events.isEmpty { return events }
            if let end {
                try end.get()
                return []
            }
            await withCheckedContinuation { continuation in
                let isThere = state.withLock { state in
                    guard state.events.isEmpty, state.end == nil else { return true }
                    state.consumer = continuation
                    return false
                }
                if isThere { continuation.resume() }
            }
        }
    }
}
