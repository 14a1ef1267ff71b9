public import DirectoryModel

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
