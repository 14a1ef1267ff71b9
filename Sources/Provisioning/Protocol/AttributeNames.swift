public import DirectoryModel

/// The names that the protocol's attributes have in this directory (settings, section `[Attributes]`).
public struct AttributeNames: Hashable, Sendable {
    /// What is asked, and how far it has come.
    public var mode: AttributeName = "sstProvisioningMode"
    /// `0`, or when it was done.
    public var state: AttributeName = "sstProvisioningState"
    /// Names under which the date is looked for; the first that the entry has counts.
    public var dates: [AttributeName] = ["sstProvisioningExecutionDate", "sstProvisioningDate"]
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

    /// What a decision reads from an entry.
    public var requested: [AttributeName] {
        [mode, state, active, host, Self.entryUUID, Self.entryCSN] + dates + [returnValue, claim].compactMap { $0 }
    }
}
