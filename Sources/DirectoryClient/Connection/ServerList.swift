import Synchronization

/// Servers that hold the same tree, the preferred one first.
///
/// It stays with the server that worked last, so that all writes of a daemon go to one provider, and tries the others in their order when
/// that one fails. Share one list among all who must stay together.
public final class ServerList: Sendable {
    /// The servers, the preferred one first.
    public let servers: [ServerAddress]
    private let last = Mutex<ServerAddress?>(nil)

    /// - Parameter servers: at least one; `connect` fails otherwise.
    public init(_ servers: [ServerAddress]) { self.servers = servers }

    /// The server that is tried first next time.
    public var current: ServerAddress? { last.withLock { $0 } ?? servers.first }

    /// Connects to the server that worked last, else to the first of the others that works. Each has `connectTimeout` for itself.
    ///
    /// Where a password policy has counted a refused password, the other servers are not asked: they would count it too.
    /// - Throws: what each server answered, under `invalidCredentials` where one refused them, else under the code of the first that was
    ///   tried.
    public func connect(options: ConnectionOptions) async throws(DirectoryError) -> DirectoryConnection {
        let preferred = current
        var answers: [DirectoryError] = []
        for server in [preferred].compactMap(\.self) + servers.filter({ $0 != preferred }) {
            do throws(DirectoryError) {
                let connection = try await DirectoryConnection.open(server, options: options)
                last.withLock { $0 = server }
                return connection
            } catch {
                answers.append(error)
                let isCounted = error.code == .invalidCredentials && error.passwordPolicy?.fault == nil
                if error.code == .userCancelled || error.passwordPolicy != nil && isCounted { break }
            }
        }
        throw Self.error(answers)
    }

    private static func error(_ answers: [DirectoryError]) -> DirectoryError {
        guard let first = answers.first else {
            return DirectoryError(
                .paramError, operation: "connect", server: "no server",
                diagnostic: "the list of servers is empty; set SERVER")
        }
        guard answers.count > 1 else { return first }
        let decisive =
            answers.last { $0.code == .userCancelled } ?? answers.last { $0.code == .invalidCredentials } ?? first
        var error = DirectoryError(
            decisive.code, operation: "connect", server: answers.map(\.server).joined(separator: ", "),
            isConnectionLost: decisive.isConnectionLost)
        error.passwordPolicy = decisive.passwordPolicy
        error.diagnostic = answers.map { "\($0)" }.joined(separator: "\n")
        return error
    }
}
