import EventLoop
import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage

/// Updates the account's rsnapshot configuration; a file with the right text is not touched.
struct ConfigurationStep: ProvisioningStep {
    let file: ConfigurationFile
    let text: String
    /// The text of the template.
    let template: String
    let configuration: BackupConfiguration
    let tester: ConfigurationTester
    let name = "rsnapshot configuration"
    /// The text as of the plan; nil: there was none.
    private let planned: String?
    /// Whether there was nothing to do as of the plan, and no earlier step can have changed that.
    private let isDone: Bool

    /// - Parameter isFirst: whether the step is the plan's first, so that nothing changes between plan and step.
    init(
        file: ConfigurationFile, text: String, template: String, configuration: BackupConfiguration,
        tester: ConfigurationTester, isFirst: Bool
    ) throws(ProvisioningFailure) {
        self.file = file
        self.text = text
        self.template = template
        self.configuration = configuration
        self.tester = tester
        planned = try file.current()
        guard isFirst, planned == text else {
            isDone = false
            return
        }
        isDone = try !file.hasTemporary()
    }

    var preview: String {
        planned == text
            ? "unchanged: \(file.path)"
            : "write \(file.path) (0640)\n" + Self.difference(from: planned, to: text)
    }

    func perform(in attempt: RunningAttempt) async throws {
        if isDone { return }
        let (file, text) = (file, text)
        let isWritten = try await BlockingWork.run { _ in
            if try file.current() == text {
                try file.removeTemporary()
                return false
            }
            try file.writeTemporary(text)
            return true
        }
        guard isWritten else { return }
        do {
            try await tester.test(
                file.temporaryPath, template: template, configuration: configuration, in: attempt)
        } catch {
            try await BlockingWork.run { _ in try file.removeTemporary() }
            throw error
        }
        try await BlockingWork.run { _ in try file.putTemporaryInPlace() }
    }

    // MARK: - The difference of two texts

    /// All lines, with `-` (removed), `+` (added) or a blank (kept) before them; empty for equal texts.
    static func difference(from old: String?, to new: String) -> String {
        guard old != new else { return "" }
        let before = lines(old ?? "")
        let after = lines(new)
        let difference = after.difference(from: before)
        func offset(_ change: CollectionDifference<String>.Change) -> Int {
            switch change {
            case .insert(let offset, _, _), .remove(let offset, _, _): offset
            }
        }
        let removed = Set(difference.removals.map(offset))
        let inserted = Set(difference.insertions.map(offset))

        var result: [String] = []
        var place = 0
        for (index, line) in after.enumerated() {
            while place < before.count, removed.contains(place) {
                result.append("-" + before[place])
                place += 1
            }
            if inserted.contains(index) {
                result.append("+" + line)
            } else {
                result.append(" " + line)
                place += 1
            }
        }
        result += before.indices.dropFirst(place).map { "-" + before[$0] }
        return result.joined(separator: "\n")
    }

    private static func lines(_ text: String) -> [String] {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        return lines
    }
}

/// Removes the account's rsnapshot configuration, so that no more snapshots are made.
struct ConfigurationRemovalStep: ProvisioningStep {
    let file: ConfigurationFile
    let name = "rsnapshot configuration"

    var preview: String { "remove \(file.path)" }

    func perform(in attempt: RunningAttempt) async throws {
        let file = file
        try await BlockingWork.run { _ in try file.remove() }
    }
}

/// Runs `rsnapshot configtest` for a new file. Since that starts a Perl program, it is done by default only for the first file of each template
/// with each rsnapshot.
final class ConfigurationTester: Sendable {
    /// The version of rsnapshot that has accepted a file of a template, by the template's text.
    private let accepted = Mutex<[String: FileVersion]>([:])

    /// - Throws: code 7 with rsnapshot's output; `CancellationError`.
    func test(
        _ file: FilePath, template: String, configuration: BackupConfiguration, in attempt: RunningAttempt
    ) async throws {
        guard configuration.configurationTest != .never else { return }
        var status = stat()
        let version = stat(configuration.rsnapshot.string, &status) == 0 ? FileVersion(status) : nil
        if configuration.configurationTest == .template, let version,
            accepted.withLock({ $0[template] }) == version
        {
            return
        }
        let arguments = ["-c", file.string, "configtest"]
        let result = try await attempt.run(
            ScriptInvocation(
                executable: configuration.rsnapshot, arguments: arguments, environment: configuration.baseEnvironment,
                timeLimit: .seconds(60), grace: .seconds(5)),
            code: .runtimeRequirementNotSatisfied, hint: "apt install rsnapshot")
        if let complaint = result.complaint {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, result.cause == .timeLimit ? .retryable : .permanent,
                reason: "\(configuration.rsnapshot) \(arguments.joined(separator: " ")) \(complaint): "
                    + result.outputTail.split(separator: "\n").filter { !$0.allSatisfy { "-".contains($0) } }
                    .joined(separator: " "),
                hint: "correct \(configuration.template)", output: result.outputTail)
        }
        accepted.withLock { $0[template] = version }
    }
}
