import Synchronization

/// Hands what happens to the one task that waits for it, in the order in which it happened.
///
/// Unlike a stream it goes on when the task is cancelled: for whoever must see something to its end.
final class Inbox<Message: Sendable>: Sendable {
    private struct State {
        var messages: [Message] = []
        var reader: CheckedContinuation<Message, Never>?
    }

    private let state = Mutex(State())

    /// Puts a message in. It never waits.
    func post(_ message: Message) {
        let reader = state.withLock { state in
            guard let reader = state.reader else {
                state.messages.append(message)
                return nil as CheckedContinuation<Message, Never>?
            }
            state.reader = nil
            return reader
        }
        reader?.resume(returning: message)
    }

    /// Takes the first message out, as soon as there is one. One task at a time may wait.
    func next() async -> Message {
        await withCheckedContinuation { reader in
            let message = state.withLock { state -> Message? in
                guard state.messages.isEmpty else { return state.messages.removeFirst() }
                state.reader = reader
                return nil
            }
            if let message { reader.resume(returning: message) }
        }
    }
}
