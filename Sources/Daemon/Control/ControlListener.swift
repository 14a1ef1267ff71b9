import CLinux
import Glibc
import SystemPackage

/// The listening socket and its file.
struct ControlListener {
    let descriptor: Int32
    private let path: FilePath
    private let inode: ino_t

    /// - Parameter mode: of the socket's file, whatever the umask.
    /// - Throws: `fileExists` when something that is no socket stands at the path.
    init(path: FilePath, mode: mode_t) throws(Errno) {
        let address = try UnixSocketAddress(path.string)
        try Self.removeStale(path)
        let descriptor = socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        var status = stat()
        // The mode of the socket before bind(2) is the mode that its file is born with: there is no moment at which
        // others could connect, and the process's umask need not be touched.
        guard fchmod(descriptor, mode) == 0,
            address.withSocketAddress({ bind(descriptor, $0, $1) }) == 0,
            chmod(path.string, mode) == 0, listen(descriptor, 128) == 0, lstat(path.string, &status) == 0
        else {
            let code = errno
            Glibc.close(descriptor)
            throw Errno(rawValue: code)
        }
        self.descriptor = descriptor
        self.path = path
        inode = status.st_ino
    }

    private static func removeStale(_ path: FilePath) throws(Errno) {
        var status = stat()
        guard lstat(path.string, &status) == 0 else {
            guard errno == ENOENT else { throw Errno(rawValue: errno) }
            return
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else { throw .fileExists }
        guard unlink(path.string) == 0 || errno == ENOENT else { throw Errno(rawValue: errno) }
    }

    /// A client with its user as the kernel knows it; nil when it has gone again.
    ///
    /// - Throws: `wouldBlock` when nobody waits, and what the kernel says when it cannot take in more.
    func accept() throws(Errno) -> (client: Int32, user: UInt32?)? {
        let client = clinux_accept(descriptor)
        guard client >= 0 else {
            let code = Errno(rawValue: errno)
            guard code == .connectionAbort || code == .interrupted else { throw code }
            return nil
        }
        var (uid, gid, pid): (UInt32, UInt32, Int32) = (.max, .max, 0)
        let isKnown = clinux_peer_credentials(client, &uid, &gid, &pid) == 0
        return (client, isKnown ? uid : nil)
    }

    /// Stops listening and removes the file, unless another socket has taken its name.
    func close() {
        var status = stat()
        if lstat(path.string, &status) == 0, status.st_ino == inode { unlink(path.string) }
        Glibc.close(descriptor)
    }
}

/// Who is heard at a socket of the daemon's, and how much each may ask of it.
///
/// Root and the daemon's own user are trusted: they could end the daemon anyway. Everybody else is held to limits that one user cannot
/// fill for the others.
package struct ControlAdmission: Hashable, Sendable {
    /// Whether users other than root and the daemon's own are heard.
    package var isOpenToAll: Bool
    /// Clients that are served at once, at least 1; more wait in the kernel's queue.
    package var clients: Int
    /// Clients of one user, root and the daemon's own excepted, that are served at once; more are sent away.
    package var clientsPerUser: Int
    /// The most bytes that a request may have, its line end not counted.
    package var requestLimit: Int

    /// A rule of one's own; see the two that are named.
    package init(isOpenToAll: Bool, clients: Int, clientsPerUser: Int, requestLimit: Int) {
        self.isOpenToAll = isOpenToAll
        self.clients = max(1, clients)
        self.clientsPerUser = clientsPerUser
        self.requestLimit = requestLimit
    }

    /// For commands that rule the daemon: root and its own user alone.
    package static let owner = Self(
        isOpenToAll: false, clients: 64, clientsPerUser: 0, requestLimit: ControlRequest.sizeLimit)

    /// For short words from anybody, whom the handler must judge.
    package static let everybody = Self(isOpenToAll: true, clients: 64, clientsPerUser: 8, requestLimit: 4 * 1024)

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
