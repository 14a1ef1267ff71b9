import LDAP

/// Where accounts that wait or are worked on were last seen. A great many can wait, so each takes little: the names below the base, or the
/// whole DN behind a comma. A DN is a tree of values, ten times as large.
struct AccountPlaces: Sendable {
    private var places: [EntryUUID: String] = [:]
    /// It only saves memory, so that it stays the same when the watched base changes.
    private let base: DN

    /// - Parameter base: the entry below which most accounts are.
    init(base: DN) { self.base = base }

    /// An account was seen here.
    mutating func note(_ key: AccountKey) { places[key.uuid] = text(key.dn) }

    /// An account, with where it was last seen; nil when it is not known.
    func key(of uuid: EntryUUID) -> AccountKey? { places[uuid].map { AccountKey(uuid: uuid, dn: dn($0)) } }

    /// Nothing is to be known of an account any more.
    mutating func forget(_ uuid: EntryUUID) {
        places[uuid] = nil
        // Removing leaves the memory taken.
        if places.isEmpty { places = [:] }
    }

    private func text(_ dn: DN) -> String {
        guard dn.isDescendant(of: base) else { return ",\(dn)" }
        return dn.rdns.dropLast(base.rdns.count).map(\.description).joined(separator: ",")
    }

    private func dn(_ text: String) -> DN {
        do {
            guard text.hasPrefix(",") else { return DN(rdns: try DN(parsing: text).rdns + base.rdns) }
            return try DN(parsing: String(text.dropFirst()))
        } catch {
            // A DN can read what it has written; and an account that is not where it is looked for is found by its entryUUID.
            return base
        }
    }
}
