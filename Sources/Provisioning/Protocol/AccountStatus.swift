package import JobCore
public import LDAP

/// The provisioning attributes of an entry.
public struct AccountStatus: Hashable, Sendable {
    /// Does not change when the entry is renamed.
    public var uuid: EntryUUID
    /// The entry's DN.
    public var dn: DN
    /// The change sequence number that a claim asserts; opaque.
    public var csn: AttributeValue
    /// The operation and its progress.
    public var mode: ProvisioningMode
    /// `0` until the request is done, then the time.
    public var state: String
    /// The date from which the request is due; nil when there is none.
    public var date: String?
    /// The code of the last attempt; nil when there is none.
    public var returnValue: String?
    /// Whether the account is in use; nil: the attribute is missing, is not visible to the daemon, or is neither `TRUE` nor `FALSE`.
    public var isActive: Bool?
    /// The hosts that the entry names.
    public var hosts: [String]
    /// The holder of the claim, where daemons share accounts.
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
        isActive =
            switch entry[names.active].map(\.folded) {
            case ["true"]: true
            case ["false"]: false
            default: nil
            }
        hosts = entry[names.host].compactMap(\.text)
        claim = names.claim.flatMap { entry.text($0) }
    }

    /// Whether an entry has mode and state, and they are no request, no claim and no outcome. Nothing is done for it, and it may have been meant as a
    /// request.
    public static func isInvalid(_ entry: Entry, names: AttributeNames) -> Bool {
        guard let text = entry[names.mode].first, let state = entry[names.state].first else { return false }
        guard let mode = text.text.flatMap(ProvisioningMode.init) else { return true }
        return mode.stage != .done && state.text?.spaceFolded != "0"
    }

    /// Why an entry takes no part in provisioning, as half a sentence, and how to change that; to be asked where `init` gives nil.
    public static func absence(from entry: Entry, names: AttributeNames) -> (reason: String, hint: String) {
        let hidden = AccountEntries.hiddenAttributes(of: entry)
        let missing = [names.mode, names.state].filter { entry[$0].isEmpty }
        let mode = entry[names.mode].first.map { $0.description.quotedValue } ?? ""
        if !missing.isEmpty {
            let attributes = missing.map(\.description).joined(separator: " and ")
            guard missing.count == 2 else {
                return (
                    "its \(attributes) is missing or not visible to the daemon",
                    "run: prov-backup-rsnapshot check; if the entry has no \(attributes), write its request again"
                )
            }
            return (
                "its \(attributes) are missing or not visible to the daemon",
                "run: prov-backup-rsnapshot check; if the entry has none, write \(names.mode): add and \(names.state): 0 to begin"
            )
        }
        if !hidden.isEmpty {
            return (
                "the LDAP server does not show its \(hidden.map(\.description).joined(separator: " and "))",
                AccountEntries.hiddenHint
            )
        }
        let modes = ProvisioningMode.all.map(\.description).joined(separator: ", ")
        return ("its \(names.mode) is \(mode), which is none of \(modes)", "write one of these")
    }

    /// The status after its failed request was written again.
    package var requestedAgain: Self {
        var status = self
        (status.mode, status.returnValue) = (ProvisioningMode(mode.operation, .requested), nil)
        return status
    }

    /// The phase of the state machine.
    public var phase: AccountPhase {
        switch mode.stage {
        case .requested: state == "0" ? .requested : .idle
        case .claimed where state != "0": .idle
        case .claimed: returnValue == nil ? .claimed : .failed
        case .done: .done
        }
    }
}

/// An account as it was read, for a service's other jobs.
public struct Account: Hashable, Sendable {
    /// The provisioning attributes.
    public internal(set) var status: AccountStatus
    /// The entry, with the attributes that were asked for and those of the protocol.
    public package(set) var entry: Entry

    /// The identity of the entry.
    public var key: AccountKey { status.key }

    /// - Parameter entry: read with ``AttributeNames/requested`` at least.
    /// - Returns: nil when the entry takes no part in provisioning.
    public init?(_ entry: Entry, names: AttributeNames) {
        guard let status = AccountStatus(entry, names: names) else { return nil }
        self.status = status
        self.entry = entry
    }
}

extension Entry {
    /// The attributes of ``lastChange`` (RFC 4512, section 3.4).
    static let changeAttributes: [AttributeName] = ["modifiersName", "modifyTimestamp"]

    /// Who changed the entry last, and when, according to the LDAP server: before the claim this is the author of the request, unless the entry
    /// was changed after it. `the request's entry was last changed by cn=selfcare,dc=example,dc=org at 20261129120000Z`
    var lastChange: String {
        let values = Self.changeAttributes.map { self[$0].first?.description }
        let name = values[0] ?? "a user that the LDAP server does not show (access to modifiersName)"
        return "the request's entry was last changed by \(name)" + (values[1].map { " at \($0)" } ?? "")
    }
}

/// The names of the protocol's attributes (settings, section `[Attributes]`).
public struct AttributeNames: Hashable, Sendable {
    /// The operation and its progress.
    public var mode: AttributeName = "sstProvisioningMode"
    /// `0`, or when it was done.
    public var state: AttributeName = "sstProvisioningState"
    /// The date from which a request is due.
    public var date: AttributeName = "sstProvisioningExecutionDate"
    /// The code of the last attempt; nil: entries have no such attribute, and failures are only logged.
    public var returnValue: AttributeName? = "sstProvisioningReturnValue"
    /// Whether the account is in use.
    public var active: AttributeName = "sstIsActive"
    /// Which backup server holds the account.
    public var host: AttributeName = "host"
    /// The holder of the claim; nil: daemons do not share accounts.
    public var claim: AttributeName?

    /// The names of the published schema.
    public init() {}

    static let entryUUID: AttributeName = "entryUUID"
    static let entryCSN: AttributeName = "entryCSN"

    /// The attributes that may hold the date; the first that the entry has counts.
    public var dates: [AttributeName] { [date] + ["sstProvisioningDate"].filter { $0 != date } }

    /// The attributes that a decision needs.
    public var requested: [AttributeName] {
        [mode, state, active, host, Self.entryUUID, Self.entryCSN] + dates + [returnValue, claim].compactMap { $0 }
    }
}

extension AttributeNames: SettingsSection {
    package static let section = SectionName("Attributes")
    package static let meaning = "The names of the attributes through which the daemon and other programs talk."
    package static let keys: [Setting<Self>] = [
        Setting("MODE", \.mode, .attribute, meaning: "What is requested or was done: add, adding, added and so on."),
        Setting(
            "STATE", \.state, .attribute,
            meaning: "0 while there is something to do, afterwards the time at which it was done."),
        Setting(
            "DATE", \.date, .attribute,
            meaning: """
                The day on which a request is due, 0 for at once. The name sstProvisioningDate is understood as well.
                """),
        Setting(
            "RETURN_VALUE", \.returnValue, orEmpty: .attribute,
            meaning: "The return value, 0 for success. Empty: no code is written."),
        Setting("ACTIVE", \.active, .attribute, meaning: "Whether the account is in use."),
        Setting("HOST", \.host, .attribute, meaning: "The backup server that the account belongs to."),
        Setting(
            "CLAIM", \.claim, orEmpty: .attribute, restart: true,
            meaning: "Where daemons that share accounts write who works on one. Empty: they share none."),
    ]
}
