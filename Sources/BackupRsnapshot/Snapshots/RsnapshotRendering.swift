import Provisioning
import SystemPackage

/// The text of an account's rsnapshot configuration, made from the template and held against the strict rules.
struct RsnapshotRendering: Hashable, Sendable {
    let text: String
    /// The text of the template that it was made from.
    let template: String

    /// - Throws: code 7, class configuration, when the template is at fault.
    init(account: BackupAccount, home: HomePath, rsync: FilePath, configuration: BackupConfiguration)
        throws(ProvisioningFailure)
    {
        template = try Self.read(configuration.template)
        do {
            let parsed = try RsnapshotTemplate(parsing: template, source: configuration.template.string)
            text = parsed.render(retention: account.retention) { placeholder in
                switch placeholder {
                case .uid: account.uid
                case .uidNumber: String(account.uidNumber)
                case .gidNumber: String(account.gidNumber)
                case .home: home.path.string
                case .snapshotRoot: home.snapshots.string
                case .rsync: rsync.string
                case .lockFile: configuration.lockDirectory.appending("rsnapshot-\(account.uid).pid").string
                case .retain: ""
                }
            }
            _ = try RsnapshotConfiguration(
                parsing: text, allowed: parsed.directives, account: home.accountDirectory)
        } catch let error as RsnapshotTemplate.Invalid {
            throw Self.failure("\(error.source):\(error.line): \(error.reason)", error.cure)
        } catch let error as RsnapshotConfiguration.Invalid {
            throw Self.failure(
                "the file made from \(configuration.template) is wrong in line \(error.line): \(error.reason)",
                error.cure)
        } catch {
            throw Self.failure("\(error)", "report this as a fault")
        }
    }

    private static func read(_ path: FilePath) throws(ProvisioningFailure) -> String {
        do {
            return try SmallFile.text(at: path)
        } catch {
            throw failure(
                "the template \(path) cannot be read: \(error)", "put it there, or correct RSNAPSHOT_TEMPLATE")
        }
    }

    private static func failure(_ reason: String, _ cure: String) -> ProvisioningFailure {
        ProvisioningFailure(.cannotCreateRsnapshotConfiguration, .configuration, reason: reason, cure: cure)
    }
}
