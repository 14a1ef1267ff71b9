import EventLoop
import FoundationEssentials
import Glibc
import JobCore
import SystemPackage

/// A request over a control socket: one line of JSON.
package struct ControlRequest: Hashable, Sendable {
    /// The maximum size of a request in bytes, without its line end.
    package static let sizeLimit = 64 * 1024

    /// Without the line end.
    package let line: [UInt8]

    /// The client's user according to the kernel (`SO_PEERCRED`); nil: not received over a socket.
    package internal(set) var user: UInt32?

    /// - Parameter line: JSON without a line feed, at most `sizeLimit` bytes.
    package init(line: [UInt8]) { self.line = line }

    package init(encoding value: some Encodable) throws { line = try JSONLine.encode(value) }

    package func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try JSONDecoder().decode(type, from: Data(line))
    }
}

/// The daemon's reply to a request.
package enum DaemonReply<Value: Codable & Sendable>: Codable, Sendable {
    case done(Value)
    case refused(CommandFailure)
}

/// The reply of a handler: a ``DaemonReply`` as one line of JSON.
package struct ControlReply: Hashable, Sendable {
    /// Without the line end. Empty: the connection is closed without a reply.
    package let line: [UInt8]

    /// - Parameter line: JSON without a line feed.
    package init(line: [UInt8]) { self.line = line }

    package init(done value: some Codable & Sendable) throws { line = try JSONLine.encode(DaemonReply.done(value)) }

    /// A reply with the reason why a request is refused. The client throws `ControlClientError.refused` for it.
    package static func refusal(_ failure: CommandFailure) -> Self {
        ControlReply(line: (try? JSONLine.encode(DaemonReply<Bool>.refused(failure))) ?? [])
    }
}

/// A connection of a control socket, on the event loop: one line each way. The descriptor does not block.
@MainActor struct ControlConnection {
    let descriptor: Int32

    /// Reads a line; what follows it is ignored.
    /// - Throws: `connectionReset` when the other side ends before; `messageTooLong`; `timedOut`; `canceled`.
    func readLine(
        atMost limit: Int = .max, until deadline: ContinuousClock.Instant
    ) async throws(Errno) -> [UInt8] {
        var line: [UInt8] = []
        while true {
            if let piece = try received() {
                let end = piece.firstIndex(of: UInt8(ascii: "\n"))
                line += piece[..<(end ?? piece.endIndex)]
                guard line.count <= limit else { throw .messageTooLong }
                if end != nil { return line }
            } else {
                try await EventLoop.shared.wait(for: .readable, at: descriptor, until: deadline)
            }
        }
    }

    /// - Returns: nil: nothing has come yet.
    private func received() throws(Errno) -> ArraySlice<UInt8>? {
        var buffer = [UInt8](repeating: 0, count: 16 * 1024)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        guard count >= 0 else {
            if errno == EAGAIN || errno == EINTR { return nil }
            throw Errno(rawValue: errno)
        }
        guard count > 0 else { throw .connectionReset }
        return buffer[..<count]
    }

    /// Writes a line. Returns early when the other side has gone.
    /// - Throws: `timedOut`; `canceled`.
    func write(_ line: [UInt8], until deadline: ContinuousClock.Instant) async throws(Errno) {
        var rest = (line + [UInt8(ascii: "\n")])[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count >= 0 {
                rest = rest.dropFirst(count)
            } else if errno == EPIPE || errno == ECONNRESET {
                return  // It may have replied early, which a following read finds out.
            } else if errno != EINTR {
                guard errno == EAGAIN else { throw Errno(rawValue: errno) }
                try await EventLoop.shared.wait(for: .writable, at: descriptor, until: deadline)
            }
        }
    }
}
