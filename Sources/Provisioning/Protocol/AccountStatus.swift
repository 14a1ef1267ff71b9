public import LDAP

/// What an entry says of its own provisioning, read but not judged.
public struct AccountStatus: Hashable, Sendable {
    /// The name that no rename changes.
    public var uuid: EntryUUID
    /// Where it stands.
    public var dn: DN
    /// The change sequence number that a claim asserts; opaque.
    public var csn: AttributeValue
    /// What is asked, and how far it has come.
    public var mode: ProvisioningMode
    /// `0` while something is to be done, else when it was done.
    public var state: String
    /// nil when there is none.
    public var date: String?
    /// nil when there is none.
    public var returnValue: String?
    /// Absent counts as inactive.
    public var isActive: Bool
    /// The hosts that the entry names.
    public var hosts: [String]
    /// Who holds it, where daemons share accounts.
    public var claim: String?

    /// - Returns: nil when the entry takes no part in provisioning: it lacks the mode or the state, or its mode is none
    ///   of the protocol's, or the server did not give its operational attributes.
    public init?(_ entry: Entry, names: AttributeNames) {
        guard let mode = entry.text(names.mode).flatMap(ProvisioningMode.init),
            let state = entry.text(names.state)?.spaceFolded,
            let uuid = entry.text(AttributeNames.entryUUID).flatMap({ EntryUUID(text: $0) }),
            let csn = entry[AttributeNames.entryCSN].first
        else { return nil }
        self.uuid = uuid
        dn = entry.dn
        self.csn = csn
        self.mode = mode
        self.state = state
        date = names.dates.lazy.compactMap { entry.text($0)?.spaceFolded }.first
        returnValue = names.returnValue.flatMap { entry.text($0)?.spaceFolded }
        isActive = entry[names.active].first?.folded == "true"
        hosts = entry[names.host].compactMap(\.text)
        claim = names.claim.flatMap { entry.text($0) }
    }

    /// Why an entry takes no part in provisioning, as half a sentence, and how to change that; to be asked where `init` gives nil.
    public static func absence(from entry: Entry, names: AttributeNames) -> (reason: String, hint: String) {
        let hidden = [AttributeNames.entryUUID, AttributeNames.entryCSN].filter { entry[$0].isEmpty }
        let missing = [names.mode, names.state].filter { entry[$0].isEmpty }
        let mode = entry[names.mode].first.map { $0.description.quotedValue } ?? ""
        if !missing.isEmpty {
            return (
                "it lacks \(missing.map(\.description).joined(separator: " and "))",
                "write \(names.mode): add and \(names.state): 0 to begin"
            )
        }
        if !hidden.isEmpty {
            return (
                "the LDAP server does not show its \(hidden.map(\.description).joined(separator: " and "))",
                AccountReader.hiddenHint
            )
        }
        let modes = ProvisioningMode.all.map(\.description).joined(separator: ", ")
        return ("its \(names.mode) is \(mode), which is none of \(modes)", "write one of these")
    }

    /// Where the account stands in the state machine.
    public var phase: AccountPhase {
        switch mode.stage {
        case .wish: state == "0" ? .wished : .idle
        case .claimed where state != "0": .idle
        case .claimed: returnValue == nil ? .claimed : .failed
        case .done: .done
        }
    }
}

/// An account as the directory had it when it was read, for a service's work besides provisioning.
public struct Account: Hashable, Sendable {
    /// What the entry says of its own provisioning.
    public let status: AccountStatus
    /// The entry, with the attributes that were asked for and those of the protocol.
    public let entry: Entry

    /// Which entry it is, whatever becomes of its name.
    public var key: AccountKey { status.key }

    /// An account as an entry describes it; to be read with ``AttributeNames/requested`` at least.
    /// - Returns: nil when the entry takes no part in provisioning.
    public init?(_ entry: Entry, names: AttributeNames) {
        guard let status = AccountStatus(entry, names: names) else { return nil }
        self.status = status
        self.entry = entry
    }
}

/// Who changed an entry last, and when, as the LDAP server recorded it (RFC 4512, section 3.4): before a claim that is who wrote the request, unless
/// somebody has changed the entry after that.
struct RequestOrigin: CustomStringConvertible {
    static let attributes: [AttributeName] = ["modifiersName", "modifyTimestamp"]

    /// `the request's entry was last changed by cn=selfcare,dc=example,dc=org at 20261129120000Z`
    let description: String

    init(_ entry: Entry) {
        let values = Self.attributes.map { entry[$0].first?.description }
        let name = values[0] ?? "somebody that the LDAP server does not name (access to modifiersName)"
        description = "the request's entry was last changed by \(name)" + (values[1].map { " at \($0)" } ?? "")
    }
}
