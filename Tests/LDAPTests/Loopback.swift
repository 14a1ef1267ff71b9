import Glibc
import Synchronization
import Testing

/// Listens on a free TCP port of a loopback address. A connection gets no answer until a test accepts it.
final class Listener: Sendable {
    let descriptor: Int32
    let port: UInt16

    /// - Parameter host: the last byte of the address `127.0.0.…`.
    init(host: UInt32 = 1) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = Self.address(host: host, port: 0)
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = descriptor
        let isListening = withUnsafeMutablePointer(to: &address) { place in
            place.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, size) == 0 && listen(descriptor, 64) == 0
                    && getsockname(descriptor, $0, &size) == 0
            }
        }
        port = UInt16(bigEndian: address.sin_port)
        try #require(isListening, "no TCP port of 127.0.0.\(host) can be had")
    }

    deinit { close(descriptor) }

    /// The next connection; blocks.
    func accept() -> Int32 {
        let connection = Glibc.accept(descriptor, nil, nil)
        if connection >= 0 { _ = fcntl(connection, F_SETFD, FD_CLOEXEC) }
        return connection
    }

    static func address(host: UInt32, port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7f00_0000 | host).bigEndian
        address.sin_port = port.bigEndian
        return address
    }

    static func connect(port: UInt16) -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = address(host: 1, port: port)
        _ = withUnsafeMutablePointer(to: &address) { place in
            place.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        return descriptor
    }
}

/// A proxy between client and server. It counts the server's bytes, and cuts each connection after a number of them, or forwards them in
/// halves.
final class CuttingProxy: Sendable {
    private let listener: Listener
    private let server: UInt16
    private let limit: Int
    private let betweenHalves: (@Sendable () -> Void)?
    private let passed = Atomic(0)

    /// - Parameters:
    ///   - host: the last byte of the address `127.0.0.…` to listen on.
    ///   - limit: bytes from the server that are passed on for each connection.
    ///   - betweenHalves: is called when a part of what has come from the server was passed on, before the rest is; nil: it is passed on whole.
    init(
        to server: UInt16, host: UInt32 = 1, limit: Int = .max, betweenHalves: (@Sendable () -> Void)? = nil
    ) throws {
        listener = try Listener(host: host)
        self.betweenHalves = betweenHalves
        self.server = server
        self.limit = limit
        startThread { [listener] in
            // Ends when the listener is shut down.
            while case let client = listener.accept(), client >= 0 { self.serve(client) }
        }
    }

    var port: UInt16 { listener.port }
    /// Bytes from the server that were passed on, of all connections.
    var count: Int { passed.load(ordering: .relaxed) }

    /// Accepts no more.
    func stop() { shutdown(listener.descriptor, Int32(SHUT_RDWR)) }

    private func serve(_ client: Int32) {
        let pair = Pair(client: client, server: Listener.connect(port: server))
        startThread { pair.pump(from: pair.client, to: pair.server, limit: .max, betweenHalves: nil) { _ in } }
        startThread { [limit, betweenHalves] in
            pair.pump(from: pair.server, to: pair.client, limit: limit, betweenHalves: betweenHalves) {
                self.passed.add($0, ordering: .relaxed)
            }
        }
    }

    /// Two sockets that are closed when neither pump uses them any more.
    private final class Pair: Sendable {
        let client: Int32
        let server: Int32

        init(client: Int32, server: Int32) {
            self.client = client
            self.server = server
        }

        deinit {
            close(client)
            close(server)
        }

        /// Passes bytes on until either side ends or the limit is reached, then ends both.
        func pump(
            from source: Int32, to target: Int32, limit: Int, betweenHalves: (() -> Void)?, _ tell: (Int) -> Void
        ) {
            var buffer = [UInt8](repeating: 0, count: 4096)
            var rest = limit
            while rest > 0 {
                let count = read(source, &buffer, min(buffer.count, rest))
                guard count > 0 else { break }
                let half = betweenHalves == nil ? count : count / 2
                guard pass(buffer[..<half], to: target) else { break }
                betweenHalves?()
                guard pass(buffer[half..<count], to: target) else { break }
                rest -= count
                tell(count)
            }
            shutdown(client, Int32(SHUT_RDWR))
            shutdown(server, Int32(SHUT_RDWR))
        }

        private func pass(_ bytes: ArraySlice<UInt8>, to target: Int32) -> Bool {
            bytes.withUnsafeBytes { send(target, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) == $0.count }
        }
    }
}

/// Runs a body on a thread of its own, so that it may block.
func startThread(_ body: @escaping @Sendable () -> Void) {
    final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    let box = Unmanaged.passRetained(Box(body))
    pthread_create(
        &thread, nil,
        { argument in
            if let argument { Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body() }
            return nil
        }, box.toOpaque())
    pthread_detach(thread)
}
