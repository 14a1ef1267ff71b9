import EventLoop
package import LDAP
import JobCore
package import Provisioning
import SystemPackage

/// The accounts that LDAP lists for this daemon, to be compared with the rsnapshot configurations and the homes on this machine. Their uids are kept
/// as numbers, since there may be many.
package struct ListedAccounts: Sendable {
    private var listed: Set<UInt64> = []
    /// Active and provisioned, without a request that waits: these have a configuration.
    private var configured: Set<UInt64> = []
    /// A deletion takes away home and configuration one after the other.
    private var deleting: Set<UInt64> = []

    package init() {}

    /// - Parameter entry: with the uid and ``AttributeNames/requested``.
    package mutating func add(_ entry: Entry, names: AttributeNames) {
        guard let uid = entry.text(BackupAttribute.uid).flatMap(EntryReader.decimal) else { return }
        listed.insert(uid)
        guard let account = Account(entry, names: names) else { return }
        let status = account.status
        if status.mode.operation == .delete { deleting.insert(uid) }
        if SnapshotLevel.isProvisioned(account), status.isActive == true,
            status.phase != .requested, status.phase != .claimed
        {
            configured.insert(uid)
        }
    }

    /// Compares them with the disk; nothing is changed.
    /// - Throws: `CancellationError`.
    package func requirements(_ configuration: BackupConfiguration) async throws -> [Requirement] {
        try await BlockingWork.run(on: .walks) { isCancelled in
            let directory = configuration.configurationDirectory
            let files: Set<UInt64>
            do throws(HeldDirectory.Failure) {
                files = Set(try HeldDirectory(configured: directory).names().compactMap(Self.uid))
            } catch {
                return [.note(Self.subject, "\(directory) cannot be compared with LDAP: \(error)")]
            }
            var (homeless, unexamined) = (Examples(), Examples())
            var reason = ""
            for uid in files.subtracting(deleting).sorted() {
                if isCancelled() { throw CancellationError() }
                do throws(ProvisioningFailure) {
                    if try Self.lacksHome("\(uid)", configuration) { homeless.add(uid) }
                } catch {
                    unexamined.add(uid)
                    if reason.isEmpty { reason = error.reason }
                }
            }
            return findings(Examples(configured.subtracting(files)), homeless, Examples(files.subtracting(listed)))
                + (unexamined.count == 0
                    ? [] : [.note("homes", "it is unknown whether \(unexamined) \(unexamined.have) a home: \(reason)")])
        }
    }

    private func findings(_ unconfigured: Examples, _ homeless: Examples, _ unlisted: Examples) -> [Requirement] {
        var findings: [Requirement] = []
        if unconfigured.count > 0 {
            findings.append(
                .unmet(
                    Self.subject,
                    "\(unconfigured) \(unconfigured.have) no UID.conf although provisioned and active: no backups are made",
                    hint: """
                        write sstProvisioningMode: modify and sstProvisioningState: 0 into each entry; if this server was rebuilt, into those of \
                        all accounts
                        """))
        }
        if homeless.count > 0 {
            findings.append(
                .unmet(
                    "homes", "\(homeless) \(homeless.have) a UID.conf and no home",
                    hint: """
                        mount the volume if it is not mounted; else do what prov-backup-rsnapshot accounts explain UID says
                        """))
        }
        if unlisted.count > 0 {
            findings.append(
                .warning(
                    Self.subject,
                    "\(unlisted) \(unlisted.have) a UID.conf and no entry among those that LDAP lists for this daemon: no backups are made",
                    hint: """
                        check HOST, SERVICE_SUBTREE, SEARCH_FILTER and the access rules; if the entry was removed by mistake, add it again as it was; \
                        if the account is no longer kept here, remove its UID.conf
                        """))
        }
        if findings.isEmpty, !configured.isEmpty {
            findings.append(
                .met("homes", "provisioned and active accounts with UID.conf and home: \(configured.count)"))
        }
        return findings
    }

    private static let subject = "RSNAPSHOT_CONFIG_DIRECTORY"

    /// The account of a file `UID.conf`; nil for another name.
    private static func uid(_ name: FilePath.Component) -> UInt64? {
        guard name.extension == "conf", BackupAccount.isUID(name.stem) else { return nil }
        return EntryReader.decimal(name.stem)
    }

    /// Whether the home that the account's configuration names is missing. A home that the settings do not permit is reported by the backup.
    private static func lacksHome(
        _ uid: String, _ configuration: BackupConfiguration
    ) throws(ProvisioningFailure) -> Bool {
        guard let text = try ConfigurationFile(of: uid, configuration).current(),
            let named = ConfiguredSnapshots(parsing: text).home,
            let home = try? HomePath(parsing: named.string, uid: uid, places: configuration.places)
        else { return false }
        let walk = try HomeWalk(to: home)
        guard walk.directory != nil else { return true }
        return try walk.isVacant()
    }
}

/// The number of accounts, and the first of them: `2 accounts (3724300, 3724301)`.
private struct Examples: CustomStringConvertible {
    private(set) var count = 0
    private var first: [UInt64] = []

    init(_ uids: Set<UInt64> = []) {
        count = uids.count
        first = Array(uids.sorted().prefix(Self.most))
    }

    /// In ascending order.
    mutating func add(_ uid: UInt64) {
        count += 1
        if first.count < Self.most { first.append(uid) }
    }

    private static let most = 3

    var have: String { count == 1 ? "has" : "have" }

    var description: String {
        "\(count) \(count == 1 ? "account" : "accounts") (\(first.map(String.init).joined(separator: ", "))\(count > first.count ? ", …" : ""))"
    }
}
