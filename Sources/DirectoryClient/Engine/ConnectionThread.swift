import CLDAP
import Glibc

/// The thread of one connection: makes it, serves it, ends it. The only place that calls the library.
struct ConnectionThread: Sendable {
    let server: ServerAddress
    let options: ConnectionOptions
    let deadline: ContinuousClock.Instant
    let opening: Opening
    let mailbox: Mailbox

    /// How long reading may wait for the rest of a message that has begun, while other work waits.
    private static let receiveLimit = Duration.milliseconds(200)

    /// - Throws: when the system has no thread left.
    func start() throws(SystemError) {
        let box = unsafe Unmanaged.passRetained(Box(thread: self))
        var thread = pthread_t()
        let code = unsafe pthread_create(&thread, nil, { unsafe connectionThreadMain($0) }, box.toOpaque())
        guard code == 0 else {
            unsafe box.release()
            throw SystemError(code)
        }
        pthread_detach(thread)
    }

    fileprivate final class Box {
        let thread: ConnectionThread
        init(thread: ConnectionThread) { self.thread = thread }
    }

    fileprivate func main() {
        Self.blockBrokenPipe()
        do throws(DirectoryError) {
            var policy: PasswordPolicyResponse?
            var loop = ConnectionLoop(handle: try open(&policy), mailbox: mailbox, server: server)
            opening.forgetDescriptor()
            guard opening.resolve(.success(policy)) else { return }
            loop.run()
        } catch {
            opening.resolve(.failure(error))
        }
    }

    private func open(_ policy: inout PasswordPolicyResponse?) throws(DirectoryError) -> LDAPHandle {
        let socket = try Socket.connect(to: server, deadline: deadline, sendLimit: options.operationTimeout)
        let descriptor = socket.descriptor
        let handle = try LDAPHandle.open(on: socket, server: server)
        // From here a stalled call is ended by whoever watches the time; the socket must be forgotten before the handle closes it.
        do throws(DirectoryError) {
            guard opening.begin(descriptor) else { throw handle.lost(.userCancelled, "") }
            try handle.beginTLS(options.tls)
            guard Socket.setReceiveLimit(Self.receiveLimit, on: descriptor) else { throw handle.lost(.localError, "") }
            policy = try bind(handle)
        } catch {
            opening.forgetDescriptor()
            _ = consume handle
            throw explained(error)
        }
        return handle
    }

    /// The library does not say why it refuses a certificate, so it is fetched once more without asking for trust, and nothing is sent.
    private func explained(_ error: DirectoryError) -> DirectoryError {
        guard error.code == .connectError, DirectoryError.usesTLS.contains(error.operation),
            options.tls.requirement == .demand, case .tcp(let host, _, _) = server.endpoint
        else { return error }
        opening.willFail(error)
        guard let certificate = fetchCertificate() else { return error }
        var error = error
        error.certificateFault =
            certificate.fault(for: host) ?? options.tls.authorities.map { .untrusted(authorities: $0) }
        return error
    }

    /// - Returns: nil when there is no way to one, which is then the reason.
    private func fetchCertificate() -> PeerCertificate? {
        do {
            let socket = try Socket.connect(to: server, deadline: deadline, sendLimit: options.operationTimeout)
            let descriptor = socket.descriptor
            let handle = try LDAPHandle.open(on: socket, server: server)
            defer { opening.forgetDescriptor() }
            guard opening.begin(descriptor) else { return nil }
            try handle.beginTLS(TLSOptions(startTLS: options.tls.startTLS, requirement: .never))
            return try handle.peerCertificate.map { try PeerCertificate($0) }
        } catch {
            return nil
        }
    }

    private func bind(_ handle: borrowing LDAPHandle) throws(DirectoryError) -> PasswordPolicyResponse? {
        guard options.credentials != .anonymous else { return nil }
        let request = Request.bind(options.credentials)
        var controls: [Control] = []
        if case .simple = options.credentials { controls.append(.passwordPolicy) }
        let outcome: Outcome
        do throws(DirectoryError) {
            outcome = try result(of: try handle.send(request, controls: controls), handle)
        } catch {
            throw error.about("\(request)")
        }
        guard outcome.code == .success else {
            var error = DirectoryError(outcome, operation: "\(request)", server: "\(server)")
            error.passwordPolicy = outcome.controls.passwordPolicy
            throw error
        }
        return outcome.controls.passwordPolicy
    }

    private func result(of messageID: Int32, _ handle: borrowing LDAPHandle) throws(DirectoryError) -> Outcome {
        while true {
            if case .result(let outcome) = try handle.receive(messageID) { return outcome }
            let patience = ContinuousClock.now.duration(to: deadline)
            guard patience > .zero else { throw handle.lost(.timeout, "") }
            guard !handle.isDataReady else { continue }
            var request = pollfd(fd: handle.descriptor, events: Int16(POLLIN), revents: 0)
            unsafe poll(&request, 1, patience.milliseconds)
        }
    }

    /// The library writes without MSG_NOSIGNAL. A SIGPIPE goes to the thread that wrote, so it is enough to block it here: no other part of
    /// the process is touched, and no child inherits it.
    private static func blockBrokenPipe() {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe sigaddset(&signals, SIGPIPE)
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        unsafe cldap_name_thread("ldap")
    }
}

private func connectionThreadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument = unsafe argument else { return nil }
    unsafe Unmanaged<ConnectionThread.Box>.fromOpaque(argument).takeRetainedValue().thread.main()
    return nil
}
