import ArgumentParser
import DaemonKit
import DirectoryClient
import DirectorySandbox
import Glibc
import JobCore

/// Why a command cannot do what it was asked, and what mends it.
struct CommandFailure: Error, CustomStringConvertible {
    let reason: String
    let cure: String
    let status: ProcessExitStatus

    init(_ reason: String, cure: String, status: ProcessExitStatus = .failure) {
        self.reason = reason
        self.cure = cure
        self.status = status
    }

    var description: String { "\(reason); \(cure)" }

    /// A directory's error as a command's failure.
    init(_ error: DirectoryError) {
        let status: ProcessExitStatus =
            switch error.code {
            case .insufficientAccessRights, .invalidCredentials, .inappropriateAuthentication: .notAllowed
            default: error.isRetryable ? .unavailable : .failure
            }
        self.init(error.description, cure: "nothing was changed", status: status)
    }

    /// Runs what deals with a sandbox, with its errors as failures of the command.
    static func translatingSandbox<Result>(_ body: () throws -> Result) throws -> Result {
        do { return try body() } catch let error as SandboxError {
            throw CommandFailure(error.reason, cure: error.cure)
        }
    }

    /// The same for what takes its time.
    static func translatingSandbox<Result>(_ body: () async throws -> Result) async throws -> Result {
        do { return try await body() } catch let error as SandboxError {
            throw CommandFailure(error.reason, cure: error.cure)
        }
    }

    /// Runs what talks to the directory, with its errors as failures of the command.
    static func translating<Result>(_ body: () async throws -> Result) async throws -> Result {
        do {
            return try await body()
        } catch let error as DirectoryError {
            throw CommandFailure(error)
        }
    }
}

/// Writes a line to standard error.
func printError(_ text: String) {
    StandardError.write("prov-backup-rsnapshot: \(OneLine.of(text))\n")
}
