import Glibc

/// A connected socket that closes itself, in blocking mode, not inherited by children.
@safe struct Socket: ~Copyable {
    let descriptor: Int32

    deinit { close(descriptor) }

    /// The descriptor, for somebody who will close it.
    consuming func giveAway() -> Int32 {
        let descriptor = self.descriptor
        discard self
        return descriptor
    }

    /// Connects to the first address of the server that answers.
    /// - Parameters:
    ///   - deadline: for all addresses together; each gets an equal part of what is left.
    ///   - sendLimit: how long a write may wait for a server that does not read.
    /// - Throws: what each address answered. Looking the name up cannot be interrupted; who waits must not wait for this thread.
    static func connect(
        to server: ServerAddress, deadline: ContinuousClock.Instant, sendLimit: Duration
    ) throws(DirectoryError) -> Socket {
        let addresses = try Address.all(of: server)
        var answers: [String] = []
        for (place, address) in addresses.enumerated() {
            let part = ContinuousClock.now.duration(to: deadline) / (addresses.count - place)
            do throws(SystemError) {
                return try connect(to: address, within: part, sendLimit: sendLimit)
            } catch {
                answers.append("\(address.name): \(error)")
            }
        }
        let isLate = ContinuousClock.now >= deadline
        throw DirectoryError(
            isLate ? .timeout : .connectError, operation: "connect", server: "\(server)",
            diagnostic: answers.joined(separator: ", "))
    }

    private static func connect(to address: Address, within limit: Duration, sendLimit: Duration) throws(SystemError)
        -> Socket
    {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let socket = Socket(descriptor: try SystemError.check(Glibc.socket(address.family, type, 0)))
        if address.connect(socket.descriptor) != 0 {
            // A local socket with a full queue says EAGAIN; there is nothing to wait on.
            guard errno == EINPROGRESS else { throw SystemError(errno) }
            var request = pollfd(fd: socket.descriptor, events: Int16(POLLOUT), revents: 0)
            guard try SystemError.check(unsafe poll(&request, 1, limit.milliseconds)) > 0 else {
                throw SystemError(ETIMEDOUT)
            }
            var failure: Int32 = 0
            var size = socklen_t(MemoryLayout<Int32>.size)
            try SystemError.check(unsafe getsockopt(socket.descriptor, SOL_SOCKET, SO_ERROR, &failure, &size))
            guard failure == 0 else { throw SystemError(failure) }
        }
        if address.isTCP {
            // A dead peer of an idle connection is found within two minutes.
            try socket.set(SOL_SOCKET, SO_KEEPALIVE, 1)
            try socket.set(Int32(IPPROTO_TCP), TCP_KEEPIDLE, 60)
            try socket.set(Int32(IPPROTO_TCP), TCP_KEEPINTVL, 15)
            try socket.set(Int32(IPPROTO_TCP), TCP_KEEPCNT, 4)
            try socket.set(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        }
        try socket.set(SOL_SOCKET, SO_SNDTIMEO, timeval(sendLimit))
        let flags = try SystemError.check(fcntl(socket.descriptor, F_GETFL))
        try SystemError.check(fcntl(socket.descriptor, F_SETFL, flags & ~O_NONBLOCK))
        return socket
    }

    /// How long reading waits for the rest of a message that has begun. Not set before TLS has begun: its handshake would spin.
    static func setReceiveLimit(_ limit: Duration, on descriptor: Int32) -> Bool {
        var value = timeval(limit)
        return unsafe setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &value, socklen_t(MemoryLayout<timeval>.size)) == 0
    }

    private borrowing func set<T: BitwiseCopyable>(_ level: Int32, _ option: Int32, _ value: T) throws(SystemError) {
        var value = value
        try SystemError.check(
            unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<T>.size)))
    }
}

/// A number that the system gave as the reason.
struct SystemError: Error, CustomStringConvertible {
    let number: Int32
    init(_ number: Int32) { self.number = number }
    var description: String { unsafe String(cString: strerror(number)) }

    /// The result of a system call.
    @discardableResult
    static func check(_ result: Int32) throws(SystemError) -> Int32 {
        guard result >= 0 else { throw SystemError(errno) }
        return result
    }
}

extension Duration {
    /// For poll(2): rounded up, so that a loop does not spin just before a deadline; never negative.
    var milliseconds: Int32 {
        let (seconds, attoseconds) = components
        guard self > .zero else { return 0 }
        guard seconds < Int64(Int32.max) / 1000 else { return .max }
        return Int32(seconds) * 1000 + Int32((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}

extension timeval {
    init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        self.init(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
    }
}
