import Synchronization

/// Lets one list be made at a time: a server keeps one paged search for each connection and fails the other, and a list that is held up may take long.
final class ListTurn: Sendable {
    private let isTaken = Atomic(false)

    /// Does it, unless another is under way: that one finds the same, and what it has passed already the next one finds.
    func take(_ list: () async throws -> Void) async rethrows {
        guard !isTaken.exchange(true, ordering: .acquiring) else { return }
        defer { isTaken.store(false, ordering: .releasing) }
        try await list()
    }
}
