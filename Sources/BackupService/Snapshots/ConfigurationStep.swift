import EventLoop
import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage

/// Brings the account's rsnapshot configuration to what the entry says; a file whose content would not change is not touched.
struct ConfigurationStep: ProvisioningStep {
    let file: ConfigurationFile
    let rendering: RsnapshotRendering
    let configuration: BackupConfiguration
    let tester: ConfigurationTester
    let name = "rsnapshot configuration"
    /// The text that stood there when the plan was made; nil where there was none.
    private let planned: String?
    /// There was nothing to do when the plan was made, and no step before this one can have changed that.
    private let isDone: Bool

    /// - Parameter isFirst: whether the step is the plan's first. What the plan has seen is then what there is.
    init(
        file: ConfigurationFile, rendering: RsnapshotRendering, configuration: BackupConfiguration,
        tester: ConfigurationTester, isFirst: Bool
    ) throws(ProvisioningFailure) {
        self.file = file
        self.rendering = rendering
        self.configuration = configuration
        self.tester = tester
        planned = try file.current()
        guard isFirst, planned == rendering.text else {
            isDone = false
            return
        }
        isDone = try !file.hasTemporary()
    }

    var preview: String {
        planned == rendering.text
            ? "unchanged: \(file.path)"
            : "write \(file.path) (0640)\n" + LineDifference.text(from: planned, to: rendering.text)
    }

    func perform(in attempt: RunningAttempt) async throws {
        if isDone { return }
        let (file, text) = (file, rendering.text)
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
                file.temporaryPath, template: rendering.template, configuration: configuration, in: attempt)
        } catch {
            try await BlockingWork.run { _ in try file.removeTemporary() }
            throw error
        }
        try await BlockingWork.run { _ in try file.putTemporaryInPlace() }
    }
}

/// Takes the account's rsnapshot configuration away, so that no more snapshots are made.
struct ConfigurationRemovalStep: ProvisioningStep {
    let file: ConfigurationFile
    let name = "rsnapshot configuration"

    var preview: String { "remove \(file.path)" }

    func perform(in attempt: RunningAttempt) async throws {
        let file = file
        try await BlockingWork.run { _ in try file.remove() }
    }
}

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
            code: .runtimeRequirementNotSatisfied, hint: "apt install rsnapshot")
        if let complaint = result.complaint {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, result.cause == .timeLimit ? .retryable : .permanent,
                reason: "\(configuration.rsnapshot) \(arguments.joined(separator: " ")) \(complaint): "
                    + result.outputTail.split(separator: "\n").filter { !$0.allSatisfy { "-".contains($0) } }
                    .joined(separator: " "),
                hint: "correct \(configuration.template)", output: result.outputTail)
        }
        if let pair { accepted.withLock { _ = $0.insert(pair) } }
    }

    private static func pair(_ template: String, _ rsnapshot: FilePath) -> Pair? {
        var status = stat()
        guard stat(rsnapshot.string, &status) == 0 else { return nil }
        return Pair(template: template, rsnapshot: FileVersion(status))
    }
}

/// The difference of two texts, line by line, as a dry run shows it.
enum LineDifference {
    /// Every line with `-` (only before), `+` (only after) or a blank (kept); equal texts give the empty string.
    static func text(from old: String?, to new: String) -> String {
        guard old != new else { return "" }
        let before = lines(old ?? "")
        let after = lines(new)
        let difference = after.difference(from: before)
        let removed = Set(difference.removals.map(\.offset))
        let inserted = Set(difference.insertions.map(\.offset))

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

extension CollectionDifference.Change {
    fileprivate var offset: Int {
        switch self {
        case .insert(let offset, _, _), .remove(let offset, _, _): offset
        }
    }
}
