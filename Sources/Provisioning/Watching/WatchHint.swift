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
    /// It belongs to the pending set, or did a moment ago; with what was seen of it, by which an echo of an own write is
    /// told.
    case look(AccountKey, Sighting)
    /// It has left the pending set: done, failed, renamed away or removed.
    case left(EntryUUID)
}

/// What a watcher saw of an entry.
public struct Sighting: Hashable, Sendable {
    /// The change that it was seen after; nil where nobody saw the entry, or the directory does not give it.
    public var csn: AttributeValue?
    /// How the entry stood.
    public var stand: Stand?

    /// The part of an entry that this program writes, as it stands between two writes.
    public struct Stand: Hashable, Sendable {
        var mode: String
        var state: String
        var returnValue: String?
        var claim: String?
    }

    /// Nobody has seen it.
    public static let none = Sighting()
    private init() {}

    /// What an entry shows, as far as these attributes were asked for.
    init(_ entry: Entry, names: AttributeNames) {
        csn = entry[AttributeNames.entryCSN].first
        guard let mode = entry.text(names.mode), let state = entry.text(names.state) else { return }
        stand = Stand(
            mode: mode, state: state, returnValue: names.returnValue.flatMap { entry.text($0) },
            claim: names.claim.flatMap { entry.text($0) })
    }

    /// The attributes that a sighting is made of.
    static func attributes(_ names: AttributeNames) -> [AttributeName] {
        [AttributeNames.entryCSN, names.mode, names.state] + [names.returnValue, names.claim].compactMap { $0 }
    }
}

extension EntryWrite {
    /// How the entry stands when this was written.
    var stand: Sighting.Stand {
        Sighting.Stand(mode: mode.description, state: state, returnValue: returnValue, claim: claim)
    }
}
