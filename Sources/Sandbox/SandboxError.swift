/// Why a sandbox could not do what was asked.
package struct SandboxError: Error, CustomStringConvertible, Sendable {
    /// The kinds of failure that a caller may want to tell apart.
    package enum Code: Sendable, Hashable {
        /// The shipped pieces of etc/openldap are not there or not complete.
        case pieces
        /// A program is missing: slapd, slapadd or openssl.
        case missingProgram
        /// The directory cannot be used: it holds something else, or the system refuses.
        case directory
        /// A sandbox already runs in this directory.
        case alreadyRunning
        /// No sandbox runs in this directory.
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
    package let code: Code
    /// What went wrong, and where.
    package let reason: String
    /// What mends it.
    package let hint: String

    init(_ code: Code, _ reason: String, hint: String) {
        self.code = code
        self.reason = reason
        self.hint = hint
    }

    /// The reason and the hint.
    package var description: String { "\(reason); \(hint)" }
}
