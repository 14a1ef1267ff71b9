import JobCore

/// Whether the persistent search still tells of changes: its connection can be dead without a word, such as one that a firewall has forgotten.
///
/// Each claim and outcome is a change that the search must tell of. Where it has told of nothing for so long after one, it is not believed any more.
@MainActor final class SearchLiveness {
    static let longestSilence = Duration.seconds(30)

    /// Writes so far.
    private var count: UInt64 = 0
    /// The number of the first write since the search has told of anything; nil: there was none.
    private var unanswered: UInt64?
    private var listener: AsyncStream<Void>.Continuation?

    /// The daemon has changed an entry that is searched for.
    func wrote() {
        count += 1
        guard unanswered == nil else { return }
        unanswered = count
        listener?.yield()
    }

    /// The search has told of a change.
    func heard() { unanswered = nil }

    /// Returns when the search has been silent for too long. One may wait at a time.
    /// - Throws: `CancellationError`.
    func untilSilent(by clock: any WallClock) async throws {
        let (writes, listener) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        // What was written before, the search has found as it began.
        unanswered = nil
        self.listener = listener
        for await _ in writes {
            while let first = unanswered {
                try await clock.sleep(for: Self.longestSilence)
                if unanswered == first { return }
            }
        }
        throw CancellationError()
    }
}
