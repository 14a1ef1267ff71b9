import SystemPackage

/// An error for the operator, with the hint and the exit status of the command.
package struct CommandFailure: Error, Hashable, Codable, Sendable, CustomStringConvertible {
    /// What is wrong, and where.
    package let reason: String
    /// How to fix it.
    package let hint: String
    package let status: ProcessExitStatus

    package init(_ reason: String, hint: String, status: ProcessExitStatus = .failure) {
        self.reason = reason
        self.hint = hint
        self.status = status
    }

    package var description: String { "\(reason); \(hint)" }
}

extension CommandFailure {
    /// - Parameter status: unless the permissions are not sufficient.
    init(_ path: FilePath, _ reason: String, _ code: Errno, hint: String, status: ProcessExitStatus) {
        let isForbidden = [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(code)
        self.init("\(path): \(reason): \(code)", hint: hint, status: isForbidden ? .notAllowed : status)
    }
}

/// Exit statuses of the program (sysexits.h). Provisioning commands end with a provisioning exit code instead.
package enum ProcessExitStatus: Int32, Codable, Hashable, Sendable, CaseIterable {
    /// Done.
    case success = 0
    /// Any other failure.
    case failure = 1
    /// The command line is wrong (EX_USAGE).
    case wrongUsage = 64
    /// The LDAP server or the daemon cannot be reached (EX_UNAVAILABLE).
    case unavailable = 69
    /// A temporary failure, such as another running instance (EX_TEMPFAIL).
    case tryAgain = 75
    /// Not allowed (EX_NOPERM).
    case notAllowed = 77
    /// The configuration is wrong (EX_CONFIG).
    case wrongConfiguration = 78
}
