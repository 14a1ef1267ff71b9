import LDAP
import JobCore
import Provisioning

/// What a backup leaves in the account's entry.
struct BackupRecord: Sendable {
    /// Bytes that all snapshots take on the disk; nil: left as it is.
    var size: UInt64?
    /// Bytes that the newest snapshot takes besides what it shares with older ones; nil: left as it is.
    var increment: UInt64?
    /// When this host's last copy was made; nil: left as it is.
    var lastSuccess: (host: String, time: Timestamp)?

    /// What ``lastSuccess`` left in an entry for a host; nil: nothing.
    static func lastSuccess(in entry: Entry, host: String) -> Timestamp? {
        // caseIgnoreMatch: a host's name in other letters is the same host.
        let prefix = host.lowercased() + ":"
        return entry[BackupAttribute.lastSuccess].compactMap { value in
            guard let text = value.text, text.lowercased().hasPrefix(prefix) else { return nil }
            return Timestamp(text: String(text.dropFirst(prefix.count)))
        }.max()
    }

    static let attributes = [BackupAttribute.size, BackupAttribute.increment, BackupAttribute.lastSuccess]

    /// What is to be changed in the entry as it stands; nothing when it is all there.
    ///
    /// Sizes are this daemon's own and replaced. The times of other hosts stay: only values of this host, and `0` for "never", are
    /// taken away one by one.
    func modifications(of entry: Entry) -> [Modification] {
        var modifications = [(BackupAttribute.size, size), (BackupAttribute.increment, increment)]
            .compactMap { name, bytes in bytes.map { (name, [AttributeValue("\($0)")]) } }
            .filter { name, values in entry[name] != values }
            .map { name, values in Modification(.replace, name, values) }
        guard let lastSuccess else { return modifications }
        let name = BackupAttribute.lastSuccess
        let new = "\(lastSuccess.host):\(lastSuccess.time.text)"
        // caseIgnoreMatch: a host's name in other letters is the same host.
        let prefix = lastSuccess.host.lowercased() + ":"
        func isNew(_ value: AttributeValue) -> Bool { value.text?.lowercased() == new.lowercased() }
        let old = entry[name].filter { value in
            guard let text = value.text?.lowercased() else { return false }
            return (text == "0" || text.hasPrefix(prefix)) && !isNew(value)
        }
        if !old.isEmpty { modifications.append(Modification(.delete, name, old)) }
        if !entry[name].contains(where: isNew) { modifications.append(.add(name, AttributeValue(new))) }
        return modifications
    }
}
