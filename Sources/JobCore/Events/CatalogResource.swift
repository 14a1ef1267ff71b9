/// Where the directory is reached, as handlers see it (specification: rows.md B7, CatalogRes). It has no place for the password: handlers read `redacted`.
public struct CatalogResource: Hashable, Sendable {
    /// The subtree's DN.
    public var base: String
    /// The server's name or address; empty for a local socket.
    public var address: String
    /// As whom the daemon binds; empty for nobody.
    public var bindDN: String
    /// The local socket's path; empty for a server that is reached over the network.
    public var socket: String
    /// 0 for a local socket.
    public var port: Int
    /// The kind of server, such as `OpenLDAP`.
    public var vendor: String

    /// A directory as handlers see it.
    public init(base: String, address: String, bindDN: String, socket: String, port: Int, vendor: String) {
        self.base = base
        self.address = address
        self.bindDN = bindDN
        self.socket = socket
        self.port = port
        self.vendor = vendor
    }
}
