import CLDAP
import Glibc
import Synchronization

/// How tasks hand work to the connection's thread. The thread sleeps in poll(2) on the mailbox's event descriptor and its socket.
final class Mailbox: Sendable {
    enum Command: Sendable {
        case start(Operation)
        /// The task that waited was cancelled.
        case abandon(OperationTable.ID)
        /// The consumer of a stream has room again.
        case resume
        case close
    }

    private struct State {
        var commands: [Command] = []
        var isSignalled = false
        var lastID: OperationTable.ID = 0
        /// Why nothing can be posted any more.
        var end: DirectoryError?
    }

    private let state = Mutex(State())
    /// Becomes readable when there are commands.
    let descriptor: Int32

    /// - Returns: nil when the process has no descriptor left; errno says why.
    init?() {
        descriptor = cldap_eventfd()
        if descriptor < 0 { return nil }
    }

    deinit { Glibc.close(descriptor) }

    /// Why the connection is no more; nil while it is.
    var end: DirectoryError? { state.withLock(\.end) }
    var hasEnded: Bool { state.withLock { $0.end != nil } }

    func nextID() -> OperationTable.ID {
        state.withLock { state in
            state.lastID += 1
            return state.lastID
        }
    }

    /// - Returns: why the command was not taken, or nil.
    @discardableResult
    func post(_ command: Command) -> DirectoryError? {
        state.withLock { state in
            if let end = state.end { return end }
            append(command, to: &state)
            return nil
        }
    }

    /// Takes no more, and makes the thread end. Both at once: a command behind the last one would never be looked at.
    func close(_ end: DirectoryError) {
        state.withLock { state in
            guard state.end == nil else { return }
            append(.close, to: &state)
            state.end = end
        }
    }

    private func append(_ command: Command, to state: inout State) {
        state.commands.append(command)
        guard !state.isSignalled else { return }
        state.isSignalled = true
        eventfd_write(descriptor, 1)
    }

    /// All commands that came since the last time. For the thread.
    func take() -> [Command] {
        state.withLock { state in
            if state.isSignalled {
                var count: eventfd_t = 0
                unsafe eventfd_read(descriptor, &count)
                state.isSignalled = false
            }
            defer { state.commands = [] }
            return state.commands
        }
    }

    /// Takes no more. For the thread, when it ends.
    /// - Returns: what nobody has begun.
    func end(with error: DirectoryError) -> [Command] {
        state.withLock { state in
            state.end = state.end ?? error
            defer { state.commands = [] }
            return state.commands
        }
    }
}
