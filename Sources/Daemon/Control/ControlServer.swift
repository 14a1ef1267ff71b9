import EventLoop
import Glibc
import JobCore
package import SystemPackage

/// Listens on a socket of the daemon's and has each request answered.
///
/// It runs on the event loop. Who is heard is the admission's affair (`SO_PEERCRED`); of two servers none can disturb the other. A handler whose
/// client hangs up is cancelled.
@MainActor package final class ControlServer {
    /// Answers one request. Runs beside the answers to other clients.
    package typealias Handler = @Sendable (ControlRequest) async -> ControlReply

    /// The socket's file.
    package nonisolated let path: FilePath
    private let listener: ControlListener
    private let admission: ControlAdmission
    private let timeLimit: Duration
    private let handler: Handler
    private var visits: [ObjectIdentifier: ControlVisit] = [:]
    /// When listening goes on after the kernel could take in no more; nil: it has not been interrupted.
    private var pause: EventLoop.Timer?
    private var isListening = false
    private var ending: Task<Void, Never>?

    /// The socket's place in a runtime directory, the same for server and client.
    package nonisolated static func socketPath(in directory: FilePath) -> FilePath {
        directory.appending("control.sock")
    }

    /// Starts to listen.
    ///
    /// - Parameters:
    ///   - lock: what entitles to replace a socket that an earlier instance left behind. It must be held until `stop`
    ///     has returned.
    ///   - path: the socket's file; nil: the control socket beside the lock.
    ///   - admission: who is heard.
    ///   - timeLimit: how long a client may take to send its request, and then to read the answer.
    /// - Throws: what could not be done with the socket.
    package init(
        under lock: InstanceLock, at path: FilePath? = nil, admission: ControlAdmission = .owner,
        timeLimit: Duration = .seconds(10), handler: @escaping Handler
    ) async throws(ControlServerError) {
        let path = path ?? Self.socketPath(in: lock.path.removingLastComponent())
        self.path = path
        self.admission = admission
        self.timeLimit = timeLimit
        self.handler = handler
        do throws(Errno) {
            listener = try await BlockingWork.run {
                Result { () throws(Errno) in try ControlListener(path: path, mode: admission.mode) }
            }.get()
        } catch {
            throw ControlServerError(path: path, code: error)
        }
        do throws(Errno) {
            try EventLoop.shared.watch(listener.descriptor, for: []) { _ in self.takeIn() }
        } catch {
            listener.close()
            throw ControlServerError(path: path, code: error)
        }
        listenAsRoomAllows()
    }

    /// Sends every client away and removes the socket's file; returns when that is done.
    package func stop() async {
        let ending = ending ?? Task { await end() }
        self.ending = ending
        await ending.value
    }

    private func end() async {
        EventLoop.shared.forget(listener.descriptor)
        if let pause { EventLoop.shared.cancel(pause) }
        for visit in Array(visits.values) { visit.end() }
        await BlockingWork.run { [listener] in listener.close() }
    }

    private func listenAsRoomAllows() {
        let hasRoom = visits.count < admission.clients && pause == nil
        guard hasRoom != isListening, ending == nil else { return }
        isListening = hasRoom
        EventLoop.shared.change(listener.descriptor, to: hasRoom ? .readable : [])
    }

    /// No more at a time than are served at once, so that a flood of those who are sent away keeps nobody waiting.
    private func takeIn() {
        for _ in 0..<admission.clients where visits.count < admission.clients {
            do throws(Errno) {
                if let (client, user) = try listener.accept() { try admit(client, of: user) }
            } catch {
                // Out of descriptors or memory: the client stays in the queue, and asking at once again would only spin.
                if error != .wouldBlock { interrupt() }
                break
            }
        }
        listenAsRoomAllows()
    }

    private func interrupt() {
        pause = EventLoop.shared.call(at: .now + .seconds(1)) {
            self.pause = nil
            self.listenAsRoomAllows()
        }
    }

    private func admit(_ client: Int32, of user: UInt32?) throws(Errno) {
        let others = visits.values.count { $0.user == user }
        if let refusal = admission.refusal(of: user, beside: others) {
            let bytes = ControlReply.refusal(refusal).bytes
            send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            close(client)
            return
        }
        let exchange = ControlExchange(now: .now, timeLimit: timeLimit, requestLimit: admission.requestLimit)
        let visit = try ControlVisit(client, of: user, exchange, handler) { visit in
            self.visits[ObjectIdentifier(visit)] = nil
            self.listenAsRoomAllows()
        }
        visits[ObjectIdentifier(visit)] = visit
    }
}

/// One client of a server, from its admission until it is sent away: drives a ``ControlExchange``.
@MainActor private final class ControlVisit {
    /// Who it is, as the kernel says.
    let user: UInt32?
    private let client: Int32
    private var exchange: ControlExchange
    private let handler: ControlServer.Handler
    private let ended: (ControlVisit) -> Void
    private var isOver = false
    private var work: Task<Void, Never>?
    private var timer: EventLoop.Timer?
    /// For when the timer is set.
    private var deadline: ContinuousClock.Instant?

    /// - Parameter client: is closed in the end, also when this throws.
    init(
        _ client: Int32, of user: UInt32?, _ exchange: ControlExchange, _ handler: @escaping ControlServer.Handler,
        ended: @escaping (ControlVisit) -> Void
    ) throws(Errno) {
        self.client = client
        self.user = user
        self.exchange = exchange
        self.handler = handler
        self.ended = ended
        do throws(Errno) {
            try EventLoop.shared.watch(client, for: .readable) { self.serve($0) }
        } catch {
            close(client)
            throw error
        }
        setTimer()
    }

    private func serve(_ events: EventLoop.Events) {
        if exchange.reads {
            read()
        } else if !events.isDisjoint(with: .broken) {
            end()
        } else {
            write()
        }
    }

    private func read() {
        var buffer = [UInt8](repeating: 0, count: 16 * 1024)
        let count = recv(client, &buffer, buffer.count, 0)
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count >= 0 else { return end() }
        perform(count == 0 ? exchange.endOfInput() : exchange.received(buffer[..<count], now: .now))
    }

    private func write() {
        let rest = exchange.unsent
        let count = rest.withUnsafeBytes { send(client, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count >= 0 else { return end() }
        perform(exchange.sent(count))
    }

    private func perform(_ action: ControlExchange.Action) {
        switch action {
        case .wait: break
        case .close: return end()
        case .handle(var request):
            request.user = user
            work = Task { [request] in
                let reply = await handler(request)
                if !isOver { perform(exchange.answered(reply, now: .now)) }
            }
        }
        // With nothing asked for the loop still tells when the client has hung up.
        EventLoop.shared.change(client, to: exchange.reads ? .readable : exchange.unsent.isEmpty ? [] : .writable)
        setTimer()
    }

    private func setTimer() {
        guard exchange.deadline != deadline else { return }
        if let timer { EventLoop.shared.cancel(timer) }
        deadline = exchange.deadline
        timer = deadline.map { EventLoop.shared.call(at: $0) { self.end() } }
    }

    /// Sends the client away, and cancels what is done for it.
    func end() {
        guard !isOver else { return }
        isOver = true
        EventLoop.shared.forget(client)
        close(client)
        if let timer { EventLoop.shared.cancel(timer) }
        work?.cancel()
        ended(self)
    }
}

/// Why a socket of the daemon's cannot be opened.
package struct ControlServerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The socket's file.
    package let path: FilePath
    /// What the system said.
    package let code: Errno

    /// The path, what the system said, and the hint.
    package var description: String {
        let hint =
            switch code {
            case .fileNameTooLong: "a socket's path may have 107 bytes: set a shorter RUNTIME_DIRECTORY"
            case .fileExists: "something that is no socket stands there: move it away"
            default: "let the daemon's user write there, or set RUNTIME_DIRECTORY"
            }
        return "\(path): the socket cannot be opened: \(code); \(hint)"
    }
}
