import EventLoop
import FoundationEssentials
import Glibc
import JobCore
package import SystemPackage

/// Sends requests to a running daemon over its control socket.
package struct ControlClient: Sendable {
    /// The socket's file.
    package let path: FilePath
    /// The limit of one request, from connecting to the end of the reply.
    package let timeout: Duration

    /// - Parameter path: see `ControlServer.socketPath(in:)`.
    package init(socket path: FilePath, timeout: Duration = .seconds(30)) {
        self.path = path
        self.timeout = timeout
    }

    /// Sends one request and decodes the value of its ``DaemonReply``.
    package func ask<Value: Codable & Sendable>(
        _ question: some Encodable, for type: Value.Type
    ) async throws(ControlClientError) -> Value {
        let request: ControlRequest
        do { request = try ControlRequest(encoding: question) } catch { throw .unencodable("\(error)") }
        let line = try await exchange(request)
        let reply: DaemonReply<Value>
        do { reply = try JSONDecoder().decode(DaemonReply<Value>.self, from: Data(line)) } catch {
            throw .incomprehensible(path, "\(error)")
        }
        switch reply {
        case .done(let value): return value
        case .refused(let failure): throw .refused(failure)
        }
    }

    /// Sends one request and reads the reply's line.
    @MainActor func exchange(_ request: ControlRequest) async throws(ControlClientError) -> [UInt8] {
        guard request.line.count <= ControlRequest.sizeLimit else { throw .tooLarge(request.line.count) }
        let deadline = ContinuousClock.now + timeout
        do throws(Errno) {
            let descriptor = socket(
                AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
            guard descriptor >= 0 else { throw Errno(rawValue: errno) }
            defer { close(descriptor) }
            try await connect(descriptor, until: deadline)
            let connection = ControlConnection(descriptor: descriptor)
            try await connection.write(request.line, until: deadline)
            return try await connection.readLine(until: deadline)
        } catch .noSuchFileOrDirectory, .connectionRefused {
            throw .notListening(path)
        } catch .permissionDenied, .notPermitted {
            throw .notAllowed(path)
        } catch .timedOut {
            throw .timedOut(path, timeout)
        } catch .connectionReset {
            throw .cutOff(path)
        } catch {
            throw .failed(path, error)
        }
    }

    @MainActor private func connect(
        _ descriptor: Int32, until deadline: ContinuousClock.Instant
    ) async throws(Errno) {
        let address = try UnixSocketAddress(path.string)
        while address.withSocketAddress({ Glibc.connect(descriptor, $0, $1) }) != 0 {
            guard errno == EAGAIN else { throw Errno(rawValue: errno) }
            guard .now < deadline else { throw .timedOut }
            // The daemon's queue is full, and no event reports when it has room.
            do { try await Task.sleep(for: .milliseconds(10)) } catch { throw .canceled }
        }
    }
}

/// Why a request got no reply.
package enum ControlClientError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No daemon listens on this socket.
    case notListening(FilePath)
    /// The socket belongs to another user.
    case notAllowed(FilePath)
    /// The daemon did not answer in time.
    case timedOut(FilePath, Duration)
    /// The connection ended before the reply was complete.
    case cutOff(FilePath)
    /// The daemon refused the request.
    case refused(CommandFailure)
    /// The request exceeds the size limit.
    case tooLarge(Int)
    /// The request cannot be encoded as JSON.
    case unencodable(String)
    /// The reply cannot be decoded.
    case incomprehensible(FilePath, String)
    /// A system call failed.
    case failed(FilePath, Errno)

    package var description: String { failure.description }

    /// The error of a command.
    package var failure: CommandFailure {
        switch self {
        case .notListening(let path):
            CommandFailure(
                "\(path): no daemon listens here",
                hint: "start it, or give its settings by -c so that its RUNTIME_DIRECTORY is found", status: .tryAgain)
        case .notAllowed(let path):
            CommandFailure(
                "\(path): only root and the daemon's own user may ask the daemon", hint: "use sudo", status: .notAllowed
            )
        case .timedOut(let path, let timeout):
            CommandFailure(
                "\(path): the daemon did not answer within \(timeout.components.seconds) s",
                hint: "try again, or see its log", status: .tryAgain)
        case .cutOff(let path):
            CommandFailure(
                "\(path): the daemon ended before it had answered", hint: "try again when it runs", status: .tryAgain)
        case .refused(let failure): failure
        case .tooLarge(let count):
            CommandFailure(
                "the request has \(count) bytes, more than \(ControlRequest.sizeLimit)", hint: "ask for less at once",
                status: .wrongUsage)
        case .unencodable(let reason):
            CommandFailure("the request cannot be written as JSON: \(reason)", hint: "report this as a defect")
        case .incomprehensible(let path, let reason):
            CommandFailure(
                "\(path): the answer cannot be understood: \(reason)", hint: "use the same version as the daemon")
        case .failed(let path, let code):
            CommandFailure("\(path): the daemon cannot be asked: \(code)", hint: "see its log")
        }
    }
}
