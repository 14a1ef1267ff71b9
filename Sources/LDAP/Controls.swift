import CLDAP
import Synchronization

/// A control of a request, a response, or an LDIF record (RFC 4511, section 4.1.11).
package struct Control: Hashable, Sendable {
    /// A dotted number.
    package let identifier: String
    /// Whether a server that does not know the control must refuse the request.
    package let isCritical: Bool
    package let value: [UInt8]?

    package init(_ identifier: String, isCritical: Bool = false, value: [UInt8]? = nil) {
        self.identifier = identifier
        self.isCritical = isCritical
        self.value = value
    }

    /// Asks for the operation only if the filter matches the entry, else for assertionFailed (RFC 4528).
    /// - Returns: nil when the filter is malformed.
    static func assertion(_ filter: Filter) -> Control? {
        filter.encoded.map { Control(ServerFeature.assertion.rawValue, isCritical: true, value: $0) }
    }

    /// Asks for the entry after the operation (RFC 4527). Not critical: a server that does not support it still performs the operation.
    static func postRead(_ attributes: [AttributeName]) -> Control {
        let selection = attributes.flatMap { BER.element(BER.octets, $0.spelling) }
        return Control(ServerFeature.postRead.rawValue, value: BER.element(BER.sequence, selection))
    }

    /// Asks for the next `size` entries after `cookie` (RFC 2696). Critical: otherwise a server might send everything.
    static func page(size: Int, cookie: [UInt8]) -> Control {
        let value = BER.number(BER.integer, size) + BER.element(BER.octets, cookie)
        return Control(
            ServerFeature.pagedResults.rawValue, isCritical: true, value: BER.element(BER.sequence, value))
    }

    /// Asks for the answer of the password policy to a bind (draft-behera-ldap-password-policy-11, section 6.1).
    static let passwordPolicy = Control(passwordPolicyIdentifier)

    fileprivate static let passwordPolicyIdentifier = "1.3.6.1.4.1.42.2.27.8.5.1"

    /// Asks for Content Synchronization (RFC 4533, section 2.2). Critical: otherwise the server might answer a plain search.
    static let syncRequest = Control(
        ServerFeature.contentSync.rawValue, isCritical: true,
        value: BER.element(BER.sequence, BER.number(BER.enumerated, refreshAndPersist)))

    private static let refreshAndPersist = 3
}

extension [Control] {
    /// The cookie for the next page; nil when this was the last one.
    func nextPage() throws(BERReader.Malformed) -> [UInt8]? {
        guard let bytes = value(of: ServerFeature.pagedResults.rawValue) else { return nil }
        var reader = BERReader(bytes)
        var members = try reader.members(BER.sequence)
        _ = try members.number(BER.integer)
        let cookie = try members.content(BER.octets)
        return cookie.isEmpty ? nil : [UInt8](cookie)
    }

    /// The entry of a post-read response; nil when the server sent none.
    func postRead() throws(BERReader.Malformed) -> Entry? {
        guard let bytes = value(of: ServerFeature.postRead.rawValue) else { return nil }
        return try Entry(encoded: bytes)
    }

    /// The answer of the password policy; nil when the server sent none, or it cannot be parsed: a bind does not depend on it.
    var passwordPolicy: PasswordPolicyResponse? {
        value(of: Control.passwordPolicyIdentifier).flatMap { try? PasswordPolicyResponse(encoded: $0) }
    }

    func value(of identifier: String) -> [UInt8]? { first(where: { $0.identifier == identifier })?.value }
}

extension Entry {
    /// A SearchResultEntry (RFC 4511, section 4.5.2) in the value of a control.
    init(encoded bytes: [UInt8]) throws(BERReader.Malformed) {
        var reader = BERReader(bytes)
        var members = try reader.members(Entry.resultTag)
        guard let name = String(validating: try members.content(BER.octets), as: UTF8.self) else {
            throw BERReader.Malformed()
        }
        let dn: DN
        do { dn = try DN(parsing: name) } catch { throw BERReader.Malformed() }
        self.init(dn: dn)
        var list = try members.members(BER.sequence)
        while !list.isAtEnd {
            var attribute = try list.members(BER.sequence)
            guard let type = String(validating: try attribute.content(BER.octets), as: UTF8.self) else {
                throw BERReader.Malformed()
            }
            var set = try attribute.members(BER.set)
            var values: [AttributeValue] = []
            while !set.isAtEnd { values.append(AttributeValue(bytes: try set.content(BER.octets))) }
            attributes.append(Attribute(AttributeName(unchecked: type), values))
        }
    }

    /// `[APPLICATION 4]`, constructed.
    static var resultTag: UInt8 { 0x64 }
}

// MARK: - Filters

extension Filter {
    /// Reads a filter that a user wrote.
    /// - Returns: nil when libldap would refuse it, or when it has no parentheses and could not be part of another filter.
    public init?(parsing text: String) {
        self.init(unchecked: text)
        guard text.hasPrefix("("), encoded != nil else { return nil }
    }

    /// A handle without a connection, for one thread at a time; making one takes longer than the encoding. nil: not made yet.
    private nonisolated(unsafe) static var encoder: OpaquePointer?
    private static let isEncoding = Mutex(())

    /// The filter in BER (RFC 4511, section 4.5.1.7), the value of an assertion control; nil when it is malformed.
    var encoded: [UInt8]? {
        var arena = CArena()
        guard LDAPLibrary.isReady, let text = unsafe try? arena.string(description) else { return nil }
        var value = unsafe berval()
        let code = Self.isEncoding.withLock { _ in
            let made = unsafe Self.encoder == nil ? ldap_create(&Self.encoder) : LDAP_SUCCESS
            return unsafe made == LDAP_SUCCESS ? ldap_create_assertion_control_value(Self.encoder, text, &value) : made
        }
        guard code == LDAP_SUCCESS else { return nil }
        defer { unsafe ber_memfree(value.bv_val) }
        return unsafe [UInt8](UnsafeRawBufferPointer(start: value.bv_val, count: Int(value.bv_len)))
    }
}

// MARK: - Password policy

/// The answer of a server's password policy to a bind (draft-behera-ldap-password-policy-11, section 6.2). All members may be missing: the policy
/// counts the attempts and has no warning.
public struct PasswordPolicyResponse: Hashable, Sendable {
    /// Why a bind was refused, or all that a bound client may do. The other numbers of the draft are about changes of passwords.
    public enum Fault: Int, Hashable, Sendable {
        /// The password is too old, and no grace logins are left.
        case passwordExpired = 0
        /// The account is locked, by an administrator or after too many wrong passwords.
        case accountLocked = 1
        /// The bind has succeeded, and until the password is changed the server refuses all other operations.
        case changeAfterReset = 2
    }

    /// The time until the password expires.
    public var timeBeforeExpiration: Duration?
    /// The number of binds that are left for an expired password.
    public var graceLogins: Int?
    /// The reason.
    public var fault: Fault?

    /// By default empty.
    public init(timeBeforeExpiration: Duration? = nil, graceLogins: Int? = nil, fault: Fault? = nil) {
        self.timeBeforeExpiration = timeBeforeExpiration
        self.graceLogins = graceLogins
        self.fault = fault
    }

    /// - Parameter bytes: the value of the control.
    init(encoded bytes: [UInt8]) throws(BERReader.Malformed) {
        var reader = BERReader(bytes)
        var members = try reader.members(BER.sequence)
        if let warning = try members.optional(BER.context(0, constructed: true)) {
            var choice = BERReader(warning)
            if choice.nextTag == BER.context(0) {
                timeBeforeExpiration = .seconds(try choice.number(BER.context(0)))
            } else {
                graceLogins = try choice.number(BER.context(1))
            }
        }
        if !members.isAtEnd { fault = Fault(rawValue: try members.number(BER.context(1))) }
    }
}

extension PasswordPolicyResponse.Fault: CustomStringConvertible {
    /// A sentence.
    public var description: String {
        switch self {
        case .passwordExpired: "the password has expired"
        case .accountLocked: "the account is locked"
        case .changeAfterReset: "the password must be changed before the server does anything else"
        }
    }
}
