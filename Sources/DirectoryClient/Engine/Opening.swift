import Glibc
import Synchronization

/// The one answer to the question whether a connection came about, and what the password policy said. The first to answer wins: the thread, the deadline or a cancellation.
final class Opening: Sendable {
    typealias Answer = Result<PasswordPolicyResponse?, DirectoryError>

    private struct State {
        var answer: Answer?
        var waiter: CheckedContinuation<Answer, Never>?
        /// The socket of the thread while it may be stuck in a call of the library.
        var descriptor: Int32?
        /// Why there will be no connection, where the thread knows that already and looks for more to say of it.
        var failure: DirectoryError?
    }

    private let state = Mutex(State())

    /// Waits for the answer. Call once.
    func answer() async -> Answer {
        await withCheckedContinuation { continuation in
            let answer = state.withLock { state in
                if state.answer == nil { state.waiter = continuation }
                return state.answer
            }
            if let answer { continuation.resume(returning: answer) }
        }
    }

    /// - Returns: false when there was an answer already.
    @discardableResult
    func resolve(_ answer: Answer) -> Bool {
        let (isFirst, waiter) = state.withLock { state in
            guard state.answer == nil else { return (false, CheckedContinuation<Answer, Never>?.none) }
            state.answer = answer
            defer { state.waiter = nil }
            return (true, state.waiter)
        }
        waiter?.resume(returning: answer)
        return isFirst
    }

    /// Answers from outside, and makes a stalled handshake or bind come back.
    func interrupt(_ error: DirectoryError) {
        guard resolve(.failure(state.withLock(\.failure) ?? error)) else { return }
        state.withLock { state in
            if let descriptor = state.descriptor { shutdown(descriptor, Int32(SHUT_RDWR)) }
        }
    }

    /// The thread begins calls that can stall on this socket.
    /// - Returns: false when it is too late.
    func begin(_ descriptor: Int32) -> Bool {
        state.withLock { state in
            state.descriptor = descriptor
            return state.answer == nil
        }
    }

    /// There will be no connection, and the thread is about to find out more. Until it has, this is the answer.
    func willFail(_ error: DirectoryError) { state.withLock { $0.failure = error } }

    /// The thread is about to close the socket, or no longer calls what can stall.
    func forgetDescriptor() { state.withLock { $0.descriptor = nil } }
}
