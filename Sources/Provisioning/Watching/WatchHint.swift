public import DirectoryModel

/// Which entry is meant, whatever becomes of its name.
public struct AccountKey: Hashable, Sendable {
    /// The name that no rename changes.
    public var uuid: EntryUUID
    /// Where it was last seen.
    public var dn: DN

    /// An entry by both its names.
    public init(uuid: EntryUUID, dn: DN) {
        self.uuid = uuid
        self.dn = dn
    }
}

/// A reason to look at an entry; what is to be done is read from the entry itself.
public enum WatchHint: Hashable, Sendable {
    /// It belongs to the pending set, or did a moment ago; with the entryCSN that was seen.
    /// - `isChange`: it has just been changed, which an own write may have done. One that was listed is never taken for that: what it waits for may
    ///   have been lost.
    case look(AccountKey, csn: AttributeValue?, isChange: Bool)
    /// It has left the pending set: done, failed, renamed away or removed.
    case left(EntryUUID)
}
