import EventLoop
import FoundationEssentials
import Glibc
import JobCore
package import SystemPackage

/// Sends requests to a running daemon over its control socket.
package struct ControlClient: Sendable {
    /// The socket's file.
    package let path: FilePath
    /// For one request, from connecting to the end of the reply.
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

    /// The failure, with the hint.
    package var description: String {
        switch self {
        case .notListening(let path):
            "\(path): no daemon listens here; start it, or give its settings by -c so that its RUNTIME_DIRECTORY is found"
        case .notAllowed(let path): "\(path): only root and the daemon's own user may ask the daemon; use sudo"
        case .timedOut(let path, let timeout):
            "\(path): the daemon did not answer within \(timeout.components.seconds) s; see its log, or try again"
        case .cutOff(let path): "\(path): the daemon ended before it had answered; try again when it runs"
        case .refused(let failure): failure.description
        case .tooLarge(let count):
            "the request has \(count) bytes, more than \(ControlRequest.sizeLimit); ask for less at once"
        case .unencodable(let reason): "the request cannot be written as JSON: \(reason)"
        case .incomprehensible(let path, let reason):
            "\(path): the answer cannot be understood: \(reason); use the same version as the daemon"
        case .failed(let path, let code): "\(path): the daemon cannot be asked: \(code)"
        }
    }

    /// What the process ends with.
    package var exitStatus: ProcessExitStatus {
        switch self {
        case .notListening, .timedOut, .cutOff: .tryAgain
        case .notAllowed: .notAllowed
        case .tooLarge: .wrongUsage
        case .refused(let failure): failure.status
        case .unencodable, .incomprehensible, .failed: .failure
        }
    }
}
