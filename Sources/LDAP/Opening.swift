import EventLoop
import Glibc
import Synchronization
import SystemPackage

/// One attempt to open a connection: resolve the name, connect, start TLS, bind.
///
/// All of that may wait for a server, so it runs on a thread of `WorkerPool.ldap`. The deadline and a cancellation take effect at once, even while
/// the thread is blocked, and shut its socket down, so that a stalled call returns. Only the resolver cannot be interrupted.
final class Opening: Sendable {
    private typealias Answer = Result<LDAPHandle, LDAPError>

    private struct State {
        /// The first one counts: the thread's, the deadline's or the cancellation's.
        var answer: Answer?
        var waiter: CheckedContinuation<Answer, Never>?
        /// A duplicate of the descriptor of the thread's socket, so that it can be shut down while the thread and the library use theirs.
        var socket: FileDescriptor?
        /// Why the attempt has failed, while the thread collects details for the message.
        var failure: LDAPError?
    }

    private let server: ServerAddress
    private let options: ConnectionOptions
    private let deadline: ContinuousClock.Instant
    private let state = Mutex(State())

    init(_ server: ServerAddress, _ options: ConnectionOptions) {
        self.server = server
        self.options = options
        deadline = .now + options.connectTimeout
    }

    deinit { try? state.withLock(\.socket)?.close() }

    /// Makes the attempt. To be called once.
    @MainActor func run() async throws(LDAPError) -> LDAPHandle {
        let timer = EventLoop.shared.call(at: deadline) { self.interrupt(.timeout) }
        defer { EventLoop.shared.cancel(timer) }
        return try await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer = state.withLock { state in
                    if state.answer == nil { state.waiter = continuation }
                    return state.answer
                }
                if let answer { return continuation.resume(returning: answer) }
                WorkerPool.ldap.begin { self.work() }
            }
        } onCancel: {
            interrupt(.userCancelled)
        }.get()
    }

    /// - Returns: false when there was a result already.
    @discardableResult
    private func resolve(_ answer: Answer) -> Bool {
        let (isFirst, waiter) = state.withLock { state in
            guard state.answer == nil else { return (false, CheckedContinuation<Answer, Never>?.none) }
            state.answer = answer
            defer { state.waiter = nil }
            return (true, state.waiter)
        }
        waiter?.resume(returning: answer)
        return isFirst
    }

    private func interrupt(_ code: ResultCode) {
        let error = state.withLock(\.failure) ?? LDAPError(code, operation: LDAPError.connecting, server: "\(server)")
        guard resolve(.failure(error)) else { return }
        state.withLock { state in
            if let socket = state.socket { shutdown(socket.rawValue, Int32(SHUT_RDWR)) }
        }
    }

    /// Calls that can stall on this socket follow.
    private func watch(_ socket: borrowing Socket) throws(Errno) {
        let copy = FileDescriptor(rawValue: try Socket.check(fcntl(socket.descriptor, F_DUPFD_CLOEXEC, 0)))
        let (former, isOver) = state.withLock { state in
            defer { state.socket = copy }
            return (state.socket, state.answer != nil)
        }
        try? former?.close()
        if isOver { throw .canceled }
    }

    // MARK: - On the thread

    private func work() {
        guard state.withLock({ $0.answer == nil }) else { return }
        do throws(LDAPError) {
            let handle = try open()
            if !resolve(.success(handle)) { handle.close() }
        } catch {
            resolve(.failure(error))
        }
    }

    private func open() throws(LDAPError) -> LDAPHandle {
        let handle = try LDAPHandle.open(on: try connect(), server: server)
        do throws(LDAPError) {
            try handle.beginTLS(options.tls)
            try bind(handle)
            try handle.stopBlocking()
            return handle
        } catch {
            handle.close()
            throw explained(error)
        }
    }

    /// Connects to the first address that answers. Each gets an equal part of the remaining time.
    /// - Throws: what each address answered.
    private func connect() throws(LDAPError) -> Socket {
        let addresses = try Address.all(of: server)
        var answers: [String] = []
        for (place, address) in addresses.enumerated() {
            let part = ContinuousClock.now.duration(to: deadline) / (addresses.count - place)
            do throws(Errno) {
                let socket = try Socket(for: address)
                try watch(socket)
                try socket.connect(to: address, within: part)
                return socket
            } catch {
                answers.append("\(address.name): \(error)")
            }
        }
        let isLate = ContinuousClock.now >= deadline
        throw LDAPError(
            isLate ? .timeout : .connectError, operation: LDAPError.connecting, server: "\(server)",
            diagnostic: answers.joined(separator: ", "))
    }

    private func bind(_ handle: LDAPHandle) throws(LDAPError) {
        guard options.credentials != .anonymous else { return }
        let request = Request.bind(options.credentials)
        var controls: [Control] = []
        if case .simple = options.credentials { controls.append(.passwordPolicy) }
        let outcome: Outcome
        do throws(LDAPError) {
            outcome = try handle.result(of: try handle.send(request, controls: controls))
        } catch {
            throw error.about("\(request)")
        }
        handle.passwordPolicy = outcome.controls.passwordPolicy
        guard outcome.code != .success else { return }
        var error = LDAPError(outcome, operation: "\(request)", server: "\(server)")
        error.passwordPolicy = handle.passwordPolicy
        throw error
    }

    /// The library does not report why it refuses a certificate, so it is fetched again without a check, and nothing is sent.
    private func explained(_ error: LDAPError) -> LDAPError {
        guard error.code == .connectError, LDAPError.usesTLS.contains(error.operation),
            options.tls.requirement == .demand, case .tcp(let host, _, _) = server.endpoint
        else { return error }
        state.withLock { $0.failure = error }
        guard let certificate = fetchCertificate() else { return error }
        var error = error
        error.certificateFault =
            certificate.fault(for: host) ?? options.tls.authorities.map { .untrusted(authorities: $0) }
        return error
    }

    /// - Returns: nil when there is no way to one, which is then the reason.
    private func fetchCertificate() -> PeerCertificate? {
        do {
            let handle = try LDAPHandle.open(on: try connect(), server: server)
            defer { handle.close() }
            try handle.beginTLS(TLSOptions(startTLS: options.tls.startTLS, requirement: .never))
            return try handle.peerCertificate.map { try PeerCertificate($0) }
        } catch {
            return nil
        }
    }
}
