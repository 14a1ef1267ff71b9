import CLinux
import EventLoop
import Glibc
import JobCore
import Synchronization
public import SystemPackage

/// Listens on a socket of the daemon's and has each request answered.
///
/// One thread of its own sleeps in poll(2) and wakes for clients, replies and deadlines alone. Who is heard is the admission's affair
/// (`SO_PEERCRED`); of two servers none can disturb the other. A handler whose client hangs up is cancelled.
public final class ControlServer: Sendable {
    /// Answers one request. Runs beside the answers to other clients.
    public typealias Handler = @Sendable (ControlRequest) async -> ControlReply

    /// The socket's file.
    public let path: FilePath
    private let mailbox: ControlMailbox

    /// The socket's place in a runtime directory, the same for server and client.
    public static func socketPath(in directory: FilePath) -> FilePath { directory.appending("control.sock") }

    /// Starts to listen.
    ///
    /// - Parameters:
    ///   - lock: what entitles to replace a socket that an earlier instance left behind. It must be held until `stop`
    ///     has returned.
    ///   - path: the socket's file; nil: the control socket beside the lock.
    ///   - admission: who is heard.
    ///   - patience: how long a client may take to send its request, and then to read the answer.
    /// - Throws: what could not be done with the socket.
    public init(
        under lock: InstanceLock, at path: FilePath? = nil, admission: ControlAdmission = .owner,
        patience: Duration = .seconds(10), handler: @escaping Handler
    ) throws(ControlServerError) {
        let path = path ?? Self.socketPath(in: lock.path.removingLastComponent())
        self.path = path
        do throws(Errno) {
            let mailbox = try ControlMailbox()
            self.mailbox = mailbox
            let listener = try ControlListener(path: path, mode: admission.mode)
            // The thread alone owns the loop from here on.
            nonisolated(unsafe) let loop = ControlLoop(
                listener: listener, mailbox: mailbox, admission: admission, patience: patience, handler: handler)
            do throws(Errno) {
                try DedicatedThread.start("control") { loop.run() }
            } catch {
                listener.close()
                throw error
            }
        } catch {
            throw ControlServerError(path: path, code: error)
        }
    }

    /// Sends every client away, removes the socket's file and ends the thread; returns when that is done.
    public func stop() async { await mailbox.stop() }
}

/// Why a socket of the daemon's cannot be opened.
public struct ControlServerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The socket's file.
    public let path: FilePath
    /// What the system said.
    public let code: Errno

    /// The path, what the system said, and the cure.
    public var description: String {
        let cure =
            switch code {
            case .fileNameTooLong: "a socket's path may have 107 bytes: set a shorter RUNTIME_DIRECTORY"
            case .fileExists: "something that is no socket stands there: move it away"
            default: "let the daemon's user write there, or set RUNTIME_DIRECTORY"
            }
        return "\(path): the socket cannot be opened: \(code); \(cure)"
    }
}

/// What other threads leave for the loop.
final class ControlMailbox: Sendable {
    struct Content {
        var replies: [(client: Int32, visit: UInt64, reply: ControlReply)] = []
        var isStopping = false
    }

    private enum Life {
        case running([CheckedContinuation<Void, Never>])
        case ended
    }

    private let content = Mutex(Content())
    private let life = Mutex(Life.running([]))
    let wakeUp: WakeUp

    init() throws(Errno) { wakeUp = try WakeUp() }

    func post(_ reply: ControlReply, to client: Int32, visit: UInt64) {
        content.withLock { $0.replies.append((client, visit, reply)) }
        wakeUp.signal()
    }

    /// Takes everything out.
    func collect() -> Content {
        wakeUp.clear()
        return content.withLock { content in
            defer { content.replies = [] }
            return content
        }
    }

    func stop() async {
        content.withLock { $0.isStopping = true }
        wakeUp.signal()
        await withCheckedContinuation { continuation in
            let hasEnded = life.withLock { life in
                guard case .running(let waiting) = life else { return true }
                life = .running(waiting + [continuation])
                return false
            }
            if hasEnded { continuation.resume() }
        }
    }

    func ended() {
        let waiting = life.withLock { life in
            defer { life = .ended }
            if case .running(let waiting) = life { return waiting } else { return [] }
        }
        waiting.forEach { $0.resume() }
    }
}
