import Glibc

/// The settings of TLS.
public struct TLSOptions: Hashable, Sendable {
    /// The treatment of a certificate that is not trusted or names another host.
    public enum Requirement: String, CaseIterable, Hashable, Sendable {
        /// The connection is refused. The default.
        case demand
        /// The connection is used, also without a certificate: encrypted, but the server is not authenticated.
        case allow
        /// The certificate is not checked: the same, without the warning in the library's log.
        case never
    }

    /// Start TLS on an `ldap://` connection before anything else (RFC 4511, section 4.14). Not used for `ldaps` and `ldapi`.
    public var startTLS: Bool
    /// PEM file with the trusted authorities; nil: the system's list.
    public var caFile: String?
    /// PEM file with our own certificate; needs `keyFile`.
    public var certificateFile: String?
    /// PEM file with the key of our own certificate.
    public var keyFile: String?
    /// The check of the server's certificate.
    public var requirement: Requirement

    /// By default a trusted certificate is required, and StartTLS is not used.
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

    /// The file with the trusted authorities: ``caFile``, or the system's list; nil: none was found.
    public var authorities: String? {
        caFile ?? Self.systemAuthorities.first { unsafe access($0, R_OK) == 0 }
    }

    /// The system's list on Debian and Arch, Red Hat, SUSE, Alpine.
    static let systemAuthorities = [
        "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ]
}

/// The settings of a connection.
public struct ConnectionOptions: Hashable, Sendable {
    /// The settings of TLS.
    public var tls: TLSOptions
    /// The credentials of the bind.
    public var credentials: Credentials
    /// The time limit for name resolution, connect, TLS handshake and bind together.
    public var connectTimeout: Duration
    /// The time limit of an operation, until its result; of a search, for each page.
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

/// The credentials of a bind.
public enum Credentials: Hashable, Sendable {
    /// Anonymous: no bind is sent.
    case anonymous
    /// A DN and its password (RFC 4513, section 5.1.3). An empty password is refused without a request: servers treat it as anonymous
    /// and answer with success (section 5.1.2).
    case simple(bindDN: DN, password: Secret)
    /// The identity from the layer below: the user of this process over `ldapi`, the client certificate over TLS (SASL EXTERNAL, RFC 4422).
    case external
}

/// A text that is not shown in messages, logs or debuggers.
public struct Secret: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    private let text: String

    /// Hides the text.
    public init(_ text: String) { self.text = text }

    /// The text.
    public func expose() -> String { text }

    /// Never the text.
    public var description: String { "(secret)" }
    /// Never the text.
    public var debugDescription: String { description }
    /// Never the text.
    public var customMirror: Mirror { Mirror(self, children: []) }
}
