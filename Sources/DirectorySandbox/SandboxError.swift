/// Why a sandbox could not do what was asked.
public struct SandboxError: Error, CustomStringConvertible, Sendable {
    /// The kinds of failure that a caller may want to tell apart.
    public enum Code: Sendable, Hashable {
        /// The shipped pieces of etc/openldap are not there or not complete.
        case pieces
        /// A program is missing: slapd, slapadd or openssl.
        case missingProgram
        /// The folder cannot be used: it holds something else, or the system refuses.
        case folder
        /// A sandbox already runs in this folder.
        case alreadyRunning
        /// No sandbox runs in this folder.
        case notRunning
        /// Another program uses the port.
        case portInUse
        /// The server or one of its tools ended with an error.
        case serverFailed
        /// The server does not answer, or does not end, in the time that was given.
        case timeout
        /// An option has a value that cannot be meant.
        case option
    }

    /// Which kind of failure it is.
    public let code: Code
    /// What went wrong, and where.
    public let reason: String
    /// What mends it.
    public let hint: String

    init(_ code: Code, _ reason: String, hint: String) {
        self.code = code
        self.reason = reason
        self.hint = hint
    }

    /// The reason and the hint.
    public var description: String { "\(reason); \(hint)" }
}
