import JobCore
import Synchronization

/// Whether the persistent search still tells of changes: its connection can be dead without a word, such as one that a firewall has forgotten.
///
/// Each claim and outcome is a change that the search must tell of. Where it has told of nothing for so long after one, it is not believed any more.
final class SearchLiveness: Sendable {
    static let longestSilence = Duration.seconds(30)

    private struct State {
        /// Writes so far.
        var count: UInt64 = 0
        /// The number of the first write since the search has told of anything; nil: there was none.
        var unanswered: UInt64?
        var listener: AsyncStream<Void>.Continuation?
    }
    private let state = Mutex(State())

    /// The daemon has changed an entry that is searched for.
    func wrote() {
        state.withLock { state in
            state.count += 1
            guard state.unanswered == nil else { return }
            state.unanswered = state.count
            state.listener?.yield()
        }
    }

    /// The search has told of a change.
    func heard() { state.withLock { $0.unanswered = nil } }

    /// Returns when the search has been silent for too long. One may wait at a time.
    /// - Throws: `CancellationError`.
    func untilSilent(by clock: any WallClock) async throws {
        let (writes, listener) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        state.withLock { state in
            // What was written before, the search has found as it began.
            state.unanswered = nil
            state.listener = listener
        }
        for await _ in writes {
            while let first = state.withLock(\.unanswered) {
                try await clock.sleep(for: Self.longestSilence)
                if state.withLock(\.unanswered) == first { return }
            }
        }
        throw CancellationError()
    }
}
