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
        /// The descriptor is readable, or somebody is about to make it so.
        var isSignalled = false
        var lastID: OperationTable.ID = 0
        /// Why nothing can be posted any more.
        var end: DirectoryError?

        /// - Returns: whether the thread is to be woken.
        mutating func append(_ command: Command) -> Bool {
            commands.append(command)
            defer { isSignalled = true }
            return !isSignalled
        }
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

    /// The connection is no more.
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
        let (end, mustSignal) = state.withLock { state -> (DirectoryError?, Bool) in
            if let end = state.end { return (end, false) }
            return (nil, state.append(command))
        }
        if mustSignal { signal() }
        return end
    }

    /// Takes no more, and makes the thread end. Both at once: a command behind the last one would never be looked at.
    func close(_ end: DirectoryError) {
        let mustSignal = state.withLock { state in
            guard state.end == nil else { return false }
            state.end = end
            return state.append(.close)
        }
        if mustSignal { signal() }
    }

    /// Outside the lock, which the thread wants as soon as it is awake.
    private func signal() { eventfd_write(descriptor, 1) }

    /// All commands that came since the last time. For the thread.
    func take() -> [Command] {
        state.withLock { state in
            var count: eventfd_t = 0
            // Where a signal is on its way still, it stays noted until it has come.
            if state.isSignalled, unsafe eventfd_read(descriptor, &count) == 0 { state.isSignalled = false }
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
