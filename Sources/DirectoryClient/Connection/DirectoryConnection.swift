import DirectoryModel
import Glibc

/// A connection to one directory server, bound and ready.
///
/// Any number of tasks may use it at once; their operations are under way together and answered as the server sees fit. Each has its own
/// time limit (`ConnectionOptions.operationTimeout`) and can be cancelled, which asks the server to stop but does not undo. When the
/// connection is lost, every operation under way fails with `isConnectionLost`, and so does every later one: open another.
///
/// Each connection has a thread of its own, so nothing here blocks the cooperative pool. It ends with `close()` or with the last reference.
public final class DirectoryConnection: Sendable {
    /// The server that we are connected to.
    public let server: ServerAddress
    /// What the server's password policy said of the bind; nil: it has none, or does not tell.
    public let passwordPolicy: PasswordPolicyResponse?
    /// How long an operation may take.
    let operationTimeout: Duration
    let mailbox: Mailbox

    private init(
        server: ServerAddress, passwordPolicy: PasswordPolicyResponse?, operationTimeout: Duration, mailbox: Mailbox
    ) {
        self.server = server
        self.passwordPolicy = passwordPolicy
        self.operationTimeout = operationTimeout
        self.mailbox = mailbox
    }

    deinit { close() }

    /// Connects, begins TLS as the options say, and binds.
    ///
    /// - Throws: `timeout` when all of that has not succeeded within `connectTimeout`, whatever it hangs in; `connectError` with what each
    ///   address answered; the server's answer to the bind; `userCancelled` when the task is cancelled.
    public static func open(
        _ server: ServerAddress, options: ConnectionOptions = ConnectionOptions()
    ) async throws(DirectoryError) -> DirectoryConnection {
        if case .simple(let dn, let password) = options.credentials, password.expose().isEmpty || dn.isEmpty {
            throw DirectoryError(
                .paramError, operation: "\(Request.bind(options.credentials))", server: "\(server)",
                diagnostic:
                    "a simple bind needs a DN and a password; without one of them a server takes it for anonymous")
        }
        guard let mailbox = Mailbox() else { throw Self.failure(SystemError(errno), server) }
        let opening = Opening()
        let deadline = ContinuousClock.now + options.connectTimeout
        let thread = ConnectionThread(
            server: server, options: options, deadline: deadline, opening: opening, mailbox: mailbox)
        do throws(SystemError) { try thread.start() } catch { throw Self.failure(error, server) }
        let watch = Task {
            do { try await Task.sleep(until: deadline) } catch { return }
            opening.interrupt(DirectoryError(.timeout, operation: "connect", server: "\(server)"))
        }
        defer { watch.cancel() }
        let policy = try await withTaskCancellationHandler {
            await opening.answer()
        } onCancel: {
            opening.interrupt(DirectoryError(.userCancelled, operation: "connect", server: "\(server)"))
        }.get()
        return DirectoryConnection(
            server: server, passwordPolicy: policy, operationTimeout: options.operationTimeout, mailbox: mailbox)
    }

    private static func failure(_ error: SystemError, _ server: ServerAddress) -> DirectoryError {
        DirectoryError(.localError, operation: "connect", server: "\(server)", diagnostic: "\(error)")
    }

    /// Ends the connection; operations under way fail with `isConnectionLost`. Does not wait. Harmless when it has ended already.
    public func close() { mailbox.close(ConnectionLoop.closed(server)) }

    /// The connection has ended: closed on our side, or lost.
    public var isClosed: Bool { mailbox.hasEnded }

    /// Sends a request and waits for its answer, whatever its result code is.
    func perform(_ request: Request, controls: [Control] = []) async throws(DirectoryError) -> Response {
        let id = mailbox.nextID()
        let answer = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let operation = Operation(
                    id: id, request: request, controls: controls, deadline: .now + operationTimeout,
                    reply: .once(continuation))
                guard !Task.isCancelled else {
                    return operation.fail(
                        DirectoryError(.userCancelled, operation: "\(request)", server: "\(server)"))
                }
                if let end = mailbox.post(.start(operation)) { operation.fail(end.about("\(request)")) }
                // A cancellation that came just before the operation was there has found nothing to abandon.
                if Task.isCancelled { mailbox.post(.abandon(id)) }
            }
        } onCancel: {
            mailbox.post(.abandon(id))
        }
        return try answer.get()
    }

    /// Sends a request and waits for its answer.
    /// - Throws: unless the result code is success.
    func succeed(_ request: Request, controls: [Control] = []) async throws(DirectoryError) -> Response {
        let response = try await perform(request, controls: controls)
        guard response.outcome.code == .success else { throw error(response.outcome, request) }
        return response
    }

    func error(_ outcome: Outcome, _ request: Request) -> DirectoryError {
        DirectoryError(outcome, operation: "\(request)", server: "\(server)")
    }

    func malformed(_ what: String, _ request: Request) -> DirectoryError {
        DirectoryError(
            .decodingError, operation: "\(request)", server: "\(server)",
            diagnostic: "\(what) in the server's answer cannot be decoded")
    }
}
