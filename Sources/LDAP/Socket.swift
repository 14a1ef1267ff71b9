import Glibc
import SystemPackage

/// A connected socket that closes itself, in blocking mode, not inherited by children.
@safe struct Socket: ~Copyable {
    let descriptor: Int32

    deinit { close(descriptor) }

    /// The descriptor. The caller closes it.
    consuming func giveAway() -> Int32 {
        let descriptor = self.descriptor
        discard self
        return descriptor
    }

    /// - Throws: when there is no descriptor left, or no such kind of address on this machine.
    init(for address: Address) throws(Errno) {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        descriptor = try Self.check(socket(address.family, type, 0))
    }

    /// Connects, then goes to blocking mode.
    borrowing func connect(to address: Address, within limit: Duration) throws(Errno) {
        if address.connect(descriptor) != 0 {
            // A local socket with a full queue says EAGAIN; there is nothing to wait on.
            guard errno == EINPROGRESS else { throw Errno(rawValue: errno) }
            var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            guard try Self.check(unsafe poll(&request, 1, limit.milliseconds)) > 0 else { throw .timedOut }
            var failure: Int32 = 0
            var size = socklen_t(MemoryLayout<Int32>.size)
            try Self.check(unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &failure, &size))
            guard failure == 0 else { throw Errno(rawValue: failure) }
        }
        if address.isTCP {
            // A dead peer of an idle connection is found within two minutes.
            try set(SOL_SOCKET, SO_KEEPALIVE, 1)
            try set(Int32(IPPROTO_TCP), TCP_KEEPIDLE, 60)
            try set(Int32(IPPROTO_TCP), TCP_KEEPINTVL, 15)
            try set(Int32(IPPROTO_TCP), TCP_KEEPCNT, 4)
            try set(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        }
        let flags = try Self.check(fcntl(descriptor, F_GETFL))
        try Self.check(fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK))
    }

    private borrowing func set(_ level: Int32, _ option: Int32, _ value: Int32) throws(Errno) {
        var value = value
        try Self.check(unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size)))
    }

    /// The result of a system call.
    @discardableResult
    static func check(_ result: Int32) throws(Errno) -> Int32 {
        guard result >= 0 else { throw Errno(rawValue: errno) }
        return result
    }
}

extension Duration {
    /// The milliseconds for poll(2): rounded up, so that a loop does not spin just before a deadline; never negative.
    var milliseconds: Int32 {
        let (seconds, attoseconds) = components
        guard self > .zero else { return 0 }
        guard seconds < Int64(Int32.max) / 1000 else { return .max }
        return Int32(seconds) * 1000 + Int32((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}

// MARK: - Addresses

/// One place to connect to, as the kernel wants it.
struct Address: Sendable {
    let family: Int32
    /// The name for messages.
    let name: String
    private let bytes: [UInt8]

    var isTCP: Bool { family != AF_UNIX }

    func connect(_ descriptor: Int32) -> Int32 {
        unsafe bytes.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return -1 }
            return unsafe Glibc.connect(
                descriptor, start.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
        }
    }

    /// Asks the resolver for a host; blocks as long as that takes.
    static func all(of server: ServerAddress) throws(LDAPError) -> [Address] {
        switch server.endpoint {
        case .local(let path): return [Address(path: path)]
        case .tcp(let host, let port, _):
            var hints = unsafe addrinfo()
            unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
            unsafe hints.ai_flags = AI_NUMERICSERV
            var list: UnsafeMutablePointer<addrinfo>?
            let code = unsafe getaddrinfo(host, "\(port)", &hints, &list)
            guard code == 0 else {
                throw LDAPError(
                    .connectError, operation: "look up", server: "\(server)",
                    diagnostic: unsafe String(cString: gai_strerror(code)))
            }
            defer { unsafe freeaddrinfo(list) }
            var addresses: [Address] = []
            var next = unsafe list
            while let item = unsafe next?.pointee {
                if let place = unsafe item.ai_addr {
                    addresses.append(
                        Address(
                            family: unsafe item.ai_family, name: unsafe numericName(place, item.ai_addrlen),
                            bytes: unsafe Array(UnsafeRawBufferPointer(start: place, count: Int(item.ai_addrlen)))))
                }
                unsafe next = item.ai_next
            }
            return addresses
        }
    }

    private init(family: Int32, name: String, bytes: [UInt8]) {
        self.family = family
        self.name = name
        self.bytes = bytes
    }

    private init(path: String) {
        let family = LDAP.bytes(of: sa_family_t(AF_UNIX))
        self.init(family: AF_UNIX, name: path, bytes: family + Array(path.utf8) + [0])
    }

    private static func numericName(_ place: UnsafeMutablePointer<sockaddr>, _ size: socklen_t) -> String {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(NI_MAXHOST)) { buffer in
            guard let start = buffer.baseAddress,
                unsafe getnameinfo(place, size, start, socklen_t(buffer.count), nil, 0, NI_NUMERICHOST) == 0
            else { return "an address" }
            return unsafe String(cString: start)
        }
    }
}

private func bytes(of value: sa_family_t) -> [UInt8] { unsafe withUnsafeBytes(of: value) { unsafe Array($0) } }
