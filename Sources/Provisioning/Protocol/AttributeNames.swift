public import LDAP
package import JobCore

/// The names that the protocol's attributes have in this directory (settings, section `[Attributes]`).
public struct AttributeNames: Hashable, Sendable {
    /// What is asked, and how far it has come.
    public var mode: AttributeName = "sstProvisioningMode"
    /// `0`, or when it was done.
    public var state: AttributeName = "sstProvisioningState"
    /// The day from which a request counts.
    public var date: AttributeName = "sstProvisioningExecutionDate"
    /// nil: the directory has no place for it, and failures stand in the log alone.
    public var returnValue: AttributeName? = "sstProvisioningReturnValue"
    /// Whether the account is in use.
    public var active: AttributeName = "sstIsActive"
    /// Which backup server holds the account.
    public var host: AttributeName = "host"
    /// nil: daemons do not share accounts.
    public var claim: AttributeName?

    /// The names of the published schema.
    public init() {}

    static let entryUUID: AttributeName = "entryUUID"
    static let entryCSN: AttributeName = "entryCSN"

    /// Names under which the date is looked for; the first that the entry has counts.
    public var dates: [AttributeName] { [date] + ["sstProvisioningDate"].filter { $0 != date } }

    /// What a decision reads from an entry.
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
            "CLAIM", \.claim, orEmpty: .attribute,
            meaning: "Where daemons that share accounts write who works on one. Empty: they share none."),
    ]
}
