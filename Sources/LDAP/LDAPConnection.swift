import DequeModule
import EventLoop
import Synchronization

/// A connection to one LDAP server, after the bind.
///
/// Any number of tasks may use it at once; their operations are sent without waiting for each other and answered in any order. Each has its own
/// time limit (`ConnectionOptions.operationTimeout`) and can be cancelled, which asks the server to stop but does not undo. When the
/// connection is lost, every pending and every later operation fails with `isConnectionLost`.
///
/// It belongs to the event loop, and no call blocks on the server: a request waits in a queue until few enough are unanswered and the socket has taken
/// those before it. It ends with `close()` or with the last reference, from any thread.
@MainActor package final class LDAPConnection {
    package nonisolated let server: ServerAddress
    /// The password policy's answer to the bind; nil: the server sent none.
    package nonisolated let passwordPolicy: PasswordPolicyResponse?

    private let handle: LDAPHandle
    private let operationTimeout: Duration
    /// Nothing is sent or delivered any more.
    private nonisolated let hasEnded = Atomic(false)
    /// Why the connection has ended. After that the handle is not used.
    private var end: LDAPError?

    private var waiting: Deque<Operation> = []
    /// The operations that were sent, by message id.
    private var sent: [Int32: Operation] = [:]
    /// The events that the loop watches the socket for; empty: none.
    private var interest: EventLoop.Events = []
    /// A receiver has no room, so nothing is read.
    private var isPaused = false
    /// Reading continues at the loop's next turn.
    private var readsOn = false

    /// How many requests may be unanswered: enough to keep a server busy, and far fewer than slapd takes before it closes the connection.
    private static let window = 32
    /// How many messages are read in one turn of the loop.
    private static let burst = 256

    private init(_ handle: LDAPHandle, operationTimeout: Duration) {
        server = handle.server
        passwordPolicy = handle.passwordPolicy
        self.handle = handle
        self.operationTimeout = operationTimeout
        watch()
        // What came together with the answer to the bind, the loop does not see at the socket.
        if handle.isDataReady { readOn() }
    }

    isolated deinit { end(with: Self.closed(server)) }

    /// Connects, starts TLS according to the options, and binds.
    ///
    /// - Throws: `timeout` when all of that has not succeeded within `connectTimeout`, wherever it hangs; `connectError` with what each
    ///   address answered; the server's answer to the bind; `userCancelled` when the task is cancelled.
    package static func open(
        _ server: ServerAddress, options: ConnectionOptions = ConnectionOptions()
    ) async throws(LDAPError) -> LDAPConnection {
        if case .simple(let dn, let password) = options.credentials, password.expose().isEmpty || dn.isEmpty {
            throw LDAPError(
                .paramError, operation: "\(Request.bind(options.credentials))", server: "\(server)",
                diagnostic:
                    "a simple bind needs a DN and a password; without one of them a server takes it for anonymous")
        }
        let handle = try await Opening(server, options).run()
        return LDAPConnection(handle, operationTimeout: options.operationTimeout)
    }

    /// Ends the connection; pending operations fail with `isConnectionLost`. Does not wait. Ignored when it has ended already.
    package nonisolated func close() {
        hasEnded.store(true, ordering: .relaxed)
        EventLoop.shared.post { self.end(with: Self.closed(self.server)) }
    }

    /// The connection has ended: closed on our side, or lost.
    package nonisolated var isClosed: Bool { hasEnded.load(ordering: .relaxed) }

    // MARK: - Operations

    /// Sends a request and waits for its answer, with any result code.
    func perform(_ request: Request, controls: [Control] = []) async throws(LDAPError) -> Response {
        let operation = Operation(request, controls)
        guard !Task.isCancelled else { throw failure(.userCancelled, of: operation) }
        return try await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                operation.continuation = continuation
                operation.timer = EventLoop.shared.call(at: .now + operationTimeout) { [weak self] in
                    self?.giveUp(operation, .timeout)
                }
                start(operation)
            }
        } onCancel: {
            EventLoop.shared.post { self.giveUp(operation, .userCancelled) }
        }.get()
    }

    /// Sends a request and waits for its answer.
    /// - Throws: unless the result code is success.
    func succeed(_ request: Request, controls: [Control] = []) async throws(LDAPError) -> Response {
        let response = try await perform(request, controls: controls)
        guard response.outcome.code == .success else { throw error(response.outcome, request) }
        return response
    }

    /// Sends a request whose answers go to a receiver, message by message. It has no time limit.
    func start(_ request: Request, controls: [Control], receiver: ContentSync) {
        let operation = Operation(request, controls)
        operation.receiver = receiver
        start(operation)
    }

    /// The receiver has room again.
    func resume() {
        isPaused = false
        read()
    }

    private func start(_ operation: Operation) {
        guard !isClosed else { return operation.fail(end ?? Self.closed(server)) }
        waiting.append(operation)
        send()
    }

    private func giveUp(_ operation: Operation, _ code: ResultCode) {
        guard end == nil, operation.isWanted else { return }
        operation.fail(failure(code, of: operation))
        // A request that was not sent yet is skipped later.
        guard let messageID = operation.messageID, sent.removeValue(forKey: messageID) != nil else { return }
        do throws(LDAPError) { try handle.abandon(messageID) } catch { end(with: error) }
        send()
    }

    private func end(with error: LDAPError) {
        guard end == nil else { return }
        end = error
        hasEnded.store(true, ordering: .relaxed)
        EventLoop.shared.forget(handle.descriptor)
        let handle = handle
        WorkerPool.ldap.begin { handle.close() }
        for operation in sent.values { operation.fail(error) }
        for operation in waiting { operation.fail(error) }
        sent = [:]
        waiting = []
    }

    // MARK: - The socket

    /// Persistent searches, which have no time limit, do not count.
    private var unanswered: Int { sent.values.count { $0.timer != nil } }

    /// Sends waiting requests, as far as the window and the socket allow.
    private func send() {
        guard !isClosed else { return }
        do throws(LDAPError) { try handle.flush() } catch { return end(with: error) }
        while !isClosed, !handle.hasOutput, unanswered < Self.window, let operation = waiting.popFirst() {
            guard operation.isWanted else { continue }
            do throws(LDAPError) {
                let messageID = try handle.send(operation.request, controls: operation.controls)
                operation.messageID = messageID
                sent[messageID] = operation
            } catch {
                operation.fail(error)
                if error.isConnectionLost { end(with: error) }
            }
        }
        watch()
    }

    /// Reads, then sends: answers count even if the server has closed the connection since.
    private func read() {
        guard !isClosed else { return }
        do throws(LDAPError) {
            var count = 0
            while count < Self.burst, !isPaused, let (messageID, message) = try handle.receive() {
                count += 1
                if messageID == 0 { try handleNotice(message) } else { deliver(message, of: messageID) }
            }
            // The library may hold bytes that the socket no longer has.
            if !isPaused, count == Self.burst || handle.isDataReady { readOn() }
        } catch {
            return end(with: error)
        }
        send()
    }

    private func readOn() {
        guard !readsOn else { return }
        readsOn = true
        EventLoop.shared.call(at: .now) { [weak self] in
            self?.readsOn = false
            self?.read()
        }
    }

    /// Handles a notice that the server sends by itself. One of them says that it closes the connection.
    private func handleNotice(_ message: Message) throws(LDAPError) {
        guard case .result(let notice) = message, notice.identifier == Self.disconnection else { return }
        throw handle.lost(notice.code, notice.diagnostic)
    }

    /// Notice of Disconnection (RFC 4511, section 4.4.1).
    private static let disconnection = "1.3.6.1.4.1.1466.20036"

    private func deliver(_ message: Message, of messageID: Int32) {
        guard let operation = sent[messageID] else { return }
        if operation.take(message) { isPaused = true }
        if case .result = message { sent[messageID] = nil }
    }

    /// Watches the socket for the events that are needed. Without any it is not watched, since a broken connection would wake the loop for ever.
    private func watch() {
        guard !isClosed else { return }
        var wanted: EventLoop.Events = isPaused ? [] : .readable
        if handle.hasOutput { wanted.insert(.writable) }
        guard wanted != interest else { return }
        defer { interest = wanted }
        if wanted.isEmpty { return EventLoop.shared.forget(handle.descriptor) }
        if !interest.isEmpty { return EventLoop.shared.change(handle.descriptor, to: wanted) }
        do {
            try EventLoop.shared.watch(handle.descriptor, for: wanted) { [weak self] _ in self?.read() }
        } catch {
            end(with: handle.lost(.localError, "the socket cannot be watched: \(error)"))
        }
    }

    // MARK: - Errors

    /// The error of operations after ``close()``.
    private nonisolated static func closed(_ server: ServerAddress) -> LDAPError {
        LDAPError(
            .serverDown, operation: "close", server: "\(server)", diagnostic: "the connection was closed on our side",
            isConnectionLost: true)
    }

    private func failure(_ code: ResultCode, of operation: Operation) -> LDAPError {
        LDAPError(code, operation: "\(operation.request)", server: "\(server)")
    }

    nonisolated func error(_ outcome: Outcome, _ request: Request) -> LDAPError {
        LDAPError(outcome, operation: "\(request)", server: "\(server)")
    }

    nonisolated func malformed(_ what: String, _ request: Request) -> LDAPError {
        LDAPError(
            .decodingError, operation: "\(request)", server: "\(server)",
            diagnostic: "\(what) in the server's answer cannot be decoded")
    }
}

/// A request that waits for its answer.
@MainActor private final class Operation {
    let request: Request
    let controls: [Control]
    /// Takes all messages together; nil: it was answered, or has a receiver.
    var continuation: CheckedContinuation<Result<Response, LDAPError>, Never>?
    /// Takes each message as it comes. It closes the connection when nothing else uses it.
    weak var receiver: ContentSync?
    /// nil: it has not been sent.
    var messageID: Int32?
    var timer: EventLoop.Timer?
    private var response = Response()

    init(_ request: Request, _ controls: [Control]) {
        self.request = request
        self.controls = controls
    }

    /// Whether an answer is waited for.
    var isWanted: Bool { continuation != nil || receiver != nil }

    /// - Returns: whether to pause reading.
    func take(_ message: Message) -> Bool {
        if let receiver { return receiver.receive(message) }
        switch message {
        case .entry(let entry, _): response.entries.append(entry)
        case .reference(let uris): response.references += uris
        case .intermediate: break
        case .result(let outcome):
            response.outcome = outcome
            finish(.success(response))
        }
        return false
    }

    func fail(_ error: LDAPError) { finish(.failure(error.about("\(request)"))) }

    private func finish(_ result: Result<Response, LDAPError>) {
        if let timer { EventLoop.shared.cancel(timer) }
        if case .failure(let error) = result { receiver?.finish(error) }
        continuation?.resume(returning: result)
        continuation = nil
    }
}
