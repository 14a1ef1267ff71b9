/// Why an operation did not succeed: what the server or the library said, about what, and what mends it.
public struct DirectoryError: Error, Hashable, Sendable {
    /// The kind of failure.
    public var code: ResultCode
    /// The operation with the DN it was for, such as `modify uid=4001,ou=backup`.
    public var operation: String
    /// The server's URI.
    public var server: String
    /// The last entry that was found on the way to the named one (RFC 4511, section 4.1.9); may be empty.
    public var matchedDN: String
    /// The text of the server or the library for a person; may be empty.
    public var diagnostic: String
    /// The URIs of servers that may do what this one does not (RFC 4511, section 4.1.10).
    public var referrals: [String]
    /// Of a bind: what the server's password policy says; nil: it has none, or does not tell.
    public var passwordPolicy: PasswordPolicyResponse?
    /// Of the start of TLS: why the server's certificate is not accepted; nil: that is not the reason, or it is not known.
    public var certificateFault: CertificateFault?
    /// The connection can no longer be used. What was under way may or may not have been done.
    public var isConnectionLost: Bool

    /// An error about one operation at one server.
    public init(
        _ code: ResultCode, operation: String, server: String, diagnostic: String = "", matchedDN: String = "",
        referrals: [String] = [], isConnectionLost: Bool = false
    ) {
        self.code = code
        self.operation = operation
        self.server = server
        self.matchedDN = matchedDN
        self.diagnostic = diagnostic
        self.referrals = referrals
        self.isConnectionLost = isConnectionLost
    }

    /// The server has too much to do, or is about to go or to come: the same operation may succeed a little later.
    public var isBusy: Bool { code == .busy || code == .unavailable }

    /// Trying again, perhaps over a new connection, may help without anybody changing anything.
    public var isRetryable: Bool { isConnectionLost || isBusy || code == .timeout || code == .connectError }
}

extension DirectoryError: CustomStringConvertible {
    /// One line: operation, server, code, the server's own words, the cure.
    public var description: String {
        var text = "\(operation) at \(server): \(code)"
        if !diagnostic.isEmpty { text += ": \(diagnostic)" }
        if let certificateFault { text += ": \(certificateFault)" }
        if !matchedDN.isEmpty { text += " (found as far as \(matchedDN))" }
        if let fault = passwordPolicy?.fault { text += " (password policy: \(fault))" }
        if !referrals.isEmpty { text += " (refers to \(referrals.joined(separator: ", ")))" }
        if let cure { text += "; \(cure)" }
        return text
    }

    /// What mends it, for the usual ones.
    public var cure: String? {
        if let certificateFault { return certificateFault.hint }
        return switch code {
        case .invalidCredentials where passwordPolicy?.fault == .accountLocked:
            "unlock the account at the server (OpenLDAP: delete pwdAccountLockedTime of the entry)"
        case .invalidCredentials where passwordPolicy?.fault == .passwordExpired: "set a new password at the server"
        case .invalidCredentials:
            "check the bind DN and its password; a DN that does not exist gets the same answer"
        case .insufficientAccessRights:
            "let the server's access rules give the bind DN the right to do this"
        case .noSuchObject: "check the DN, and whether the bind DN may see the entry"
        case .sizeLimitExceeded, .adminLimitExceeded, .timeLimitExceeded:
            "the result is not whole and must not be acted on; raise the limits for the bind DN"
                + " (slapd.conf: limits dn.exact=\"…\" size=unlimited time=unlimited)"
        case .unavailableCriticalExtension:
            "the server lacks a control that is needed; load the overlay that gives it (Content Sync: overlay syncprov)"
        case .referral:
            "this server is a replica or does not hold the entry; put "
                + (referrals.isEmpty ? "its provider" : referrals.joined(separator: " or ")) + " first in SERVER"
        case .confidentialityRequired, .strongerAuthRequired: "use ldaps://, StartTLS or ldapi://"
        case .undefinedAttributeType, .objectClassViolation: "check that the server has loaded the schema"
        case .syncRefreshRequired: "begin anew without a cookie"
        case .connectError where Self.usesTLS.contains(operation):
            "check that the server speaks TLS at this port, that its certificate is for this name, and that TLS_CA_FILE holds"
                + " its authority's"
        case .connectError: "check the server's name and port, that it runs, and that no firewall is between"
        case .timeout: "the server did not answer in time; check its load, or raise the time limit"
        default: nil
        }
    }

    /// The operations that begin TLS.
    static let usesTLS = ["TLS handshake", "StartTLS"]
}

extension DirectoryError {
    /// The error that a server's answer is.
    init(_ outcome: Outcome, operation: String, server: String) {
        self.init(
            outcome.code, operation: operation, server: server, diagnostic: outcome.diagnostic,
            matchedDN: outcome.matchedDN, referrals: outcome.referrals)
    }
}
