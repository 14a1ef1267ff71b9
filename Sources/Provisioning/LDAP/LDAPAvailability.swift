import LDAP
import JobCore
import Logging

/// Logs when the LDAP servers become unreachable and reachable, and whether they accept the credentials: once per change, not once per attempt.
@MainActor final class LDAPAvailability {
    /// Failed attempts of each connection that is down, by its name.
    private var failures: [String: Int] = [:]
    private var announcedError = false
    /// The last error of a connection that is down; nil: none is.
    private(set) var lastError: LDAPError?
    /// What the server answers that refuses what the daemon needs, such as that SERVICE_SUBTREE does not exist; nil: none refuses it.
    private(set) var answer: String?
    private var wasReached = false
    /// The answer of the server that refuses the credentials, and when they are tried again; nil: they are not refused.
    private(set) var refusal: String?
    /// Whether the credentials were refused since they were last accepted.
    private var wereRefused = false
    private var warning: PasswordWarning?
    private let configuration: @MainActor () -> Engine.Configuration
    private let logger: Logger

    /// One element for each time that the credentials are refused.
    let refusals: AsyncStream<Void>
    private let refused: AsyncStream<Void>.Continuation

    init(_ configuration: @escaping @MainActor () -> Engine.Configuration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
        (refusals, refused) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Whether all connections can be made.
    var isAvailable: Bool { failures.isEmpty && refusal == nil }

    /// - Parameter connection: its name, such as `watch`.
    func failed(_ connection: String, _ error: LDAPError) {
        let isFirst = failures.isEmpty
        failures[connection, default: 0] += 1
        let limits = configuration().ldapAttemptsUntilError
        let most = wasReached ? limits.inOperation : limits.atStart
        let answer = Self.answer(error)
        // A server that answers now is another problem than one that did not, and the other way round.
        let isOther = !isFirst && (answer == nil) != (self.answer == nil)
        if isOther { announcedError = false }
        self.answer = answer
        lastError = error
        let state = error.isBusy ? "too busy" : "unreachable"
        let isMany = !announcedError && (failures[connection] ?? 0) >= most
        announcedError = announcedError || isMany
        if isMany {
            logger.error(
                "\(answer ?? "the LDAP server is still \(state), and the daemon keeps trying: \(error)")")
        } else if isFirst || isOther {
            logger.warning("\(answer ?? "the LDAP server is \(state), and is tried again: \(error)")")
        } else {
            logger.debug("the LDAP server was tried again: \(error)", metadata: ["connection": "\(connection)"])
        }
    }

    /// - Returns: nil: no server has answered.
    private static func answer(_ error: LDAPError) -> String? {
        guard !error.isRetryable else { return nil }
        let isAboutAccounts = error.code == .noSuchObject || error.code == .insufficientAccessRights
        return "the LDAP server refuses what the daemon needs: \(error); "
            + (isAboutAccounts ? "check SERVICE_SUBTREE and the access rules: " : "see: ")
            + "prov-backup-rsnapshot check"
    }

    func recovered(_ connection: String) {
        guard let tries = failures.removeValue(forKey: connection), failures.isEmpty else { return }
        let wasAnswer = answer != nil
        (announcedError, answer, lastError) = (false, nil, nil)
        logger.notice(
            "the LDAP server is \(wasAnswer ? "usable" : "reachable") again after \(tries) failed \(tries == 1 ? "attempt" : "attempts")"
        )
    }

    // MARK: Credentials

    func credentialsRefused(_ error: LDAPError, nextTry: Timestamp) {
        let refusal =
            "the LDAP server refuses the daemon's credentials: \(error); the next try is at \(nextTry.text)"
        let remedy =
            (configuration().password.map { "correct \($0) or ADMIN_USER, or set the password at the server, then: " }
                ?? "correct the settings, then: ") + "systemctl reload prov-backup-rsnapshot"
        (self.refusal, wereRefused) = ("\(refusal); to try at once, \(remedy)", true)
        logger.error("\(refusal), so that no password policy locks the account; to try at once, \(remedy)")
        refused.yield()
    }

    /// Whether the credentials are accepted is not known: they are new, or no server answers.
    func forgetRefusal() { refusal = nil }

    /// - Parameter policy: what the server's password policy says of the password.
    func credentialsAccepted(_ policy: PasswordPolicyResponse?, at now: Timestamp) {
        let warning = PasswordWarning(policy, at: now)
        let isBack = wereRefused
        (refusal, wereRefused, wasReached) = (nil, false, true)
        let isNew = warning.map { !$0.isSame(as: self.warning) } ?? false
        self.warning = warning
        if isBack { logger.notice("the LDAP server accepts the daemon's credentials again") }
        guard isNew, let warning else { return }
        logger.warning("\(warning); set a new one at the server and in \(configuration().password ?? "the settings")")
    }
}

/// A password policy's warning about a password that is still accepted.
struct PasswordWarning: Hashable, Sendable, CustomStringConvertible {
    private let expiration: Timestamp?
    private let graceLogins: Int?
    private let fault: PasswordPolicyResponse.Fault?

    /// - Returns: nil when there is no warning.
    init?(_ policy: PasswordPolicyResponse?, at now: Timestamp) {
        expiration = policy?.timeBeforeExpiration.map { now + $0 }
        graceLogins = policy?.graceLogins
        fault = policy?.fault
        if expiration == nil, graceLogins == nil, fault == nil { return nil }
    }

    /// Servers return the seconds that are left, so the same expiration differs by some seconds in each answer.
    func isSame(as other: Self?) -> Bool {
        guard let other, graceLogins == other.graceLogins, fault == other.fault else { return false }
        guard let expiration, let before = other.expiration else { return expiration == other.expiration }
        return expiration - before < .seconds(60) && before - expiration < .seconds(60)
    }

    var description: String {
        let words = [
            expiration.map { "it expires at \($0.text)" },
            graceLogins.map { "it has expired, and the server accepts it \($0) more \($0 == 1 ? "time" : "times")" },
            fault.map { "\($0)" },
        ]
        return "the password of the daemon's LDAP account: " + words.compactMap(\.self).joined(separator: ", ")
    }
}
