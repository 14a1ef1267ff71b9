import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage

/// Asks rsnapshot itself about a configuration, which costs the start of a Perl program: so, by default, only about the first file
/// made from each template with each rsnapshot.
final class ConfigurationTester: Sendable {
    private struct Pair: Hashable {
        var template: String
        var rsnapshot: FileVersion
    }

    private let accepted = Mutex<Set<Pair>>([])

    /// - Throws: code 7 with rsnapshot's words, or `CancellationError`.
    func test(
        _ file: FilePath, template: String, configuration: BackupConfiguration, in attempt: RunningAttempt
    ) async throws {
        guard configuration.configurationTest != .never else { return }
        let pair = Self.pair(template, configuration.rsnapshot)
        if configuration.configurationTest == .template, let pair, accepted.withLock({ $0.contains(pair) }) { return }

        let arguments = ["-c", file.string, "configtest"]
        let result = try await attempt.run(
            ScriptInvocation(
                executable: configuration.rsnapshot, arguments: arguments, environment: configuration.baseEnvironment,
                timeLimit: .seconds(60), grace: .seconds(5)),
            code: .runtimeRequirementNotSatisfied, cure: "apt install rsnapshot")
        if let complaint = result.complaint {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, result.cause == .timeLimit ? .retryable : .permanent,
                reason: "\(configuration.rsnapshot) \(arguments.joined(separator: " ")) \(complaint): "
                    + result.outputTail.split(separator: "\n").filter { !$0.allSatisfy { "-".contains($0) } }
                    .joined(separator: " "),
                cure: "correct \(configuration.template)", output: result.outputTail)
        }
        if let pair { accepted.withLock { _ = $0.insert(pair) } }
    }

    private static func pair(_ template: String, _ rsnapshot: FilePath) -> Pair? {
        var status = stat()
        guard stat(rsnapshot.string, &status) == 0 else { return nil }
        return Pair(template: template, rsnapshot: FileVersion(status))
    }
}
