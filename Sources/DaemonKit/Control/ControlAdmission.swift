import Glibc

/// Who is heard at a socket of the daemon's, and how much each may ask of it.
///
/// Root and the daemon's own user are trusted: they could end the daemon anyway. Everybody else is held to limits that one user cannot
/// fill for the others.
public struct ControlAdmission: Hashable, Sendable {
    /// Whether users other than root and the daemon's own are heard.
    public var isOpenToAll: Bool
    /// Clients that are served at once, at least 1; more wait in the kernel's queue.
    public var clients: Int
    /// Clients of one user, root and the daemon's own excepted, that are served at once; more are sent away.
    public var clientsPerUser: Int
    /// The most bytes that a request may have, its line end not counted.
    public var requestLimit: Int

    /// A rule of one's own; see the two that are named.
    public init(isOpenToAll: Bool, clients: Int, clientsPerUser: Int, requestLimit: Int) {
        self.isOpenToAll = isOpenToAll
        self.clients = max(1, clients)
        self.clientsPerUser = clientsPerUser
        self.requestLimit = requestLimit
    }

    /// For commands that rule the daemon: root and its own user alone.
    public static let owner = Self(
        isOpenToAll: false, clients: 64, clientsPerUser: 0, requestLimit: ControlRequest.sizeLimit)

    /// For short words from anybody, whom the handler must judge.
    public static let everybody = Self(isOpenToAll: true, clients: 64, clientsPerUser: 8, requestLimit: 4 * 1024)

    /// The mode of the socket's file.
    var mode: mode_t { isOpenToAll ? 0o666 : 0o600 }

    /// - Parameters:
    ///   - user: who asks; nil when the kernel could not say.
    ///   - others: how many clients of the same user are being served.
    /// - Returns: why the client is sent away; nil when it is heard.
    func refusal(of user: UInt32?, beside others: Int, own: UInt32 = geteuid()) -> String? {
        if let user, user == 0 || user == own { return nil }
        guard isOpenToAll, user != nil else { return "only root and the daemon's own user may use the control socket" }
        guard others < clientsPerUser else {
            return "your user has \(others) connections here already; try again when one of them has ended"
        }
        return nil
    }
}
