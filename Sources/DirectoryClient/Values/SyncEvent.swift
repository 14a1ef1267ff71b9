public import DirectoryModel

/// One thing that a content synchronization tells, in the order of the server.
public enum SyncEvent: Hashable, Sendable {
    /// Why an entry was sent.
    public enum Change: Hashable, Sendable {
        /// It is there; new to the content, or sent for the first time. The same entry may come twice.
        case add
        /// It was there before and has changed; a rename shows as another DN under the same UUID.
        case modify
    }

    /// An entry that belongs to the content, as it is now.
    case entry(Entry, EntryUUID, Change)
    /// An entry that belongs to the content and has not changed since the cookie.
    case present(EntryUUID)
    /// An entry that no longer belongs to the content: deleted, moved away, or not matching any more. The three cannot be told apart.
    case deleted(EntryUUID)
    /// Many at once: entries that are gone, or that are unchanged.
    case identifiers([EntryUUID], deleted: Bool)
    /// A part of the refresh has ended that named what is there (`deletes` false: what was not named is gone, unless the refresh began with
    /// a cookie and more parts follow) or what is gone (`deletes` true). Mind it only with a cookie.
    case phaseDone(deletes: Bool)
    /// The present state has been told whole. What follows are changes as they happen.
    case refreshDone
    /// From here a later synchronization can go on, once everything told so far has been dealt with.
    case cookie([UInt8])
}
