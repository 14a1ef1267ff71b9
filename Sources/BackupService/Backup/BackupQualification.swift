package import LDAP
import Provisioning

/// Which accounts get a backup of a level, as far as their entries tell: those in use that have been added and are not being deleted, and
/// that keep snapshots of the level.
///
/// A request `modify` does not hold a backup back: it may wait for its day for weeks. That nothing is backed up while it is provisioned is for
/// the queue, which runs one job for each account.
struct BackupQualification {
    let level: SnapshotLevel

    /// Which of this daemon's accounts are worth reading for it.
    var filter: Filter {
        let interval = BackupAttribute.interval(level)
        return .and([.present(interval), .not(.equal(interval, "0"))])
    }

    /// The levels that an account qualifies for, the most frequent first. Most accounts of a server are asked in each of its runs, so no text is made.
    static func levels(of account: Account) -> [SnapshotLevel] {
        guard obstacle(of: account) == nil else { return [] }
        return SnapshotLevel.allCases.filter { Self(level: $0).count(in: account) > 0 }
    }

    /// nil when the account qualifies.
    func objection(to account: Account) -> BackupRefusal? {
        func refuse(_ reason: String, _ hint: String) -> BackupRefusal {
            BackupRefusal(
                account: account.entry.text(BackupAttribute.uid) ?? "", dn: account.key.dn, reason: reason, hint: hint)
        }
        let mode = account.status.mode
        switch Self.obstacle(of: account) {
        case .deleted: return refuse("it has been deleted", "add it again if it is still wanted")
        case .toBeDeleted:
            return refuse("it is to be deleted (\(mode))", "write another request if it is still wanted")
        case .notAdded:
            return refuse("it has not been added yet (\(mode))", "see accounts explain, and wait until it is added")
        case .inactive: return refuse("it is not active", "set its \(BackupAttribute.isActive) to TRUE")
        case nil: break
        }
        guard count(in: account) == 0 else { return nil }
        let name = BackupAttribute.interval(level)
        let text = account.entry.text(name).map { "is \(EntryReader.quote($0))" } ?? "is missing"
        return refuse(
            "it keeps no \(level) snapshots: \(name) \(text)",
            "write how many are to be kept into \(name), and request modify")
    }

    /// What keeps an account from backups of any level.
    private enum Obstacle { case deleted, toBeDeleted, notAdded, inactive }

    private static func obstacle(of account: Account) -> Obstacle? {
        let mode = account.status.mode
        return switch (mode.operation, mode.stage) {
        case (.delete, .done): .deleted
        case (.delete, _): .toBeDeleted
        case (.add, .wish), (.add, .claimed): .notAdded
        case (.add, .done), (.modify, _): account.status.isActive ? nil : .inactive
        }
    }

    /// How many snapshots of the level the entry asks for; 0 also where it says something else.
    private func count(in account: Account) -> UInt64 {
        account.entry.text(BackupAttribute.interval(level)).flatMap(EntryReader.decimal) ?? 0
    }
}

/// Why an account gets no backup of a level: not a fault of the backup, but of what was asked for or of how the account stands.
package struct BackupRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// The account as it was named, or its uid.
    package var account: String
    /// The entry, where there is one.
    package var dn: DN?
    /// What stands in the way.
    package var reason: String
    /// What mends it.
    package var hint: String

    /// Account, reason and hint in one line.
    package var description: String { "\(dn.map { "\($0)" } ?? "account \(account)"): \(reason); \(hint)" }
}

/// Some of the accounts that were named get no backup, so none was asked for.
package struct BackupRefusals: Error, Hashable, Sendable, CustomStringConvertible {
    /// One for each of these accounts, in the order in which they were named.
    package var refusals: [BackupRefusal]

    /// One line for each.
    package var description: String { refusals.map(\.description).joined(separator: "\n") }
}
