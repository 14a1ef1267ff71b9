import Synchronization

/// Where changes wait for the writer. Offering one takes no longer than appending to an array.
final class HistoryIntake: Sendable {
    private struct State {
        var buffer: HistoryBuffer
        /// Whether the writer knows that something waits.
        var isAnnounced = false
        var isClosed = false
        var isHindered = false
    }

    /// What offering a change brings about.
    struct Offer {
        /// Nobody has told the writer yet that something waits.
        var isFirst = false
        /// From now on changes are left out.
        var isOverflow = false
    }

    /// Changes in their order, how many were left out before them, and how many have been offered so far.
    struct Batch {
        var changes: [JobChange]
        var dropped: Int
        var position: UInt64
    }

    private let state: Mutex<State>

    init(bound: HistoryBuffer.Bound) { state = Mutex(State(buffer: HistoryBuffer(bound: bound))) }

    func offer(_ change: JobChange) -> Offer {
        state.withLock { state in
            guard !state.isClosed else { return Offer() }
            let isOverflow = state.buffer.add(change)
            defer { state.isAnnounced = true }
            return Offer(isFirst: !state.isAnnounced, isOverflow: isOverflow)
        }
    }

    /// - Returns: nil when nothing waits; then the next offer is the first again.
    func take() -> Batch? {
        state.withLock { state in
            guard !state.buffer.isEmpty || state.buffer.dropped > 0 else {
                state.isAnnounced = false
                return nil
            }
            return Batch(
                changes: state.buffer.take(), dropped: state.buffer.takeDropped(), position: state.buffer.offered)
        }
    }

    /// How many changes have been offered so far.
    var position: UInt64 { state.withLock { $0.buffer.offered } }

    /// Whether nothing can be written just now, so that nobody is to wait for it.
    var isHindered: Bool {
        get { state.withLock { $0.isHindered || $0.isClosed } }
        set { state.withLock { $0.isHindered = newValue } }
    }

    /// What is offered from now on is ignored.
    func close() { state.withLock { $0.isClosed = true } }
}
