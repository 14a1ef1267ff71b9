import Provisioning
import SystemPackage

/// The text of an account's rsnapshot configuration, made from the template and held against the strict rules.
struct RsnapshotRendering: Hashable, Sendable {
    let text: String
    /// The text of the template that it was made from.
    let template: String

    /// - Parameter template: that of the configuration, as it is now.
    /// - Throws: code 7, class configuration, when the template is at fault.
    init(
        _ template: RsnapshotTemplate, account: BackupAccount, home: HomePath, rsync: FilePath,
        configuration: BackupConfiguration
    ) throws(ProvisioningFailure) {
        self.template = template.text
        let root = configuration.snapshots == .own ? home.snapshots : home.store
        func value(_ placeholder: RsnapshotTemplate.Placeholder) -> String {
            switch placeholder {
            case .uid: account.uid
            case .uidNumber: String(account.uidNumber)
            case .gidNumber: String(account.gidNumber)
            case .home: home.path.string
            case .snapshotRoot: root.string
            case .rsync: rsync.string
            case .lockFile: configuration.lockDirectory.appending("rsnapshot-\(account.uid).pid").string
            case .retain: ""
            }
        }
        do throws(RsnapshotConfiguration.Invalid) {
            text = template.render(retention: account.retention, values: value)
            _ = try RsnapshotConfiguration(
                parsing: text, allowed: template.directives, account: home.accountDirectory, store: home.store,
                values: value)
        } catch {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, .configuration,
                reason:
                    "the file made from \(configuration.template) is wrong in line \(error.line): \(error.reason)",
                cure: error.cure)
        }
    }
}
