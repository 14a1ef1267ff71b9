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

    /// Sends one request and decodes the reply.
    package func ask<Answer: Decodable>(
        _ question: some Encodable, for type: Answer.Type
    ) async throws(ControlClientError) -> Answer {
        let request: ControlRequest
        do { request = try ControlRequest(encoding: question) } catch { throw .unencodable("\(error)") }
        let reply = try await send(request)
        do {
            return try JSONDecoder().decode(type, from: Data(reply.line))
        } catch {
            throw .incomprehensible(path, "\(error)")
        }
    }

    /// Sends one request and reads the whole reply.
    package func send(_ request: ControlRequest) async throws(ControlClientError) -> ControlReply {
        let reply = try await exchange(request)
        if let refusal = reply.refusal { throw .refused(refusal) }
        return reply
    }

    @MainActor private func exchange(_ request: ControlRequest) async throws(ControlClientError) -> ControlReply {
        guard request.line.count <= ControlRequest.sizeLimit else { throw .tooLarge(request.line.count) }
        let deadline = ContinuousClock.now + timeout
        do throws(Errno) {
            let connection = socket(
                AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
            guard connection >= 0 else { throw Errno(rawValue: errno) }
            defer { close(connection) }
            try await connect(connection, until: deadline)
            try await write(request.line + [UInt8(ascii: "\n")], to: connection, until: deadline)
            return ControlReply(line: try await readLine(from: connection, until: deadline))
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
        _ connection: Int32, until deadline: ContinuousClock.Instant
    ) async throws(Errno) {
        let address = try UnixSocketAddress(path.string)
        while address.withSocketAddress({ Glibc.connect(connection, $0, $1) }) != 0 {
            guard errno == EAGAIN else { throw Errno(rawValue: errno) }
            guard .now < deadline else { throw .timedOut }
            // The daemon's queue is full, and no event reports when it has room.
            do { try await Task.sleep(for: .milliseconds(10)) } catch { throw .canceled }
        }
    }

    @MainActor private func write(
        _ bytes: [UInt8], to connection: Int32, until deadline: ContinuousClock.Instant
    ) async throws(Errno) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count >= 0 {
                rest = rest.dropFirst(count)
            } else if errno == EPIPE || errno == ECONNRESET {
                return  // The daemon has replied early or has ended: the following read finds out.
            } else if errno != EINTR {
                guard errno == EAGAIN else { throw Errno(rawValue: errno) }
                try await EventLoop.shared.wait(for: .writable, at: connection, until: deadline)
            }
        }
    }

    @MainActor private func readLine(
        from connection: Int32, until deadline: ContinuousClock.Instant
    ) async throws(Errno) -> [UInt8] {
        var received: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let count = recv(connection, &buffer, buffer.count, 0)
            if count > 0 {
                received += buffer[..<count]
            } else if count == 0 || errno == ECONNRESET {
                guard received.popLast() == UInt8(ascii: "\n") else { throw .connectionReset }
                return received
            } else if errno != EINTR {
                guard errno == EAGAIN else { throw Errno(rawValue: errno) }
                try await EventLoop.shared.wait(for: .readable, at: connection, until: deadline)
            }
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
    /// The daemon refused the request, with the reason.
    case refused(String)
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
        case .refused(let reason): "the daemon refuses: \(reason)"
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
        case .refused, .unencodable, .incomprehensible, .failed: .failure
        }
    }
}
