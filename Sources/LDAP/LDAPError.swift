/// Why an operation failed: the answer of the server or the library, the operation, and the hint.
public struct LDAPError: Error, Hashable, Sendable {
    /// The kind of failure.
    public var code: ResultCode
    /// The operation with its DN, such as `modify uid=4001,ou=backup`.
    public var operation: String
    /// The server's URI.
    public var server: String
    /// The deepest existing ancestor of the named entry (RFC 4511, section 4.1.9); may be empty.
    public var matchedDN: String
    /// The message of the server or the library; may be empty.
    public var diagnostic: String
    /// The URIs of servers that may do what this one does not (RFC 4511, section 4.1.10).
    public var referrals: [String]
    /// The password policy's answer to a bind; nil: the server sent none.
    public var passwordPolicy: PasswordPolicyResponse?
    /// Why the server's certificate is refused at the start of TLS; nil: unknown, or another reason.
    public var certificateFault: CertificateFault?
    /// The connection can no longer be used. The outcome of pending operations is unknown.
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

    /// The server is overloaded, or stops or starts: the same operation may succeed later.
    public var isBusy: Bool { code == .busy || code == .unavailable }

    /// Another attempt, perhaps over a new connection, may succeed without any other change.
    public var isRetryable: Bool { isConnectionLost || isBusy || code == .timeout || code == .connectError }

    /// A replica refuses a write: it refers to its provider, or is OpenLDAP's without `updateref`.
    package var isReplicaRefusal: Bool {
        code == .referral || code == .unwillingToPerform && diagnostic.contains("shadow context")
    }

    /// The addresses of ``referrals`` as SERVER takes them; words, if there are none.
    package var provider: String {
        let addresses = referrals.map { uri in
            let parts = uri.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
            return parts.count > 2 ? "\(parts[0])//\(parts[2])" : uri
        }
        return addresses.isEmpty ? "its provider" : addresses.joined(separator: " or ")
    }
}

extension LDAPError: CustomStringConvertible {
    /// One line: operation, server, code, the server's message, the hint.
    public var description: String { reason + (hint.map { "; \($0)" } ?? "") }

    /// The description without the hint.
    package var reason: String {
        var text = "\(operation) at \(server): \(code)"
        if !diagnostic.isEmpty { text += ": \(diagnostic)" }
        if let certificateFault { text += ": \(certificateFault)" }
        if !matchedDN.isEmpty { text += " (found as far as \(matchedDN))" }
        if let fault = passwordPolicy?.fault { text += " (password policy: \(fault))" }
        if !referrals.isEmpty { text += " (refers to \(referrals.joined(separator: ", ")))" }
        return text
    }

    /// How to fix it, for the usual codes.
    public var hint: String? {
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
            "this server is a replica or does not hold the entry; put \(provider) first in SERVER"
        case .confidentialityRequired, .strongerAuthRequired: "use ldaps://, StartTLS or ldapi://"
        case .undefinedAttributeType: "check that the server has loaded the schema"
        case .invalidAttributeSyntax where diagnostic.hasPrefix("objectClass:"):
            "check that the server has loaded the schema, and the name of the object class"
        case .objectClassViolation where diagnostic.contains("requires attribute"): "add the attribute to the entry"
        case .objectClassViolation:
            "check that the server has loaded the schema, and that the entry has an object class that permits its attributes"
        case .entryAlreadyExists: "leave out what is there already, or change it by a record with changetype: modify"
        case .unwillingToPerform where diagnostic.contains("no global superior knowledge"):
            "check the end of the DN: it is below none of the suffixes of this server's databases"
        case .syncRefreshRequired: "start again without a cookie"
        case .connectError where Self.usesTLS.contains(operation):
            "check that the server speaks TLS at this port, that its certificate is for this name, and that TLS_CA_FILE holds"
                + " its authority's"
        case .connectError: "check the server's name and port, that it runs, and that no firewall is between"
        case .timeout where operation == Self.connecting:
            "the server did not answer in time; check that it runs, its load and the network, or raise CONNECT_TIMEOUT"
        case .timeout: "the server did not answer in time; check its load, or raise OPERATION_TIMEOUT"
        default: nil
        }
    }

    /// The operation of an attempt to connect, up to its bind.
    static let connecting = "connect"
    /// The operations that start TLS.
    static let usesTLS = ["TLS handshake", "StartTLS"]
}

extension LDAPError {
    /// The same for another operation of the same connection.
    func about(_ operation: String) -> LDAPError {
        var error = self
        error.operation = operation
        return error
    }

    /// The error in a server's answer.
    init(_ outcome: Outcome, operation: String, server: String) {
        self.init(
            outcome.code, operation: operation, server: server, diagnostic: outcome.diagnostic,
            matchedDN: outcome.matchedDN, referrals: outcome.referrals)
    }
}

/// A result code of the protocol (RFC 4511, appendix A, and its successors), or a negative one of the
/// client library for requests or answers that were not delivered.
public struct ResultCode: RawRepresentable, Hashable, Sendable {
    /// The number on the wire; negative for the library's own.
    public let rawValue: Int32

    /// - Parameter rawValue: any number.
    public init(rawValue: Int32) { self.rawValue = rawValue }

    private init(_ rawValue: Int32) { self.rawValue = rawValue }

    /// Those that the program knows, by their names in RFC 4511, appendix A.1 (122: RFC 4528; 4096: RFC 4533).
    public static let success = Self(0), timeLimitExceeded = Self(3), sizeLimitExceeded = Self(4),
        strongerAuthRequired = Self(8), referral = Self(10), adminLimitExceeded = Self(11),
        unavailableCriticalExtension = Self(12), confidentialityRequired = Self(13), noSuchAttribute = Self(16),
        undefinedAttributeType = Self(17), constraintViolation = Self(19), attributeOrValueExists = Self(20),
        invalidAttributeSyntax = Self(21), noSuchObject = Self(32), inappropriateAuthentication = Self(48),
        invalidCredentials = Self(49), insufficientAccessRights = Self(50), busy = Self(51), unavailable = Self(52),
        unwillingToPerform = Self(53), objectClassViolation = Self(65), entryAlreadyExists = Self(68), other = Self(80),
        canceled = Self(118), assertionFailed = Self(122), syncRefreshRequired = Self(4096)

    /// The client library's own, by their names in ldap.h.
    public static let serverDown = Self(-1), localError = Self(-2), encodingError = Self(-3), decodingError = Self(-4),
        timeout = Self(-5), filterError = Self(-7), userCancelled = Self(-8), paramError = Self(-9),
        noMemory = Self(-10), connectError = Self(-11), notSupported = Self(-12)

    private static let names: [Int32: String] = [
        0: "success", 1: "operationsError", 2: "protocolError", 3: "timeLimitExceeded", 4: "sizeLimitExceeded",
        5: "compareFalse", 6: "compareTrue", 7: "authMethodNotSupported", 8: "strongerAuthRequired", 10: "referral",
        11: "adminLimitExceeded", 12: "unavailableCriticalExtension", 13: "confidentialityRequired",
        14: "saslBindInProgress", 16: "noSuchAttribute", 17: "undefinedAttributeType", 18: "inappropriateMatching",
        19: "constraintViolation", 20: "attributeOrValueExists", 21: "invalidAttributeSyntax", 32: "noSuchObject",
        33: "aliasProblem", 34: "invalidDNSyntax", 36: "aliasDereferencingProblem", 48: "inappropriateAuthentication",
        49: "invalidCredentials", 50: "insufficientAccessRights", 51: "busy", 52: "unavailable",
        53: "unwillingToPerform", 54: "loopDetect", 64: "namingViolation", 65: "objectClassViolation",
        66: "notAllowedOnNonLeaf", 67: "notAllowedOnRDN", 68: "entryAlreadyExists", 69: "objectClassModsProhibited",
        71: "affectsMultipleDSAs", 80: "other", 118: "canceled", 119: "noSuchOperation", 120: "tooLate",
        121: "cannotCancel", 122: "assertionFailed", 123: "authorizationDenied", 4096: "e-syncRefreshRequired",
        -1: "serverDown", -2: "localError", -3: "encodingError", -4: "decodingError", -5: "timeout", -6: "authUnknown",
        -7: "filterError", -8: "userCancelled", -9: "paramError", -10: "noMemory", -11: "connectError",
        -12: "notSupported",
    ]
}

extension ResultCode: CustomStringConvertible {
    /// The name in the RFC with the number: `noSuchObject (32)`.
    public var description: String { "\(Self.names[rawValue] ?? "result") (\(rawValue))" }
}
