import Glibc
import JobCore
import Provisioning
import SystemPackage

/// A program that the service needs, found in the folders of the settings.
enum Program: String {
    case rsync, setquota, btrfs

    /// The Debian package that brings it.
    var package: String {
        switch self {
        case .rsync: "rsync"
        case .setquota: "quota"
        case .btrfs: "btrfs-progs"
        }
    }

    /// - Throws: code 3 when it is in none of the folders.
    func find(_ configuration: BackupConfiguration) throws(ProvisioningFailure) -> FilePath {
        let candidates = configuration.programDirectories.map { $0.appending(rawValue) }
        if let path = candidates.first(where: { Self.isExecutable($0) }) { return path }
        throw Self.missing(
            "\(rawValue) is in none of "
                + configuration.programDirectories.map(\.string).joined(separator: ", "), package: package)
    }

    static func isExecutable(_ path: FilePath) -> Bool {
        var status = stat()
        return stat(path.string, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path.string, X_OK) == 0
    }

    static func missing(_ reason: String, package: String) -> ProvisioningFailure {
        ProvisioningFailure(
            .runtimeRequirementNotSatisfied, .configuration, reason: reason, cure: "apt install \(package)")
    }
}

extension ScriptRunner {
    /// Runs a program for an account.
    /// - Parameters:
    ///   - code: that of the failure when it cannot be started.
    ///   - cure: what mends that.
    /// - Throws: `ProvisioningFailure` when it could not be started, `CancellationError` when the daemon stops.
    func run(_ invocation: ScriptInvocation, code: ProvisioningExitCode, cure: String) async throws -> ScriptResult {
        let result: ScriptResult
        do throws(ScriptError) {
            result = try await run(invocation)
        } catch {
            if error.code == .cancelled { throw CancellationError() }
            throw ProvisioningFailure(code, error.failureClass, reason: "\(error)", cure: cure)
        }
        if result.cause == .cancellation { throw CancellationError() }
        return result
    }
}

/// A command as a dry run shows it: each argument as it is, quoted where a shell would need it.
struct CommandText: CustomStringConvertible {
    let description: String

    init(_ arguments: [String], environment: [String: String] = [:]) {
        let command = "run " + arguments.map(Self.quoted).joined(separator: " ")
        let variables = environment.sorted { $0.key < $1.key }.map { "  \($0.key)=\(Self.quoted($0.value))" }
        description = ([command] + variables).joined(separator: "\n")
    }

    private static func quoted(_ text: String) -> String {
        let plain = text.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0)
                || "/._-+=@,:".utf8.contains($0)
        }
        return plain && !text.isEmpty
            ? text
            : "'"
                + text.split(separator: "'", omittingEmptySubsequences: false)
                .joined(separator: "'\\''") + "'"
    }
}

extension ScriptResult {
    /// How it ended, in words; nil when all is well.
    var complaint: String? {
        switch (cause, termination) {
        case (.timeLimit, _): "was ended after its time limit"
        case (.cancellation, _): "was ended because the daemon stops"
        case (.itself, .exited(code: 0)): nil
        case (.itself, .exited(let code)): "ended with exit code \(code)"
        case (.itself, .signaled(let number)): "was killed by signal \(number)"
        }
    }

    /// The end of what it wrote, as text for a message.
    var outputTail: String {
        let bytes =
            output.tail.isEmpty ? output.head : output.head.suffix(max(0, 2000 - output.tail.count)) + output.tail
        let text = String(decoding: bytes.suffix(2000), as: UTF8.self)
        let scalars = text.unicodeScalars.map { $0.isControl && $0 != "\n" && $0 != "\t" ? "\u{fffd}" : $0 }
        return String(String.UnicodeScalarView(scalars))
    }
}
