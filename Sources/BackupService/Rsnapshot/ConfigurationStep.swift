import EventLoop
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// Updates the account's rsnapshot configuration; a file with the right text is not touched.
struct ConfigurationStep: ProvisioningStep {
    let file: ConfigurationFile
    let text: String
    let configuration: BackupConfiguration
    private let template: RsnapshotTemplate
    private let templateFile: TemplateFile
    let name = "rsnapshot configuration"
    /// The text as of the plan; nil: there was none.
    private let planned: String?
    /// Whether there was nothing to do as of the plan, and no earlier step can have changed that.
    private let isDone: Bool

    /// - Parameters:
    ///   - text: made from the template.
    ///   - isFirst: whether the step is the plan's first, so that nothing changes between plan and step.
    init(
        file: ConfigurationFile, text: String, template: RsnapshotTemplate, of templateFile: TemplateFile,
        configuration: BackupConfiguration, isFirst: Bool
    ) throws(ProvisioningFailure) {
        (self.file, self.text, self.configuration) = (file, text, configuration)
        (self.template, self.templateFile) = (template, templateFile)
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
            try await templateFile.test(file.temporaryPath, of: template, configuration, in: attempt)
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
        let difference = lines(new).difference(from: before)
        var marked = before.map { " " + $0 }
        for case .remove(let offset, let line, _) in difference.removals { marked[offset] = "-" + line }
        // In the order of their places in the new text, which has no removed lines.
        for case .insert(let offset, let line, _) in difference.insertions {
            var (place, kept) = (0, 0)
            while place < marked.count, kept < offset || marked[place].hasPrefix("-") {
                if !marked[place].hasPrefix("-") { kept += 1 }
                place += 1
            }
            marked.insert("+" + line, at: place)
        }
        return marked.joined(separator: "\n")
    }

    private static func lines(_ text: String) -> [String] {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        return lines
    }
}
