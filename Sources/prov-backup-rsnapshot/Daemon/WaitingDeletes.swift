import JobCore
import Provisioning

/// Deletes that wait because of MAX_DELETES_PER_HOUR, and what is said of them in the log, in mail, by `health`, `status` and `accounts explain`.
struct WaitingDeletes: Codable {
    let count: Int
    /// MAX_DELETES_PER_HOUR.
    let limit: Int
    /// When the next of them is carried out.
    let next: String
    /// entryUUIDs of the accounts, the next first; at most ``HourlyLimit/mostNamed``.
    let accounts: [String]

    /// - Returns: nil where none waits.
    init?(_ deletes: HourlyLimit.Summary) {
        guard let next = deletes.next else { return nil }
        (count, limit, accounts) = (deletes.count, deletes.limit, deletes.waiting)
        self.next = next.text
    }

    /// Why they wait, as half a sentence.
    var reason: String { "MAX_DELETES_PER_HOUR = \(limit) is reached; the next delete is at \(next)" }

    /// What to type if all of them are meant.
    static let hint =
        "if all deletes are meant, raise MAX_DELETES_PER_HOUR in [Service] and reload (systemctl reload prov-backup-rsnapshot)"
}
