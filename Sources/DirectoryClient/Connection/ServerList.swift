import Synchronization

/// Servers in order of preference. It stays with the one that worked, and tries the others in their order when that fails.
public final class ServerList: Sendable {
    private let servers: [ServerAddress]
    private let preferred = Mutex(0)

    /// - Parameter servers: the first is tried first. An empty list fails each time it is asked to connect.
    public init(_ servers: [ServerAddress]) { self.servers = servers }

    /// A connection to the server that worked last, else to the first that works.
    /// - Throws: the only server's error; of several, one that says what each of them answered.
    public func connect(options: ConnectionOptions) async throws(DirectoryError) -> DirectoryConnection {
        let first = preferred.withLock { $0 }
        var errors: [DirectoryError] = []
        for place in servers.indices.map({ ($0 + first) % servers.count }) {
            do throws(DirectoryError) {
                let connection = try await DirectoryConnection.open(servers[place], options: options)
                preferred.withLock { $0 = place }
                return connection
            } catch {
                if error.code == .userCancelled { throw error }
                errors.append(error)
            }
        }
        guard let last = errors.last, errors.count > 1 else {
            throw errors.last
                ?? DirectoryError(
                    .paramError, operation: "connect", server: "", diagnostic: "no server is named; set SERVER")
        }
        throw DirectoryError(
            last.code, operation: "connect", server: servers.map(\.description).joined(separator: " "),
            diagnostic: errors.map(\.description).joined(separator: " | "), isConnectionLost: last.isConnectionLost)
    }
}
