import Glibc

/// How TLS is used.
public struct TLSOptions: Hashable, Sendable {
    /// What becomes of a server whose certificate is not trusted or names another host.
    public enum Requirement: String, CaseIterable, Hashable, Sendable {
        /// It is refused. The default.
        case demand
        /// It is accepted, as is one without a certificate: encrypted, but with nobody known.
        case allow
        /// Its certificate is not even looked at: the same, without the warning in the library's log.
        case never
    }

    /// Begin TLS on an `ldap://` connection before anything else (RFC 4511, section 4.14). Not used for `ldaps` and `ldapi`.
    public var startTLS: Bool
    /// PEM file with the authorities that are trusted; nil means the system's list.
    public var caFile: String?
    /// PEM file with our own certificate; needs `keyFile`.
    public var certificateFile: String?
    /// PEM file with the key of our own certificate.
    public var keyFile: String?
    /// What is asked of the server's certificate.
    public var requirement: Requirement

    /// TLS as the arguments say; by default a trusted certificate is demanded and StartTLS is not used.
    public init(
        startTLS: Bool = false, caFile: String? = nil, certificateFile: String? = nil, keyFile: String? = nil,
        requirement: Requirement = .demand
    ) {
        self.startTLS = startTLS
        self.caFile = caFile
        self.certificateFile = certificateFile
        self.keyFile = keyFile
        self.requirement = requirement
    }

    /// The file with the authorities that are trusted: ``caFile``, or the system's list; nil where there is none.
    public var authorities: String? {
        caFile ?? Self.systemAuthorities.first { unsafe access($0, R_OK) == 0 }
    }

    /// Where systems keep their list: Debian and Arch, Red Hat, SUSE, Alpine.
    static let systemAuthorities = [
        "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ]
}

/// How a connection is made and how long anything may take.
public struct ConnectionOptions: Hashable, Sendable {
    /// How TLS is used.
    public var tls: TLSOptions
    /// Who we are for the server.
    public var credentials: Credentials
    /// For everything until the connection can be used: looking the name up, connecting, TLS handshake and bind together.
    public var connectTimeout: Duration
    /// For one operation, from asking for it to its result; for a search, for each page.
    public var operationTimeout: Duration

    /// By default anonymous, ten seconds for connecting and thirty for an operation.
    public init(
        tls: TLSOptions = TLSOptions(), credentials: Credentials = .anonymous, connectTimeout: Duration = .seconds(10),
        operationTimeout: Duration = .seconds(30)
    ) {
        self.tls = tls
        self.credentials = credentials
        self.connectTimeout = connectTimeout
        self.operationTimeout = operationTimeout
    }
}

/// Who we are for the server.
public enum Credentials: Hashable, Sendable {
    /// Nobody: no bind is sent.
    case anonymous
    /// A DN and its password (RFC 4513, section 5.1.3). An empty password is refused before anything is sent: servers take it for anonymous
    /// and answer with success (section 5.1.2).
    case simple(bindDN: DN, password: Secret)
    /// Who the layer below says: the user of this process over `ldapi`, the client certificate over TLS (SASL EXTERNAL, RFC 4422).
    case external
}

/// A text that does not show itself in messages, logs or debuggers.
public struct Secret: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    private let text: String

    /// Hides the text.
    public init(_ text: String) { self.text = text }

    /// The text itself, for whom must have it.
    public func expose() -> String { text }

    /// Never the text.
    public var description: String { "(secret)" }
    /// Never the text.
    public var debugDescription: String { description }
    /// Never the text.
    public var customMirror: Mirror { Mirror(self, children: []) }
}
