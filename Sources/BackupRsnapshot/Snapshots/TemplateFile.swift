import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage

/// The file of the template, which is read and taken apart anew only where it has changed.
///
/// Diagnostics: code 7, class configuration, or shortage where the machine lacks what reading takes, with the file, and the line where one is at fault.
final class TemplateFile: Sendable {
    let path: FilePath
    private let restlessTime: Duration
    private let kept = Mutex<(version: FileVersion, template: RsnapshotTemplate)?>(nil)

    /// - Parameter restlessTime: how long after a change nothing is kept, see `FileVersion`.
    init(_ path: FilePath, restlessTime: Duration = .seconds(2)) {
        self.path = path
        self.restlessTime = restlessTime
    }

    /// The template as it is now. Waits for the file system.
    func template() throws(ProvisioningFailure) -> RsnapshotTemplate {
        if access(path.string, F_OK) == 0 {
            try FileTrust.demand(
                path, as: .file, setting: "RSNAPSHOT_TEMPLATE", code: .cannotCreateRsnapshotConfiguration)
        }
        do {
            var status = stat()
            if stat(path.string, &status) == 0, let kept = kept.withLock({ $0 }), kept.version == FileVersion(status) {
                return kept.template
            }
            let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
            return try file.closeAfter {
                guard fstat(file.rawValue, &status) == 0 else { throw Errno(rawValue: errno) }
                let version = FileVersion(status)
                let template = try RsnapshotTemplate(parsing: SmallFile.text(of: file), source: path.string)
                let isSettled = version.isSettled(for: restlessTime)
                kept.withLock { $0 = isSettled ? (version, template) : nil }
                return template
            }
        } catch let error as RsnapshotTemplate.Invalid {
            throw Self.failure("\(error.source):\(error.line): \(error.reason)", error.cure)
        } catch let error as Errno where error.isShortage {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, .shortage, reason: "the template \(path) cannot be read: \(error)",
                cure: error.shortageHint(at: path.removingLastComponent()))
        } catch {
            throw Self.failure(
                "the template \(path) cannot be read: \(error)", "put it there, or correct RSNAPSHOT_TEMPLATE")
        }
    }

    private static func failure(_ reason: String, _ cure: String) -> ProvisioningFailure {
        ProvisioningFailure(.cannotCreateRsnapshotConfiguration, .configuration, reason: reason, cure: cure)
    }
}
