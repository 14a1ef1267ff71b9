import JobCore
import Provisioning

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
