import Glibc

/// One place to connect to, as the kernel wants it.
struct Address: Sendable {
    let family: Int32
    /// For messages.
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
    static func all(of server: ServerAddress) throws(DirectoryError) -> [Address] {
        switch server.endpoint {
        case .local(let path): return [Address(path: path)]
        case .tcp(let host, let port, _):
            var hints = unsafe addrinfo()
            unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
            unsafe hints.ai_flags = AI_NUMERICSERV
            var list: UnsafeMutablePointer<addrinfo>?
            let code = unsafe getaddrinfo(host, "\(port)", &hints, &list)
            guard code == 0 else {
                throw DirectoryError(
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
        let family = DirectoryClient.bytes(of: sa_family_t(AF_UNIX))
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
