import Synchronization

/// Where an LDAP server listens: over TCP in the clear or with StartTLS (`ldap`), over TLS (`ldaps`), or at a local socket (`ldapi`).
public struct ServerAddress: Hashable, Sendable {
    /// The way to the server.
    public enum Endpoint: Hashable, Sendable {
        /// A host name or numeric address (IPv6 without brackets), a port, and whether TLS begins at once.
        case tcp(host: String, port: UInt16, tls: Bool)
        /// The path of a local socket.
        case local(path: String)
    }

    /// The way to the server.
    public let endpoint: Endpoint

    /// A server at a known place.
    public init(_ endpoint: Endpoint) { self.endpoint = endpoint }

    /// - Parameters:
    ///   - text: a URI with one of the three schemes and nothing behind the host (RFC 4516), or a bare host with or without a port.
    ///   - defaultPort: for addresses without one; nil means 389, and 636 for `ldaps`.
    public init(parsing text: String, defaultPort: UInt16? = nil) throws(LDAPSyntaxError) {
        let (scheme, rest) = Self.split(text)
        var authority = rest
        if authority.hasSuffix("/") { authority = authority.dropLast() }
        if let odd = authority.first(where: { "/?#@ ".contains($0) || $0.asciiValue.map { $0 < 0x20 } ?? false }) {
            throw Self.invalid(text, "\(String(reflecting: odd)) is not allowed in an address")
        }
        switch scheme {
        case "ldapi":
            guard let path = Self.percentDecoded(authority) else {
                throw Self.invalid(text, "a percent sign is not followed by two hexadecimal digits")
            }
            guard path.isEmpty || path.hasPrefix("/") else {
                throw Self.invalid(text, "the path of the socket does not begin with %2F")
            }
            guard path.utf8.count < Self.longestPath, !path.utf8.contains(0) else {
                throw Self.invalid(
                    text, "the path of a socket has fewer than \(Self.longestPath) bytes, none of them 0")
            }
            self.init(.local(path: path.isEmpty ? Self.usualPath : path))
        case "ldap", "ldaps":
            let tls = scheme == "ldaps"
            let (host, port) = try Self.hostAndPort(authority, of: text)
            self.init(.tcp(host: host, port: port ?? defaultPort ?? (tls ? 636 : 389), tls: tls))
        default: throw Self.invalid(text, "\(scheme):// is not known here")
        }
    }

    /// Where Debian's slapd puts the socket of `ldapi:///`.
    private static let usualPath = "/var/run/slapd/ldapi"
    /// The size of `sun_path` (unix(7)).
    private static let longestPath = 108

    private static func split(_ text: String) -> (scheme: String, rest: Substring) {
        for place in text.indices where text[place...].hasPrefix("://") {
            return (text[..<place].lowercased(), text[text.index(place, offsetBy: 3)...])
        }
        return ("ldap", text[...])
    }

    private static func hostAndPort(_ authority: Substring, of text: String) throws(LDAPSyntaxError) -> (
        String, UInt16?
    ) {
        var host = authority
        var port: Substring?
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { throw Self.invalid(text, "] is missing") }
            host = authority[authority.index(after: authority.startIndex)..<end]
            let rest = authority[authority.index(after: end)...]
            guard rest.isEmpty || rest.hasPrefix(":") else {
                throw Self.invalid(text, "only a port can follow ]")
            }
            port = rest.isEmpty ? nil : rest.dropFirst()
        } else if let colon = authority.lastIndex(of: ":") {
            host = authority[..<colon]
            port = authority[authority.index(after: colon)...]
            if host.contains(":") { throw Self.invalid(text, "an IPv6 address needs brackets") }
        }
        guard !host.isEmpty else { throw Self.invalid(text, "the host is missing") }
        guard let port else { return (String(host), nil) }
        guard let number = UInt16(port), number > 0 else {
            throw Self.invalid(text, "the port is not a number from 1 to 65535")
        }
        return (String(host), number)
    }

    private static func invalid(_ text: String, _ reason: String) -> LDAPSyntaxError {
        LDAPSyntaxError(
            place: "\(String(reflecting: text)) is not a server", position: 1, reason: reason,
            hint: "write ldap://host[:port], ldaps://host[:port] or ldapi://%2Fpath%2Fto%2Fsocket")
    }

    private static func percentDecoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(Substring(rest.prefix(2)), radix: 16) else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

extension ServerAddress: CustomStringConvertible {
    /// The URI, with the port only where it is not the usual one.
    public var description: String {
        switch endpoint {
        case .tcp(let host, let port, let tls):
            let name = host.contains(":") ? "[\(host)]" : host
            return (tls ? "ldaps://" : "ldap://") + name + (port == (tls ? 636 : 389) ? "" : ":\(port)")
        case .local(let path):
            return "ldapi://" + path.utf8.map(Self.percentEncoded).joined()
        }
    }

    private static func percentEncoded(_ byte: UInt8) -> String {
        let character = Character(UnicodeScalar(byte))
        let isPlain = character.isASCII && (character.isLetter || character.isNumber || "-._~".contains(character))
        return isPlain ? String(character) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
    }
}

// MARK: - Lists

/// Servers that hold the same tree, the preferred one first.
///
/// It stays with the server that worked last, so that all writes of a daemon go to one provider, and tries the others in their order when
/// that one fails. A server that refused the credentials is left alone for a while, since a password policy may count its refusals. Share one
/// list among all connections that must use the same server.
package final class ServerList: Sendable {
    /// After a server's first refusal of the credentials, and after each further one.
    package static let firstRefusalDelay = Duration.seconds(300), laterRefusalDelay = Duration.seconds(3_600)

    private struct State {
        /// The one that worked last.
        var last: ServerAddress?
        /// Those that have refused a write; the others are tried before them.
        var replicas: Set<ServerAddress> = []
        var refusals: [ServerAddress: (error: LDAPError, count: Int, until: ContinuousClock.Instant)] = [:]

        mutating func refused(_ server: ServerAddress, _ error: LDAPError) {
            let count = (refusals[server]?.count ?? 0) + 1
            refusals[server] = (error, count, .now + (count == 1 ? firstRefusalDelay : laterRefusalDelay))
        }
    }

    /// The preferred one first.
    package let servers: [ServerAddress]
    private let state = Mutex(State())

    /// - Parameter servers: at least one; `connect` fails otherwise.
    package init(_ servers: [ServerAddress]) { self.servers = servers }

    /// The server that is tried first next time.
    package var current: ServerAddress? { state.withLock { $0.last ?? inOrder($0).first } }

    /// Those that are not known to be replicas come first.
    private func inOrder(_ state: State) -> [ServerAddress] {
        servers.filter { !state.replicas.contains($0) } + servers.filter(state.replicas.contains)
    }

    /// The next connection is tried at another server, because the one that worked last is a replica, which refuses writes.
    /// - Returns: false: there is no other one.
    package func leaveReplica() -> Bool {
        state.withLock { state in
            guard let last = state.last, servers.count > 1 else { return false }
            state.last = nil
            state.replicas.insert(last)
            // One of them may have become the provider.
            if servers.allSatisfy(state.replicas.contains) { state.replicas = [last] }
            return true
        }
    }

    /// Connects to the server that worked last, else to the first of the others that works. Each has `connectTimeout` for itself.
    ///
    /// Where a password policy has counted a refused password, the other servers are not asked: they would count it too.
    /// - Throws: the error of each server, of one that is left alone its last refusal; with the code `invalidCredentials` if all refused them,
    ///   else with the code of the first other one.
    package func connect(options: ConnectionOptions) async throws(LDAPError) -> LDAPConnection {
        let (servers, refusals) = candidates()
        var answers: [LDAPError] = []
        for server in servers {
            do throws(LDAPError) {
                let connection = try await LDAPConnection.open(server, options: options)
                state.withLock { state in (state.last, state.refusals[server]) = (server, nil) }
                return connection
            } catch {
                answers.append(error)
                let isRefusal = error.code == .invalidCredentials
                if isRefusal { state.withLock { $0.refused(server, error) } }
                let isCounted = isRefusal && error.passwordPolicy.map { $0.fault == nil } ?? false
                if error.code == .userCancelled || isCounted { break }
            }
        }
        throw Self.error(answers + refusals)
    }

    /// - Returns: the servers to be tried, in this order, and the refusals of those that are left alone, unless all are.
    private func candidates() -> ([ServerAddress], refusals: [LDAPError]) {
        let (last, servers, refusals) = state.withLock { ($0.last, inOrder($0), $0.refusals) }
        let all = [last].compactMap(\.self) + servers.filter { $0 != last }
        let now = ContinuousClock.now
        let isReady = { server in refusals[server].map { $0.until <= now } ?? true }
        let ready = all.filter(isReady)
        return ready.isEmpty ? (all, []) : (ready, all.filter { !isReady($0) }.compactMap { refusals[$0]?.error })
    }

    private static func error(_ answers: [LDAPError]) -> LDAPError {
        guard let first = answers.first else {
            return LDAPError(
                .paramError, operation: "connect", server: "no server",
                diagnostic: "the list of servers is empty; set SERVER")
        }
        guard answers.count > 1 else { return first }
        let decisive =
            answers.last { $0.code == .userCancelled } ?? answers.first { $0.code != .invalidCredentials }
            ?? answers.last ?? first
        var error = LDAPError(
            decisive.code, operation: "connect", server: answers.map(\.server).joined(separator: ", "),
            isConnectionLost: decisive.isConnectionLost)
        error.passwordPolicy = decisive.passwordPolicy
        error.diagnostic = answers.map(\.reason).joined(separator: "; ")
        return error
    }
}
