import ArgumentParser
import Daemon
import LDAP
import Sandbox
import Glibc
import JobCore

/// Why a command cannot do what it was asked, and what mends it.
struct CommandFailure: Error, CustomStringConvertible {
    let reason: String
    let hint: String
    let status: ProcessExitStatus

    init(_ reason: String, hint: String, status: ProcessExitStatus = .failure) {
        self.reason = reason
        self.hint = hint
        self.status = status
    }

    var description: String { "\(reason); \(hint)" }

    /// A directory's error as a command's failure.
    init(_ error: LDAPError) {
        let status: ProcessExitStatus =
            switch error.code {
            case .insufficientAccessRights, .invalidCredentials, .inappropriateAuthentication: .notAllowed
            default: error.isRetryable ? .unavailable : .failure
            }
        self.init(error.description, hint: "nothing was changed", status: status)
    }

    /// Runs what deals with a sandbox, with its errors as failures of the command.
    static func translatingSandbox<Result>(_ body: () throws -> Result) throws -> Result {
        do { return try body() } catch let error as SandboxError {
            throw CommandFailure(error.reason, hint: error.hint)
        }
    }

    /// The same for what takes its time.
    static func translatingSandbox<Result>(_ body: () async throws -> Result) async throws -> Result {
        do { return try await body() } catch let error as SandboxError {
            throw CommandFailure(error.reason, hint: error.hint)
        }
    }

    /// Runs what talks to the directory, with its errors as failures of the command.
    static func translating<Result>(_ body: () async throws -> Result) async throws -> Result {
        do {
            return try await body()
        } catch let error as LDAPError {
            throw CommandFailure(error)
        }
    }
}

/// Writes a line to standard error.
func printError(_ text: String) {
    StandardError.write("prov-backup-rsnapshot: \(OneLine.of(text))\n")
}
