/// What a server's password policy says about a bind (draft-behera-ldap-password-policy-11, section 6.2). All may be missing: a policy
/// counts the attempts and has nothing to say.
public struct PasswordPolicyResponse: Hashable, Sendable {
    /// Why a bind was refused, or all that a bound client may do. The other numbers of the draft are about changes of passwords.
    public enum Fault: Int, Hashable, Sendable {
        /// The password is too old, and no grace logins are left.
        case passwordExpired = 0
        /// The account is locked, by an administrator or after too many wrong passwords.
        case accountLocked = 1
        /// The bind has succeeded, and until the password is changed the server does nothing else.
        case changeAfterReset = 2
    }

    /// How long the password holds still.
    public var timeBeforeExpiration: Duration?
    /// How many more binds an expired password is good for.
    public var graceLogins: Int?
    /// What is wrong.
    public var fault: Fault?

    /// By default nothing is said.
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
