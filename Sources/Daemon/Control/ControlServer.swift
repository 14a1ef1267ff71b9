import CLinux
import EventLoop
import Glibc
import JobCore
package import SystemPackage

/// Listens on a Unix socket and lets a handler answer each request.
///
/// It runs on the event loop. The access rules decide which users may connect (`SO_PEERCRED`). Servers do not share limits. The handler of a client
/// that disconnects is cancelled.
@MainActor package final class ControlServer {
    /// Answers one request. Several may run at the same time.
    package typealias Handler = @Sendable (ControlRequest) async -> ControlReply

    /// The socket's file.
    package nonisolated let path: FilePath
    private let listener: ControlListener
    private let access: ControlAccess
    private let timeLimit: Duration
    private let handler: Handler
    /// The clients by their descriptors, which their tasks close.
    private var clients: [Int32: (user: UInt32?, task: Task<Void, Never>)] = [:]
    /// Ends the interruption after the kernel could not accept a client; nil: accepting is not interrupted.
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
    ///   - lock: permits replacing the socket of a previous instance. It must be held until `stop` has returned.
    ///   - path: the socket's file; nil: the control socket in the lock's directory.
    ///   - timeLimit: for the client to send its request, and again to read the answer.
    package init(
        under lock: InstanceLock, at path: FilePath? = nil, access: ControlAccess = .owner,
        timeLimit: Duration = .seconds(10), handler: @escaping Handler
    ) async throws(CommandFailure) {
        let path = path ?? Self.socketPath(in: lock.path.removingLastComponent())
        self.path = path
        self.access = access
        self.timeLimit = timeLimit
        self.handler = handler
        do throws(Errno) {
            listener = try await BlockingWork.run { () throws(Errno) in
                try ControlListener(path: path, mode: access.mode)
            }
        } catch {
            throw Self.failure(path, error)
        }
        do throws(Errno) {
            try EventLoop.shared.watch(listener.descriptor, for: []) { _ in self.acceptClients() }
        } catch {
            listener.close()
            throw Self.failure(path, error)
        }
        updateListening()
    }

    private nonisolated static func failure(_ path: FilePath, _ code: Errno) -> CommandFailure {
        let hint =
            switch code {
            case .fileNameTooLong: "a socket's path may have 107 bytes: set a shorter RUNTIME_DIRECTORY"
            case .fileExists: "another file has this name: move it away"
            default: "let the daemon's user write there, or set RUNTIME_DIRECTORY"
            }
        return CommandFailure("\(path): the socket cannot be opened: \(code)", hint: hint)
    }

    /// Disconnects every client, closes the socket and removes its file.
    package func stop() async {
        let ending = ending ?? Task { await end() }
        self.ending = ending
        await ending.value
    }

    private func end() async {
        EventLoop.shared.forget(listener.descriptor)
        if let pause { EventLoop.shared.cancel(pause) }
        for (descriptor, client) in clients {
            shutdown(descriptor, Int32(SHUT_RDWR))
            client.task.cancel()
        }
        await BlockingWork.run { [listener] in listener.close() }
    }

    private func updateListening() {
        let hasRoom = clients.count < ControlAccess.clients && pause == nil
        guard hasRoom != isListening, ending == nil else { return }
        isListening = hasRoom
        EventLoop.shared.change(listener.descriptor, to: hasRoom ? .readable : [])
    }

    /// Accepts a bounded number of clients per event, so that many refused clients do not delay others.
    private func acceptClients() {
        for _ in 0..<ControlAccess.clients where clients.count < ControlAccess.clients {
            do throws(Errno) {
                if let (client, user) = try listener.accept() { admit(client, of: user) }
            } catch {
                // Out of descriptors or memory: the client stays in the kernel's queue. An immediate retry would loop.
                if error != .wouldBlock { interrupt() }
                break
            }
        }
        updateListening()
    }

    private func interrupt() {
        pause = EventLoop.shared.call(at: .now + .seconds(1)) {
            self.pause = nil
            self.updateListening()
        }
    }

    private func admit(_ descriptor: Int32, of user: UInt32?) {
        let others = clients.values.count { $0.user == user }
        if let refusal = access.refusal(of: user, connections: others) {
            let bytes = ControlReply.refusal(refusal).line + [UInt8(ascii: "\n")]
            send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            close(descriptor)
            return
        }
        clients[descriptor] = (
            user,
            Task {
                // A client that is silent, does not read its reply or disconnects gets none.
                do throws(Errno) { try await serve(ControlConnection(descriptor: descriptor), of: user) } catch {}
                close(descriptor)
                clients[descriptor] = nil
                updateListening()
            }
        )
    }

    /// Reads one line, lets the handler reply, and writes the reply. Reading and writing have a time limit each, the handler has none.
    private func serve(_ client: ControlConnection, of user: UInt32?) async throws(Errno) {
        var reply: ControlReply
        do throws(Errno) {
            let line = try await client.readLine(atMost: access.requestLimit, until: .now + timeLimit)
            var request = ControlRequest(line: line)
            request.user = user
            reply = try await handle(request, of: client)
        } catch .messageTooLong {
            reply = .refusal(
                CommandFailure(
                    "the request is longer than \(access.requestLimit) bytes", hint: "ask for less at once",
                    status: .wrongUsage))
        }
        if !reply.line.isEmpty { try await client.write(reply.line, until: .now + timeLimit) }
    }

    /// - Throws: `canceled` when the client disconnects, which cancels the handler, or the server stops.
    private func handle(_ request: ControlRequest, of client: ControlConnection) async throws(Errno) -> ControlReply {
        let descriptor = client.descriptor
        // Without any requested event the loop still reports a disconnect, again and again.
        try EventLoop.shared.watch(descriptor, for: []) { _ in
            EventLoop.shared.forget(descriptor)
            self.clients[descriptor]?.task.cancel()
        }
        let reply = await handler(request)
        EventLoop.shared.forget(descriptor)
        guard !Task.isCancelled else { throw .canceled }
        return reply
    }
}

/// The listening socket and its file.
struct ControlListener {
    let descriptor: Int32
    private let path: FilePath
    private let inode: ino_t

    /// - Parameter mode: of the socket's file, regardless of the umask.
    /// - Throws: `fileExists` if the path exists and is not a socket.
    init(path: FilePath, mode: mode_t) throws(Errno) {
        let address = try UnixSocketAddress(path.string)
        try Self.removeStale(path)
        let descriptor = socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        var status = stat()
        // bind(2) creates the file with the mode that the socket has before: other users can connect at no moment, and the umask does not matter.
        guard fchmod(descriptor, mode) == 0,
            address.withSocketAddress({ bind(descriptor, $0, $1) }) == 0,
            chmod(path.string, mode) == 0, listen(descriptor, 128) == 0, lstat(path.string, &status) == 0
        else {
            let code = errno
            Glibc.close(descriptor)
            throw Errno(rawValue: code)
        }
        self.descriptor = descriptor
        self.path = path
        inode = status.st_ino
    }

    private static func removeStale(_ path: FilePath) throws(Errno) {
        var status = stat()
        guard lstat(path.string, &status) == 0 else {
            guard errno == ENOENT else { throw Errno(rawValue: errno) }
            return
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else { throw .fileExists }
        guard unlink(path.string) == 0 || errno == ENOENT else { throw Errno(rawValue: errno) }
    }

    /// A client and its user according to the kernel; nil if the client has already disconnected.
    ///
    /// - Throws: `wouldBlock` if no client waits.
    func accept() throws(Errno) -> (client: Int32, user: UInt32?)? {
        let client = clinux_accept(descriptor)
        guard client >= 0 else {
            let code = Errno(rawValue: errno)
            guard code == .connectionAbort || code == .interrupted else { throw code }
            return nil
        }
        var (uid, gid, pid): (UInt32, UInt32, Int32) = (.max, .max, 0)
        let isKnown = clinux_peer_credentials(client, &uid, &gid, &pid) == 0
        return (client, isKnown ? uid : nil)
    }

    /// Stops listening and removes the file, unless it belongs to another socket now.
    func close() {
        var status = stat()
        if lstat(path.string, &status) == 0, status.st_ino == inode { unlink(path.string) }
        Glibc.close(descriptor)
    }
}

/// Which users may use a socket, and how many connections each may have.
///
/// Root and the daemon's own user are trusted: they could end the daemon anyway. Other users have limits, so that one user cannot use up the
/// connections of all.
package enum ControlAccess: Sendable {
    /// Commands that control the daemon: only root and the daemon's own user.
    case owner
    /// Short messages of any user; the handler must check them.
    case everybody

    /// Connections at the same time; further clients wait in the kernel's queue.
    static let clients = 64
    /// Connections of one user at the same time, except root and the daemon's own user; further clients are refused.
    static let clientsPerUser = 8
    /// The maximum size of a request in bytes, without its line end.
    var requestLimit: Int { self == .owner ? ControlRequest.sizeLimit : 4 * 1024 }
    /// The mode of the socket's file.
    var mode: mode_t { self == .owner ? 0o600 : 0o666 }

    /// - Parameters:
    ///   - user: of the client; nil: unknown to the kernel.
    ///   - others: open connections of the same user.
    /// - Returns: why the client is refused; nil: it may connect.
    func refusal(of user: UInt32?, connections others: Int, own: UInt32 = geteuid()) -> CommandFailure? {
        if let user, user == 0 || user == own { return nil }
        guard self == .everybody, user != nil else {
            return CommandFailure(
                "only root and the daemon's own user may use the control socket", hint: "use sudo", status: .notAllowed)
        }
        guard others < Self.clientsPerUser else {
            return CommandFailure(
                "your user has \(others) connections here already", hint: "try again when one of them has ended",
                status: .tryAgain)
        }
        return nil
    }
}

/// The address of a Unix socket (unix(7)): a path, or `@` and an abstract name.
struct UnixSocketAddress {
    private var address = sockaddr_un()
    private let length: socklen_t

    /// - Throws: `fileNameTooLong` when it does not fit into 107 bytes, `invalidArgument` when it is empty or holds a NUL.
    init(_ name: String) throws(Errno) {
        var bytes = Array(name.utf8)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard !bytes.isEmpty, !bytes.contains(0) else { throw .invalidArgument }
        guard bytes.count < room else { throw .fileNameTooLong }
        let isAbstract = bytes[0] == UInt8(ascii: "@")
        if isAbstract { bytes[0] = 0 }
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        // An abstract name is as long as the length says; a path ends with a NUL.
        length = socklen_t(MemoryLayout.size(ofValue: address.sun_family) + bytes.count + (isAbstract ? 0 : 1))
    }

    func withSocketAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}
