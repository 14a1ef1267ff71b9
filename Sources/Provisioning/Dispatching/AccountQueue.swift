import DirectoryModel
import JobCore

/// The accounts that are to be looked at, at their time; a great many may wait, so of each there is only what its turn needs: who it is and where it was.
///
/// When more are due than the bound says, it is full: whoever brings another is to wait. Those whose day has not come do not count, for nothing that is
/// done would make room for others.
struct AccountQueue: Sendable {
    private var queue = JobQueue<EntryUUID>()
    /// Where each was last seen: the names below the base, or the whole behind a comma. A DN is a tree of values, ten times as large.
    private var places: [EntryUUID: String] = [:]
    /// It only saves memory, so that it stays what it was when the watched base changes.
    private let base: DN
    private let limit: Int

    /// - Parameters:
    ///   - base: below which most accounts stand.
    ///   - limit: from so many due ones on it is full.
    init(base: DN, limit: Int) {
        self.base = base
        self.limit = limit
    }

    /// Accounts that wait, due or not.
    var waitingCount: Int { queue.waitingCount }
    /// No further account is to be brought.
    var isFull: Bool { queue.dueCount >= limit }
    /// It is no longer full, and not by one account only: whoever is called at each end of a job gets little done. Nor by too many, for the
    /// server keeps what it reads from as long as its search is held up.
    var hasRoomAgain: Bool { queue.dueCount <= limit - min(limit / 8, 1_000) - 1 }

    /// An account is to be looked at now, and was seen here.
    mutating func offer(_ key: AccountKey, priority: Int) {
        places[key.uuid] = text(key.dn)
        queue.offer(key.uuid, due: .distantPast, priority: priority)
    }

    /// An account is to be looked at now if it waits.
    mutating func hasten(_ uuid: EntryUUID) {
        if queue.isWaiting(uuid) { queue.offer(uuid, due: .distantPast) }
    }

    /// See ``JobQueue/start(now:priority:)``.
    mutating func start(now: WallTime, priority: Int) -> EntryUUID? { queue.start(now: now, priority: priority) }

    /// See ``JobQueue/forgetOffers(of:)``.
    mutating func forgetOffers(of uuid: EntryUUID) { queue.forgetOffers(of: uuid) }

    /// See ``JobQueue/finish(_:again:ignoringOffers:)``. An account that does not wait any more is forgotten.
    mutating func finish(_ uuid: EntryUUID, again: WallTime?, ignoringOffers: Bool) -> WallTime? {
        let due = queue.finish(uuid, again: again, ignoringOffers: ignoringOffers)
        guard due == nil else { return due }
        places[uuid] = nil
        // Removing leaves the memory taken.
        if places.isEmpty { places = [:] }
        return nil
    }

    /// See ``JobQueue/clockWasSet(back:)``.
    mutating func clockWasSet(back duration: Duration) { queue.clockWasSet(back: duration) }

    /// When the next of those that are not due yet becomes so.
    mutating func nextDue() -> WallTime? { queue.nextDue() }

    /// An account of the queue, with where it was last seen; nil when it is not there.
    func key(of uuid: EntryUUID) -> AccountKey? { places[uuid].map { AccountKey(uuid: uuid, dn: dn($0)) } }

    private func text(_ dn: DN) -> String {
        guard dn.isDescendant(of: base) else { return ",\(dn)" }
        return dn.rdns.dropLast(base.rdns.count).map(\.description).joined(separator: ",")
    }

    private func dn(_ text: String) -> DN {
        do {
            guard text.hasPrefix(",") else { return DN(rdns: try DN(parsing: text).rdns + base.rdns) }
            return try DN(parsing: String(text.dropFirst()))
        } catch {
            // What a DN has written it reads; and an account that is not where it is looked for is found by its entryUUID.
            return base
        }
    }
}
